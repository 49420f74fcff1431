"""The poses found in one image: what `PoseModel.predict` returns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Pose(NamedTuple):
    """One person: `keypoints` (K, 2) in pixels, `scores` (K,) and `box` (4,) as [x, y, width, height]."""

    keypoints: np.ndarray
    scores: np.ndarray
    box: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Poses:
    """The poses of N persons with K joints each, in the pixels of their image.

    The length is N; iteration and indexing give one `Pose` per person:

        for keypoints, scores, box in model.predict(image, boxes): ...

    Attributes:
        keypoints: (N, K, 2) x and y of each joint in pixels; the center of the first pixel is (0, 0).
        scores: (N, K) probability that each joint is right; the peak of its heatmap, which may exceed 1, if the network
            is not calibrated.
        boxes: (N, 4) the boxes [x, y, width, height] that the persons were found in, in pixels.
        names: Names of the K joints.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, person: int) -> Pose:
        return Pose(self.keypoints[person], self.scores[person], self.boxes[person])

    def __iter__(self) -> Iterator[Pose]:
        return (self[person] for person in range(len(self)))

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.2f}" for score in self.scores.mean(axis=1)[:5]) if len(self) else "none"
        more = ", …" if len(self) > 5 else ""
        return f"Poses({len(self)} persons, {len(self.names)} joints each; mean scores: {scores}{more})"
