"""Positions in images whose EXIF orientation asks viewers to rotate or mirror them.

Images are used as they are stored, but labeling tools in a browser and YOLO refer to the upright image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semipose.data.images import image_header

Box = tuple[float, float, float, float]

TO_STORED = {
    1: (False, (False, False)),
    2: (False, (True, False)),
    3: (False, (True, True)),
    4: (False, (False, True)),
    5: (True, (False, False)),
    6: (True, (False, True)),
    7: (True, (True, True)),
    8: (True, (True, False)),
}
"""For each EXIF orientation whether x and y of the upright image are swapped, and which is then mirrored."""


@dataclass(frozen=True)
class Orientation:
    """How the upright image follows from the stored one, which is `size` (width, height) pixels.

    Reference: CIPA DC-008 (Exif 2.32), tag Orientation.
    """

    size: tuple[int, int]
    exif: int = 1

    @classmethod
    def of(cls, path: Path) -> "Orientation | None":
        """Returns size and orientation of an image file, without decoding it; None if they can't be read."""
        header = image_header(path)
        return header and cls(*header)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return self.size[::-1] if TO_STORED[self.exif][0] else self.size

    def to_stored(self, points: np.ndarray) -> np.ndarray:
        """Returns positions (N, 2) in the upright image as those in the stored one, in pixels from its edge."""
        swapped, mirrored = TO_STORED[self.exif]
        points = points[:, ::-1] if swapped else points
        return np.where(mirrored, self.size - points, points)

    def to_upright(self, points: np.ndarray) -> np.ndarray:
        """Returns positions (N, 2) in the stored image as those in the upright one, in pixels from its edge."""
        swapped, mirrored = TO_STORED[self.exif]
        points = np.where(mirrored, self.size - points, points)
        return points[:, ::-1] if swapped else points

    def box_to_stored(self, box: Box) -> Box:
        """Returns a box [x, y, width, height] in the upright image as that in the stored one."""
        return box if self.exif == 1 else _extent(self.to_stored(_corners(box)))

    def box_to_upright(self, box: Box) -> Box:
        """Returns a box [x, y, width, height] in the stored image as that in the upright one."""
        return box if self.exif == 1 else _extent(self.to_upright(_corners(box)))


def _corners(box: Box) -> np.ndarray:
    x, y, width, height = box
    return np.array([(x, y), (x + width, y + height)], float)


def _extent(corners: np.ndarray) -> Box:
    (x, y), (width, height) = corners.min(axis=0).tolist(), np.ptp(corners, axis=0).tolist()
    return x, y, width, height
