"""Sheets: images in rows under column titles, for a page and as one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap

import numpy as np

from semipose.inference.draw import fit_image
from semipose.inference.legend import add_legend
from semipose.utils.extras import import_extra

TILE = 260
"""Side of an image of a sheet in pixels."""
LEGEND_FONT = 13
"""Font size of the legend of a sheet in pixels."""


@dataclass(frozen=True, eq=False)
class Tile:
    """An image (H, W, 3) uint8 RGB of a sheet and the text below it."""

    image: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class SheetRow:
    """The images of a row, one for each column, and the text above them."""

    label: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Sheet:
    """Images in rows under column titles.

    Attributes:
        title: Heading.
        text: What the images show.
        columns: Title of each column.
        rows: The images.
        legend: The RGB color of each joint that is drawn in its own color.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[SheetRow]
    legend: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


def sheet_image(sheet: Sheet, *, tile: int = TILE, most_columns: int = 10) -> np.ndarray:
    """Returns a sheet as one picture (H, W, 3) uint8 RGB; a sheet of many rows is folded into groups side by side.

    Args:
        sheet: The sheet.
        tile: Side of an image in pixels.
        most_columns: Largest number of images side by side in a folded sheet.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    columns, gap, head, label, caption = len(sheet.columns), 8, 26, 24, 34
    across = max(1, min(most_columns // columns, len(sheet.rows) // 3))
    lines = -(-len(sheet.rows) // across)
    step, group = label + tile + caption, columns * (tile + gap) + 2 * gap
    canvas = np.full((head + lines * step + gap, across * group, 3), 255, np.uint8)
    texts: list[tuple[float, float, str, str]] = []
    for number, row in enumerate(sheet.rows):
        left, top = number // lines * group + gap, head + number % lines * step
        texts.append((left, top + label - 5, row.label, "row"))
        for column, found in enumerate(row.tiles):
            x, y = left + column * (tile + gap), top + label
            canvas[y : y + tile, x : x + tile] = fit_image(found.image, tile)
            texts.append((x + tile / 2, y + tile + 3, "\n".join(wrap(found.caption, tile // 6)), "caption"))
            if number % lines == 0:
                texts.append((x + tile / 2, head - 6, sheet.columns[column], "column"))
    drawn = _with_texts(canvas, texts)
    return add_legend(drawn, list(sheet.legend), LEGEND_FONT) if sheet.legend else drawn


def _with_texts(canvas: np.ndarray, texts: Sequence[tuple[float, float, str, str]]) -> np.ndarray:
    """Returns the canvas with texts at positions in pixels, in matplotlib's fonts."""
    figures = import_extra("matplotlib.figure", "reports", "writing reports")
    agg = import_extra("matplotlib.backends.backend_agg", "reports", "writing reports")
    styles = {
        "row": {"ha": "left", "va": "baseline", "fontsize": 9, "weight": "bold"},
        "column": {"ha": "center", "va": "baseline", "fontsize": 10},
        "caption": {"ha": "center", "va": "top", "fontsize": 8, "color": "#5d6675"},
    }
    height, width = canvas.shape[:2]
    figure = figures.Figure(figsize=(width / 100, height / 100), dpi=100)
    drawing = agg.FigureCanvasAgg(figure)
    figure.figimage(canvas)
    for x, y, text, style in texts:
        figure.text(x / width, 1 - y / height, text, parse_math=False, **styles[style])
    drawing.draw()
    return np.ascontiguousarray(np.asarray(drawing.buffer_rgba())[:height, :width, :3])
