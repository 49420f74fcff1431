"""Sheets as one picture: every image is in its place, rows are folded."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from semipose.errors import ConfigError
from semipose.inference.legend import joint_colors
from semipose.reports.sheets import Sheet, SheetRow, Tile, sheet_image


def color(number):
    return 10 + number, 200 - number, 0


def colored(rows, columns):
    """A sheet of plain tiles, each with its own color."""
    found = []
    for row in range(rows):
        images = [np.full((20, 20, 3), color(row * columns + n), np.uint8) for n in range(columns)]
        found.append(SheetRow(f"row {row}", [Tile(image, "a caption") for image in images]))
    return Sheet("T", "text", [f"column {n}" for n in range(columns)], found)


@pytest.mark.parametrize(("rows", "columns", "across"), [(2, 3, 1), (17, 3, 3), (17, 5, 2), (6, 12, 1), (1, 2, 1)])
def test_every_image_is_in_its_place(rows, columns, across):
    image = sheet_image(colored(rows, columns), tile=40)
    lines = -(-rows // across)
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        left = row // lines * (columns * 48 + 16) + 8 + column * 48
        top = 26 + row % lines * (40 + 58) + 24
        seen = (image == color(number)).all(axis=-1)
        assert seen.sum() == seen[top : top + 40, left : left + 40].sum() == 1600
    assert image.shape[1] == across * (columns * 48 + 16)


def test_texts_are_written():
    image = sheet_image(colored(1, 1), tile=100)
    assert (image[:50, :100].min(axis=-1) < 100).any()  # title and label
    assert (image[155:, :].min(axis=-1) < 200).any()  # caption


def test_the_legend_is_beside_the_images():
    sheet = colored(1, 1)
    assert sheet_image(replace(sheet, legend=joint_colors(["nose"]))).shape[1] > sheet_image(sheet).shape[1]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"semipose\[reports\]"):
        sheet_image(colored(1, 1))
