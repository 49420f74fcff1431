"""Scores of a predicted video that need no labels: movement, jumps, low scores, and exchanged left and right joints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton

LOW_SCORE = 0.2
"""Joints with a lower peak of the heatmap count as not found; peaks, because calibrations differ between networks."""
JUMP = 0.2
"""A joint jumps if it moves by more than this part of the pose's size from one frame to the next."""


@dataclass(frozen=True)
class VideoScores:
    """How plausible the poses of a video are.

    Shares are of 1 and None where there is nothing to count. Jumps and swaps count pairs of neighboring frames that
    have one pose each, because poses are not tracked; they depend on the frame rate, so compare them on one video only.

    Attributes:
        frames: Number of frames with a pose.
        movement: Median distance in pixels that a joint moves from a frame to the next.
        jumps: Share of joints that move by more than a fifth of the pose's size from a frame to the next.
        swaps: Share of left/right pairs that would move less than half as far if their names were exchanged.
        low_scores: Share of joints with a heatmap peak below 0.2.
    """

    frames: int
    movement: float | None
    jumps: float | None
    swaps: float | None
    low_scores: float | None

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores by name, ready for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Returns the scores in one line."""
        texts = [
            f"joints that jump {self.jumps:.2%}" if self.jumps is not None else "",
            f"with a low score {self.low_scores:.1%}" if self.low_scores is not None else "",
            f"left and right exchanged {self.swaps:.2%}" if self.swaps is not None else "",
            f"median movement {self.movement:.1f} px a frame" if self.movement is not None else "",
        ]
        return f"{self.frames} frames: " + (", ".join(filter(None, texts)) or "no pose")


def video_scores(predictions: Sequence[Prediction], skeleton: Skeleton) -> VideoScores:
    """Returns the scores of the predictions for a video, whose image ids are frame numbers.

    The size of the pose is the median diagonal of the extent of its joints. Joints whose score is always 0 have not
    been learned and do not count.
    """
    if not predictions:
        return VideoScores(0, None, None, None, None)
    scores = np.array([p.scores for p in predictions])
    learned = np.asarray(scores.any(axis=0))
    joints, frames = np.array([p.joints for p in predictions]), np.array([int(p.image_id) for p in predictions])
    low = float((scores[:, learned] < LOW_SCORE).mean()) if learned.any() else None
    number, first, count = np.unique(frames, return_index=True, return_counts=True)
    single = np.flatnonzero(count == 1)
    pairs = single[np.flatnonzero((np.diff(single) == 1) & (np.diff(number[single]) == 1))]
    if not len(pairs) or not learned.any():
        return VideoScores(len(number), None, None, None, low)
    before, after = joints[first[pairs]], joints[first[pairs + 1]]
    extent = joints[:, learned].max(axis=1) - joints[:, learned].min(axis=1)
    size = float(np.median(np.linalg.norm(extent, axis=1)))
    steps = np.asarray(np.linalg.norm(after - before, axis=2))
    return VideoScores(
        len(number),
        float(np.median(steps[:, learned])),
        float((steps[:, learned] > JUMP * size).mean()),
        _swaps(before, after, [(a, b) for a, b in skeleton.flip_pairs if learned[a] and learned[b]], JUMP * size),
        low,
    )


def _swaps(before: np.ndarray, after: np.ndarray, pairs: Sequence[tuple[int, int]], least: float) -> float | None:
    """The share of pairs that are exchanged between frames; a pair nearer than `least` to each other is not."""
    if not pairs:
        return None
    left, right = np.array(pairs).T

    def moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distances = [np.linalg.norm(x, axis=2) for x in (after[:, a] - before[:, left], after[:, b] - before[:, right])]
        return np.sum(distances, axis=0)  # type: ignore[no-any-return]

    apart = np.linalg.norm(before[:, left] - before[:, right], axis=2) > least
    return float((apart & (moved(right, left) < moved(left, right) / 2)).mean())
