"""Colors of joints, the legend that names them, and names beside joints."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

JOINT_COLORS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (165, 45, 255), (0, 255, 120), (255, 0, 90), (150, 135, 255), (0, 255, 255), (195, 255, 180), (225, 30, 180),
    (240, 165, 135), (120, 120, 15), (135, 195, 60), (0, 255, 195), (195, 180, 240), (135, 210, 195), (150, 165, 120),
    (150, 105, 75), (0, 135, 135), (225, 255, 0),
)  # fmt: skip
"""RGB colors of joints, which repeat after the last.

The first seven are those of Okabe and Ito (Color Universal Design, 2008). Each of the others is far from all before it,
for normal and for red-green blind eyes.
"""

_DARK, _LIGHT = (28, 28, 28), (240, 240, 240)


def joint_color(index: int) -> tuple[int, int, int]:
    """Returns the RGB color of the joint at a position of the skeleton."""
    return JOINT_COLORS[index % len(JOINT_COLORS)]


def joint_colors(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Returns the RGB color of each joint by its name."""
    return {name: joint_color(k) for k, name in enumerate(names)}


def add_legend(image: np.ndarray, names: Sequence[str], largest: int = 28) -> np.ndarray:
    """Returns the image with a strip at its right that has the name and the color of each joint.

    Args:
        image: (H, W, 3) uint8 RGB, which the strip does not cover.
        names: Names of the joints in the order of the skeleton.
        largest: Largest font size in pixels; below it the font is a 32nd of the height, and at least 11.
    """
    return np.concatenate([image, _legend(tuple(names), image.shape[0], largest)], axis=1)


def write_beside(canvas: np.ndarray, text: str, point: np.ndarray, gap: float) -> None:
    """Writes a text to the right of a point (x, y) of the canvas (H, W, 3) uint8 RGB, else to its left.

    Args:
        canvas: The image, which is changed.
        text: The text.
        point: Position in pixels; a text that does not fit is cut at the border.
        gap: Distance from the point in pixels.
    """
    height, width = canvas.shape[:2]
    letters = _letters(text, int(np.clip(height / 40, 11, 24)))
    x = point[0] + gap
    if x + letters.shape[1] > width:
        x = point[0] - gap - letters.shape[1]
    x, y = np.clip([x, point[1] - letters.shape[0] / 2], -1e4, 1e5)
    around = cv2.dilate(letters, np.ones((3, 3)))
    for strength, color in ((around, _DARK), (letters, _LIGHT)):
        _blend(canvas, strength, color, round(float(x)), round(float(y)))


@lru_cache(maxsize=16)
def _legend(names: tuple[str, ...], height: int, largest: int) -> np.ndarray:
    """The strip (height, W, 3) uint8, of as many columns as its height needs."""
    size = int(np.clip(height / 32, 11, largest))
    line = round(1.5 * size)
    rows = max(1, (height - size // 2) // line)
    columns = []
    for first in range(0, len(names), rows):
        letters = [_letters(name, size) for name in names[first : first + rows]]
        column = np.full((height, max(text.shape[1] for text in letters) + 2 * line, 3), _DARK, np.uint8)
        for row, text in enumerate(letters):
            middle = size // 2 + row * line + line // 2
            cv2.circle(column, (line // 2 + 2, middle), max(3, size // 3), joint_color(first + row), -1, cv2.LINE_AA)
            _blend(column, text, _LIGHT, line + 2, middle - text.shape[0] // 2)
        columns.append(column)
    return np.concatenate(columns, axis=1)


@lru_cache(maxsize=512)
def _letters(text: str, size: int) -> np.ndarray:
    """The strength (H, W) float32, from 0 to 1, of a text in a font size in pixels."""
    text = " ".join(text.split())
    font = ImageFont.load_default(size)
    left, top, right, bottom = map(int, font.getbbox(text))
    mask = Image.new("L", (right - min(0, left) + 2, max(bottom - min(0, top), round(1.3 * size))))
    ImageDraw.Draw(mask).text((-min(0, left), -min(0, top)), text, fill=255, font=font)
    return np.asarray(mask, np.float32) / 255


def _blend(canvas: np.ndarray, strength: np.ndarray, color: tuple[int, int, int], x: int, y: int) -> None:
    """Paints a color in a strength (h, w) from 0 to 1, with the upper left corner at (x, y); changes the canvas."""
    top, left = max(0, y), max(0, x)
    part = canvas[top : max(0, y + strength.shape[0]), left : max(0, x + strength.shape[1])]
    weight = strength[top - y :, left - x :][: part.shape[0], : part.shape[1], None]
    part[:] = np.round(part * (1 - weight) + np.array(color) * weight)
