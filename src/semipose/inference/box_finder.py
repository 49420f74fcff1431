"""The box network of a run: predicts coarse joints in whole images, and the box around them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from semipose.data.crops import CropGeometry, Crops, LazyCrops
from semipose.data.found_boxes import MARGIN
from semipose.inference.predictor import FrameCrops, Predictor
from semipose.structures.boxes import BoxFacts
from semipose.structures.instances import PoseDataset
from semipose.utils.progress import NO_PROGRESS, Progress

CONFIDENT = 0.5
"""Joints with this share of the highest score of their pose, or more, make its box."""


@dataclass(frozen=True)
class BoxFinder:
    """Finds the box of the one subject in each image.

    Attributes:
        predictor: The box network.
        geometry: How an image becomes its input.
        limits: The boxes of the training, whose sizes relative to the image bound those that are found.
    """

    predictor: Predictor
    geometry: CropGeometry
    limits: BoxFacts

    def in_images(self, persons: PoseDataset, progress: Progress = NO_PROGRESS) -> PoseDataset:
        """Returns persons, whose boxes are whole images, with found boxes.

        The box of an image that can't be read means nothing; reading the image again reports it.
        """
        return self._find(LazyCrops(persons, self.geometry, failed={}), progress)

    def in_frame(self, frame: np.ndarray, persons: PoseDataset) -> PoseDataset:
        """Returns persons in an image (H, W, 3) uint8 RGB in memory with found boxes, likewise."""
        return self._find(FrameCrops(frame, persons, self.geometry), NO_PROGRESS)

    def _find(self, crops: Crops, progress: Progress) -> PoseDataset:
        device = next(self.predictor.networks[0].parameters()).device
        predictions = replace(self.predictor, device=device).predict(crops, progress)
        boxes = [box_of_pose(p.joints, p.scores, p.box[2:], self.limits) for p in predictions]
        return crops.dataset.with_boxes(np.round(np.array(boxes, dtype=float).reshape(-1, 4), 2))


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
