"""Example images: which persons they show, and what they show of them."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.config import load_config
from semipose.data.datasets import load_splits, read_dataset
from semipose.data.images import read_image
from semipose.reports.examples import error_sheets, errors_by_person, name_of, part_around, view_sheets
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.structures.skeletons import infer_skeleton


@pytest.fixture(scope="module")
def truth():
    return read_dataset("people", None, "val").subset(range(6))


def test_errors_are_sorted(truth):
    predictions = ground_truth_as_predictions(truth)
    predictions[2].joints[:] += 50
    errors = errors_by_person(truth, predictions)
    assert errors[0][1] == 2
    assert [error for error, _ in errors[1:]] == [0] * (len(errors) - 1)


def test_sheets_show_the_largest_the_median_and_the_smallest_errors(truth):
    predictions = ground_truth_as_predictions(truth)
    for index, prediction in enumerate(predictions):
        prediction.joints[:] += (30 * index, 40 * index)
    order = [index for _, index in errors_by_person(truth, predictions)]
    worst, others = error_sheets(truth, predictions, each=2)
    expected = [f"{truth[i].image.name}: {50 * i:.1f} px" for i in order]
    assert [row.label for row in worst.rows] == expected[:2]
    assert [row.label for row in others.rows] == [expected[3], expected[-1]]
    assert all(max(tile.image.shape[:2]) >= 240 for row in worst.rows for tile in row.tiles)
    assert list(worst.legend) == list(truth.skeleton.joints)
    assert worst.rows[0].tiles[1].caption.endswith(f", {50 * order[0]:.1f} px")


def test_a_small_animal_fills_its_picture(truth):
    """The picture shows the joints, not the whole box; a joint is where the part of the image has it."""
    person = truth[0]
    corner = person.joints.mean(axis=0).round()
    joints = corner + np.array([[0, 0], [20, 10]])
    part = part_around(person, [joints])
    (x, _), (u, v) = part.points(joints)
    assert max(part.image.shape[:2]) == 360
    assert u - x > 120
    assert 0 < x < u < part.image.shape[1]
    image = read_image(person.image)
    column, row = joints[1] - part.corner
    assert ((u + 0.5) / part.scale - 0.5, (v + 0.5) / part.scale - 0.5) == (pytest.approx(column), pytest.approx(row))
    original = image[int(joints[1][1]), int(joints[1][0])].astype(int)
    assert np.abs(part.image[round(v), round(u)].astype(int) - original).max() < 25


@pytest.mark.parametrize("joints", [[[-900.0, -900]], [[5000, 5000.0]], [[3.0, 3.0]], []])
def test_joints_outside_of_the_image_leave_a_picture(truth, joints):
    part = part_around(truth[0], [np.array(joints).reshape(-1, 2)])
    assert min(part.image.shape[:2]) > 100


def test_errors_are_in_pixels_where_no_person_has_a_torso(truth):
    face = truth.to_skeleton(infer_skeleton(["nose", "left_eye", "right_eye"]))
    face = face.subset(range(len(face))).trainable()
    predictions = ground_truth_as_predictions(face)
    for index, prediction in enumerate(predictions):
        prediction.joints[:] += (3 * index, 4 * index)
    order = errors_by_person(face, predictions)
    assert [error for error, _ in order] == pytest.approx([5 * n for n in reversed(range(len(face)))])
    titles = [row.label for sheet in error_sheets(face, predictions, each=1) for row in sheet.rows]
    assert titles[-1] == f"{face[0].image.name}: 0.0 px"


def test_persons_without_prediction_are_left_out(truth):
    assert error_sheets(truth, [None] * len(truth)) == []


def test_persons_of_one_image_have_their_id(truth):
    first = replace(truth[0], annotation_id=7)
    several = PoseDataset(truth.skeleton, [first, truth[0], truth[1]], "several")
    assert name_of(several, first) == f"{first.image.name}, id 7"
    assert name_of(several, truth[1]) == truth[1].image.name


@pytest.mark.parametrize(
    ("method", "columns"),
    [
        ("supervised", []),
        ("single", ["easy view", "hard view"]),
        ("multi_augs", ["easy view", "hard view 1", "hard view 2", "hard view 3", "hard view 4"]),
    ],
)
def test_easy_and_hard_views_stand_in_one_row(tiny_run, method, columns):
    config = load_config(None, {**tiny_run, "data.labels": 30, "method": method})
    sheets = view_sheets(config, load_splits(config.data), count=2)
    assert [sheet.columns for sheet in sheets] == ([columns] if columns else [])
    assert all(len(row.tiles) == len(columns) for sheet in sheets for row in sheet.rows)
    assert [len(sheet.rows) for sheet in sheets] == [2] * len(sheets)
