"""Crops: a person cut from its photograph with context for rotation and scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from semipose.data.images import read_image
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset

MEAN_COLOR = (124, 116, 104)
"""Fills what lies outside a photograph: ImageNet's mean, which normalization turns to zero."""


@dataclass(frozen=True)
class CropGeometry:
    """How a person box becomes a source crop and a source crop becomes network input.

    `input_size` (H, W) in pixels; the box, at the input's aspect ratio and grown by `padding`, fills the input. A crop
    shows `context` times that region at `oversample` times the input's resolution.
    """

    input_size: tuple[int, int]
    padding: float = 1.25
    context: float = 1.6
    oversample: float = 1.25

    @property
    def crop_size(self) -> tuple[int, int]:
        """(S, T) of a crop in pixels, even numbers."""
        factor = self.context * self.oversample / 2
        return 2 * round(self.input_size[0] * factor), 2 * round(self.input_size[1] * factor)

    @property
    def to_input(self) -> np.ndarray:
        """Crop pixels -> input pixels of the upright view, (3, 3); the same for every person."""
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
        """Image pixels -> crop pixels for a box [x, y, width, height], (3, 3) float64."""
        x, y, width, height = box
        scale = min(self.input_size[1] / width, self.input_size[0] / height) / self.padding * self.oversample
        rows, columns = self.crop_size
        center_x, center_y = x + (width - 1) / 2, y + (height - 1) / 2
        return np.array(
            [
                [scale, 0, (columns - 1) / 2 - scale * center_x],
                [0, scale, (rows - 1) / 2 - scale * center_y],
                [0, 0, 1],
            ]
        )


class Crops(Protocol):
    """Source crops of persons, by position."""

    geometry: CropGeometry
    dataset: PoseDataset

    def __len__(self) -> int:
        """Number of crops."""
        ...

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB."""
        ...


def cut(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The crop of `size` (S, T) that `matrix` (image -> crop pixels) shows; large people are averaged down first."""
    reduce = int(1 / matrix[0, 0]) if matrix[0, 0] < 0.5 else 1
    if reduce > 1:
        # Only the part that is seen is reduced; whole blocks of pixels, so that pixel centers stay exact.
        inverse = np.linalg.inv(matrix)
        left, top = np.floor(inverse[:2, 2] - reduce).astype(int).clip(0)
        right, bottom = np.ceil(inverse[:2, :2] @ (size[1], size[0]) + inverse[:2, 2] + reduce).astype(int)
        part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        rows, columns = part.shape[0] // reduce, part.shape[1] // reduce
        if rows and columns:
            part = np.ascontiguousarray(part[: rows * reduce, : columns * reduce])
            image = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
            grow = np.array(
                [[reduce, 0, left + (reduce - 1) / 2], [0, reduce, top + (reduce - 1) / 2], [0, 0, 1]], dtype=float
            )
            matrix = matrix @ grow
    return cv2.warpAffine(image, matrix[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=MEAN_COLOR)


class LazyCrops:
    """Crops cut on demand, for prediction; the last photograph stays in memory for its other persons.

    With `broken`, photographs that can't be read are noted there with the reason, and their crops show nothing.
    """

    def __init__(self, persons: PoseDataset, geometry: CropGeometry, broken: dict[Path, str] | None = None) -> None:
        self.dataset, self.geometry, self.broken = persons, geometry, broken
        self._read = lru_cache(maxsize=2)(read_image)

    def __len__(self) -> int:
        return len(self.dataset)

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB; DataError for an unreadable photograph."""
        person = self.dataset[index]
        try:
            image = self._read(person.image)
        except DataError as error:
            if self.broken is None:
                raise
            self.broken[person.image] = str(error)
            return np.full((*self.geometry.crop_size, 3), MEAN_COLOR, dtype=np.uint8)
        return cut(image, self.geometry.from_image(person.box), self.geometry.crop_size)


class CropSubset:
    """Those of `crops` at `indices`."""

    def __init__(self, crops: Crops, indices: Sequence[int]) -> None:
        self.dataset, self.geometry = crops.dataset.subset(indices), crops.geometry
        self._crops, self._indices = crops, indices

    def __len__(self) -> int:
        return len(self._indices)

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB."""
        return self._crops.crop(self._indices[index])


def crops_of_rank(crops: Crops, rank: int, world: int) -> Crops:
    """Every `world`-th of the crops from number `rank` on."""
    return crops if world == 1 else CropSubset(crops, range(rank, len(crops.dataset), world))
