"""The box network of a run: finds the boxes of the subjects in whole images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from semipose.data.crops import CropGeometry, Crops, LazyCrops
from semipose.data.found_boxes import MARGIN, in_whole_images, with_boxes_in_images
from semipose.inference.predictor import FrameCrops, Predictor
from semipose.structures.boxes import BoxFacts
from semipose.structures.instances import PoseDataset
from semipose.utils.progress import NO_PROGRESS, Progress

CONFIDENT = 0.5
"""Joints with this share of the highest score of their pose, or more, make its box."""
LOWEST_PEAK = 0.25
"""Lower peaks in the heatmap of centers are no subjects."""
NEAREST = 0.25
"""Of two peaks that are closer than this share of the side of a box, the lower one is no subject."""


@dataclass(frozen=True)
class BoxFinder(ABC):
    """Finds boxes in whole images.

    Attributes:
        predictor: The box network.
        geometry: How an image becomes its input.
        limits: The boxes of the training, whose sizes relative to the image bound those that are found.
    """

    predictor: Predictor
    geometry: CropGeometry
    limits: BoxFacts

    several: ClassVar[bool] = False
    """Whether an image may have several boxes, or none."""

    def in_images(self, persons: PoseDataset, progress: Progress = NO_PROGRESS) -> PoseDataset:
        """Returns persons, whose boxes are whole images, with found boxes."""
        images = in_whole_images(persons) if self.several else persons
        return self._with(images, self.boxes(images, progress))

    def in_frame(self, frame: np.ndarray, persons: PoseDataset) -> PoseDataset:
        """Returns persons in an image (H, W, 3) uint8 RGB in memory with found boxes, likewise."""
        return self._with(persons, self._find(FrameCrops(frame, persons, self.geometry), NO_PROGRESS))

    def boxes(self, persons: PoseDataset, progress: Progress = NO_PROGRESS) -> list[np.ndarray]:
        """Returns the boxes (n, 4) in each image, of which each person is one.

        The box of an image that can't be read means nothing; reading the image again reports it.
        """
        failed: dict[Path, str] = {}
        found = self._find(LazyCrops(persons, self.geometry, failed=failed), progress)
        unread = [Path(path) in failed for path in persons.instances.paths]
        return [persons.instances.boxes[n : n + 1] if unread[n] else boxes for n, boxes in enumerate(found)]

    def _with(self, persons: PoseDataset, boxes: Sequence[np.ndarray]) -> PoseDataset:
        if self.several:
            return with_boxes_in_images(persons, boxes)
        return persons.with_boxes(np.concatenate([np.zeros((0, 4)), *boxes]))

    def _find(self, crops: Crops, progress: Progress) -> list[np.ndarray]:
        device = next(self.predictor.networks[0].parameters()).device
        return self._in_crops(replace(self.predictor, device=device), crops, progress)

    @abstractmethod
    def _in_crops(self, predictor: Predictor, crops: Crops, progress: Progress) -> list[np.ndarray]:
        """Returns the boxes (n, 4) of each image."""


class SubjectFinder(BoxFinder):
    """Finds the box of the one subject in each image: around its coarse joints."""

    def _in_crops(self, predictor: Predictor, crops: Crops, progress: Progress) -> list[np.ndarray]:
        poses = predictor.predict(crops, progress)
        return [np.round([box_of_pose(p.joints, p.scores, p.box[2:], self.limits)], 2) for p in poses]


@dataclass(frozen=True)
class CenterFinder(BoxFinder):
    """Finds the boxes of the subjects in each image.

    A box is a square around a peak in the heatmap of the centers; its side is the median of the training, relative to
    the image. So do the top-down networks of SLEAP (Pereira et al., Nature Methods 2022).

    Attributes:
        most: Largest number of boxes in an image: as many as images of the training show.
    """

    several: ClassVar[bool] = True
    most: int

    def _in_crops(self, predictor: Predictor, crops: Crops, progress: Progress) -> list[np.ndarray]:
        points, peaks = predictor.local_maxima(crops, 4 * self.most, progress)
        sizes = crops.dataset.instances.boxes[:, 2:]
        sides = self.limits.size * sizes.max(axis=1)
        return [boxes_of_peaks(*found, self.most) for found in zip(points, peaks, sides.tolist(), strict=True)]


def boxes_of_peaks(points: np.ndarray, peaks: np.ndarray, side: float, most: int) -> np.ndarray:
    """Returns the boxes (n, 4) around the highest peaks, at most `most`.

    Args:
        points: (M, 2) in pixels.
        peaks: (M,) their heights, from high to low.
        side: Side of a box in pixels.
        most: Largest number of boxes.
    """
    chosen = list[np.ndarray]()
    for point, height in zip(points, peaks, strict=True):
        if height < LOWEST_PEAK or len(chosen) == most:
            break
        if all(np.linalg.norm(point - other) >= NEAREST * side for other in chosen):
            chosen.append(point)
    boxes = [(x - (side - 1) / 2, y - (side - 1) / 2, side, side) for x, y in chosen]
    return np.round(np.array(boxes, dtype=float).reshape(-1, 4), 2)


def box_of_pose(
    joints: np.ndarray, scores: np.ndarray, image_size: Sequence[float], limits: BoxFacts
) -> tuple[float, float, float, float]:
    """Returns the box around the confident joints of a pose, with the margin of the boxes around labels.

    Args:
        joints: (K, 2) in pixels.
        scores: (K,) in 0…1; joints with at least half of the highest score are confident.
        image_size: Width and height of the image.
        limits: Boxes that are smaller than 95 % of these relative to the image are enlarged about their center, and
            larger ones reduced: where joints are confused, their extent is not that of the subject.

    Returns:
        x, y, width and height in pixels.
    """
    confident = joints[scores >= CONFIDENT * scores.max()]
    low, high = confident.min(axis=0), confident.max(axis=0)
    extent = high - low
    sides = extent + 2 * (MARGIN * extent.max() + 1)
    size = float(sides.max() / max(image_size))
    sides = sides * np.clip(size, limits.low, limits.high) / size
    center = np.clip((low + high) / 2, 0, np.array(image_size) - 1)
    x, y = (center - sides / 2).tolist()
    width, height = sides.tolist()
    return x, y, width, height
