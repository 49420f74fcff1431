"""Crops: each person cut from its image, with enough context to rotate and scale the crop afterwards."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from semipose.data.images import read_image
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset

MEAN_COLOR = (124, 116, 104)
"""RGB of the area outside of an image: ImageNet's mean, which normalization maps to zero."""


@dataclass(frozen=True)
class CropGeometry:
    """The maps from a person box to a crop, and from a crop to the network input.

    Attributes:
        input_size: (H, W) of the network input in pixels.
        padding: The box, extended to the aspect ratio of the input and enlarged by this factor, fills the input.
        context: A crop shows this many times the region of the input, in each direction.
        oversample: A crop has this many times the resolution of the input.
    """

    input_size: tuple[int, int]
    padding: float = 1.25
    context: float = 1.6
    oversample: float = 1.25

    @property
    def crop_size(self) -> tuple[int, int]:
        """(S, T): height and width of a crop in pixels, even numbers."""
        factor = self.context * self.oversample / 2
        return 2 * round(self.input_size[0] * factor), 2 * round(self.input_size[1] * factor)

    @property
    def to_input(self) -> np.ndarray:
        """(3, 3) matrix from crop pixels to input pixels of the upright view; the same for every person."""
        (height, width), (rows, columns) = self.input_size, self.crop_size
        scale = 1 / self.oversample
        return np.array(
            [
                [scale, 0, (width - 1) / 2 - scale * (columns - 1) / 2],
                [0, scale, (height - 1) / 2 - scale * (rows - 1) / 2],
                [0, 0, 1],
            ]
        )

    def from_image(self, box: Sequence[float]) -> np.ndarray:
        """Returns the (3, 3) float64 matrix from image pixels to crop pixels, for a box [x, y, width, height]."""
        scale, offset = self.scales_and_offsets(np.array([box], np.float64))
        return np.array([[scale[0], 0, offset[0, 0]], [0, scale[0], offset[0, 1]], [0, 0, 1]])

    def scales_and_offsets(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns s (N,) and t (N, 2), float64, with which s p + t are the crop pixels of image pixels p.

        Args:
            boxes: N boxes [x, y, width, height] in image pixels.
        """
        sizes = np.array([self.input_size[1], self.input_size[0]]) / boxes[:, 2:]
        scales = sizes.min(axis=1) / self.padding * self.oversample
        centers = boxes[:, :2] + (boxes[:, 2:] - 1) / 2
        rows, columns = self.crop_size
        return scales, np.array([(columns - 1) / 2, (rows - 1) / 2]) - scales[:, None] * centers

    def area(self, box: Sequence[float]) -> float:
        """Returns the area of the network input of a box [x, y, width, height] in square pixels of the image."""
        rows, columns = self.input_size
        longer = max(box[2] / columns, box[3] / rows) * self.padding
        return rows * columns * longer * longer

    def cut(self, image: np.ndarray, box: Sequence[float]) -> np.ndarray:
        """Returns the crop of a box.

        Large persons are averaged down first, in whole blocks of pixels, so that pixel centers stay exact.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: [x, y, width, height] in image pixels.

        Returns:
            (S, T, 3) uint8 RGB; `MEAN_COLOR` outside of the image.
        """
        matrix, size = self.from_image(box), self.crop_size
        if matrix[0, 0] < 0.5:
            image, matrix = _reduced(image, matrix, size, int(1 / matrix[0, 0]))
        return cv2.warpAffine(image, matrix[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=MEAN_COLOR)


def _reduced(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, reduced by a whole factor, and the matrix from its pixels."""
    inverse = np.linalg.inv(matrix)
    left, top = (inverse[:2, 2] - factor).clip(0).astype(int)
    right, bottom = np.ceil(inverse[:2, :2] @ (size[1], size[0]) + inverse[:2, 2] + factor).astype(int)
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    rows, columns = part.shape[0] // factor, part.shape[1] // factor
    if not rows or not columns:
        return image, matrix
    part = np.ascontiguousarray(part[: rows * factor, : columns * factor])
    enlarge = np.array(
        [[factor, 0, left + (factor - 1) / 2], [0, factor, top + (factor - 1) / 2], [0, 0, 1]], dtype=float
    )
    return cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), matrix @ enlarge


class Crops(ABC):
    """The crops of the persons of a data set, by position."""

    def __init__(self, dataset: PoseDataset, geometry: CropGeometry) -> None:
        self.dataset, self.geometry = dataset, geometry

    def __len__(self) -> int:
        return len(self.dataset)

    @abstractmethod
    def crop(self, index: int) -> np.ndarray:
        """Returns the crop of a person, (S, T, 3) uint8 RGB."""


class LazyCrops(Crops):
    """Crops that are cut on demand; the latest images stay in memory for their other persons.

    Args:
        dataset: The persons.
        geometry: How they are cut.
        failed: Where it is given, an unreadable image is added to it with the reason, and its crops have the mean
            color; otherwise `crop` raises a DataError.
    """

    def __init__(self, dataset: PoseDataset, geometry: CropGeometry, failed: dict[Path, str] | None = None) -> None:
        super().__init__(dataset, geometry)
        self.failed = failed
        self._read = lru_cache(maxsize=2)(read_image)

    def crop(self, index: int) -> np.ndarray:
        """Returns the crop of a person, (S, T, 3) uint8 RGB."""
        person = self.dataset[index]
        try:
            image = self._read(person.image)
        except DataError as error:
            if self.failed is None:
                raise
            self.failed[person.image] = str(error)
            return np.full((*self.geometry.crop_size, 3), MEAN_COLOR, dtype=np.uint8)
        return self.geometry.cut(image, person.box)


class CropSubset(Crops):
    """The crops at some positions of others."""

    def __init__(self, crops: Crops, indices: Sequence[int]) -> None:
        super().__init__(crops.dataset.subset(indices), crops.geometry)
        self._crops, self._indices = crops, indices

    def crop(self, index: int) -> np.ndarray:
        """Returns the crop of a person, (S, T, 3) uint8 RGB."""
        return self._crops.crop(self._indices[index])


def crops_of_rank(crops: Crops, rank: int, world_size: int) -> Crops:
    """Returns the share of one of `world_size` processes: every `world_size`-th crop from number `rank` on."""
    return crops if world_size == 1 else CropSubset(crops, range(rank, len(crops.dataset), world_size))
