"""Legends: every joint has its color and its name, nothing of the image is covered, letters are beside their joint."""

import cv2
import numpy as np
import pytest

from semipose.inference.legend import JOINT_COLORS, add_legend, joint_color, write_beside
from semipose.structures.skeletons import COCO, UNION

GRAY = np.full((192, 160, 3), 128, np.uint8)


def lab(colors) -> np.ndarray:
    return cv2.cvtColor((np.asarray(colors, np.float32) / 255)[None], cv2.COLOR_RGB2LAB)[0]


def test_colors_differ_from_each_other_and_from_the_outline() -> None:
    """In CIELAB, where 2.3 is a just noticeable difference."""
    points = lab([*JOINT_COLORS, (20, 20, 20)])
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    assert len(JOINT_COLORS) >= len(UNION)
    assert distances[np.triu_indices(len(points), 1)].min() > 20
    assert joint_color(len(JOINT_COLORS)) == joint_color(0)


@pytest.mark.parametrize("names", [COCO.joints, ("snout",), ("ein_sehr_langer_Name " * 4, "Öhrchen", "尾巴")])
def test_a_legend_has_every_color_beside_the_image(names) -> None:
    drawn = add_legend(GRAY, names)
    assert (drawn[:, :160] == GRAY).all()
    strip = drawn[:, 160:].reshape(-1, 3)
    assert all((strip == joint_color(k)).all(axis=1).any() for k in range(len(names)))
    assert (strip.min(axis=1) > 220).any()  # letters


def test_a_low_image_has_a_legend_of_several_columns() -> None:
    low, high = add_legend(GRAY[:48], COCO.joints), add_legend(np.repeat(GRAY, 4, axis=0), COCO.joints)
    assert low.shape[0] == 48
    assert low.shape[1] > high.shape[1]


@pytest.mark.parametrize(("x", "side"), [(40, "right"), (150, "left")])
def test_a_name_is_right_of_its_point_or_left_where_it_does_not_fit(x, side) -> None:
    canvas = GRAY.copy()
    write_beside(canvas, "snout", np.array([x, 90.0]), gap=6)
    changed = np.argwhere((canvas != GRAY).any(axis=-1))
    assert abs(changed[:, 0].mean() - 90) < 4
    assert (changed[:, 1] > x + 4).all() if side == "right" else (changed[:, 1] < x - 4).all()


@pytest.mark.parametrize(
    ("point", "inside"), [((-500, 20), False), ((1e9, 20), False), ((80, -40), False), ((80, 191), True)]
)
def test_names_of_points_outside_of_the_image_are_not_written(point, inside) -> None:
    canvas = GRAY.copy()
    write_beside(canvas, "tail base", np.array(point, float), gap=6)
    assert canvas.shape == GRAY.shape
    assert (canvas != GRAY).any() == inside


def test_the_legend_of_a_tall_sheet_has_small_letters() -> None:
    tall = np.repeat(GRAY, 5, axis=0)
    assert add_legend(tall, COCO.joints, 13).shape[1] < add_legend(tall, COCO.joints).shape[1]
