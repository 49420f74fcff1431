"""The same persons under several runs: their errors and which joints are wrong, against a slow reference."""

import numpy as np
import pytest

from semipose.data.datasets import read_dataset
from semipose.metrics.pck import torso_diagonal
from semipose.reports.poses import compare_persons, pose_sheet
from semipose.reports.runs import CommonPersons
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.structures.skeletons import infer_skeleton


@pytest.fixture
def common():
    """Twelve persons under a run that is exact and one that errs more from person to person."""
    truth = read_dataset("people", None, "val").subset(range(12))
    exact, worse = ground_truth_as_predictions(truth), ground_truth_as_predictions(truth)
    for index, prediction in enumerate(worse):
        prediction.joints[:] += np.random.default_rng(index).normal(0, 1 + 2 * index, prediction.joints.shape)
    return CommonPersons(truth, {"exact": exact, "worse": worse}, [])


def test_errors_and_wrong_joints(common):
    for compared in compare_persons(common, 12):
        person, found = common.truth[compared.index], common.predictions["worse"][compared.index]
        torso = torso_diagonal(person, common.truth.skeleton)
        distances, wrong = [], []
        for k in range(17):
            (x, y), (u, v) = person.joints[k].astype(np.float64), found.joints[k]
            distance = ((x - u) ** 2 + (y - v) ** 2) ** 0.5
            labeled = person.visibility[k] > 0
            distances += [distance] if labeled else []
            wrong.append(bool(labeled and distance > 0.2 * torso))
        assert compared.errors["worse"] == pytest.approx(np.mean(distances) / torso)
        assert compared.wrong["worse"].tolist() == wrong
        assert compared.errors["exact"] == 0
        assert not compared.wrong["exact"].any()


def test_persons_are_spaced_evenly_from_the_smallest_to_the_largest_error(common):
    everyone = [c.index for c in compare_persons(common, 12)]
    errors = [c.errors["worse"] for c in compare_persons(common, 12)]
    assert errors == sorted(errors)
    assert [c.index for c in compare_persons(common, 4)] == [everyone[i] for i in (0, 4, 7, 11)]
    assert [c.index for c in compare_persons(common, 100)] == everyone


def test_without_torsos_errors_are_in_pixels(common):
    face = infer_skeleton(["nose", "left_eye", "right_eye"])
    truth = common.truth.to_skeleton(face).trainable()
    found = ground_truth_as_predictions(truth)
    for prediction in found:
        prediction.joints[:] += (3, 4)
    compared = compare_persons(CommonPersons(truth, {"f": found}, []), 2)
    assert [c.errors["f"] for c in compared] == pytest.approx([5, 5])
    assert not any(c.wrong["f"].any() for c in compared)
    sheet = pose_sheet(CommonPersons(truth, {"f": found}, []), 2)
    assert sheet.rows[0].tiles[1].caption == "error 5.00 px"


def test_the_sheet_shows_ground_truth_and_every_run(common):
    sheet = pose_sheet(common, 3)
    assert sheet.columns == ["ground truth", "exact", "worse"]
    assert len(sheet.rows) == 3
    for row in sheet.rows:
        assert len(row.tiles) == 3
        assert all(max(tile.image.shape[:2]) == 360 for tile in row.tiles)
        truth, exact, _ = row.tiles
        assert exact.caption == f"error 0.00 torso, 0 of {truth.caption.split()[0]} wrong"
    red = (sheet.rows[-1].tiles[2].image == (230, 40, 50)).all(axis=-1)
    assert red.any()  # rings around wrong joints


def test_without_persons(common):
    empty = CommonPersons(common.truth.subset([]), {"exact": [], "worse": []}, [])
    assert compare_persons(empty) == []
