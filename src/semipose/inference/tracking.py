"""Identity of the persons in a video: each pose is linked to the most similar one of the frames before."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import numpy as np

from semipose.metrics.oks import object_keypoint_similarity
from semipose.structures.instances import estimate_area
from semipose.structures.predictions import Prediction
from semipose.utils.text import plural

log = logging.getLogger(__name__)

MIN_OKS = 0.2
"""Poses of a lower OKS are not linked."""
MAX_GAP = 30
"""A person who is not seen for more frames than this is a new one."""


def describe_subjects(predictions: Sequence[Prediction], frames: int) -> str:
    """Returns in one line the number of tracks, the most subjects at once, and how many frames have how many.

    Args:
        predictions: The predictions of a video.
        frames: Number of its frames.
    """
    by_frame = Counter(prediction.image_id for prediction in predictions)
    counts = sorted(Counter(by_frame[frame] for frame in range(frames)).items())
    shares = ", ".join(f"{of} {'has' if of == 1 else 'have'} {plural(number, 'subject')}" for number, of in counts)
    tracks = {prediction.track for prediction in predictions} - {None}
    most = f"at most {max(by_frame.values(), default=0)} at once"
    return f"{plural(len(tracks), 'track') if tracks else 'not tracked'}, {most}; of {plural(frames, 'frame')} {shares}"


@dataclass
class Tracker:
    """Numbers the persons of a video from 1 on, frame by frame.

    The poses of a frame are assigned to the last poses of the persons seen so far so that the sum of their OKS is
    largest (the Hungarian algorithm), without pairs below `MIN_OKS`; the others are new persons. Without scipy nobody
    is numbered.

    Args:
        sigmas: OKS sigmas of the joints.

    Reference: the assignment of detections to tracks of Bewley et al., SORT, ICIP 2016, with OKS in place of the
    overlap of boxes, as in the flow-based tracking of Xiao et al., ECCV 2018, without flow.
    """

    sigmas: Sequence[float]
    _last: dict[int, Prediction] = field(default_factory=dict)
    _count: int = 0
    _enabled: bool = True

    def __post_init__(self) -> None:
        self._enabled = find_spec("scipy") is not None
        if not self._enabled:
            log.warning("persons are not tracked: this needs the package 'scipy'; pip install 'semipose[formats]'")

    def update(self, frame: int, found: Sequence[Prediction]) -> list[Prediction]:
        """Returns the predictions of the next frame with `track`, in their order."""
        if not self._enabled:
            return list(found)
        self._last = {t: p for t, p in self._last.items() if frame - int(p.image_id) <= MAX_GAP}
        numbers = self._assign(found)
        tracked = []
        for n, prediction in enumerate(found):
            if n not in numbers:
                self._count += 1
            track = numbers.get(n, self._count)
            tracked.append(replace(prediction, track=track))
        self._last |= {p.track: p for p in tracked if p.track is not None}
        return tracked

    def _assign(self, found: Sequence[Prediction]) -> dict[int, int]:
        """Returns the track of those of the poses that continue one."""
        from scipy.optimize import linear_sum_assignment

        if not self._last or not found:
            return {}
        tracks, before = list(self._last), list(self._last.values())
        joints = np.stack([p.joints for p in before])[:, None]
        areas = np.array([estimate_area(p.box) for p in before])[:, None]
        poses = np.stack([p.joints for p in found])[None]
        learned = np.stack([p.scores != 0 for p in before])[:, None]  # joints that were not learned are anywhere
        visible = np.where(learned.any(axis=-1, keepdims=True), learned, True).astype(float)
        similarity = object_keypoint_similarity(joints, visible, areas, poses, self.sigmas)
        rows, columns = linear_sum_assignment(np.where(similarity >= MIN_OKS, similarity, 0), maximize=True)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return {column: tracks[row] for row, column in pairs if similarity[row, column] >= MIN_OKS}
