"""Heatmaps by joint: their numbers against a slow reference, and which runs are compared."""

import numpy as np
import pytest
import torch

from semipose.augment.views import eval_view
from semipose.config import load_config
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import read_dataset
from semipose.data.loader import unlabeled_batch
from semipose.inference.draw import WHITE
from semipose.reports.heatmaps import (
    JointHeatmaps,
    enlargement,
    heatmap_sheet,
    joint_heatmaps,
    levels_pair,
    picture_of_input,
    run_heatmaps,
)
from semipose.reports.runs import ReportedRun, open_run


@pytest.fixture(scope="module")
def truth():
    return read_dataset("people", None, "val").subset(range(6))


def test_numbers_of_a_person(finished_run, truth):
    model = open_run(finished_run).network()
    found = joint_heatmaps(model, truth, 2)
    batch = unlabeled_batch(LazyCrops(truth, model.geometry), [2])
    with torch.no_grad():
        expected = model.network(eval_view(batch, model.geometry.input_size).images)[0, 0].numpy()
    assert np.allclose(found.heatmaps, expected, atol=1e-6)
    person = truth[2]
    crop = model.geometry.to_input @ model.geometry.from_image(person.box)
    ends = np.linalg.inv(crop) @ np.array([[4, 3, 1], [8, 3, 1]]).T
    assert found.cell == pytest.approx(np.linalg.norm(ends[:, 1] - ends[:, 0]))  # four input pixels
    for k in range(17):
        x, y, _ = crop @ [*person.joints[k], 1]
        cell = (x + 0.5) / 4 - 0.5, (y + 0.5) / 4 - 0.5
        highest = max(((expected[k, r, c], r, c) for r in range(8) for c in range(8)), key=lambda entry: entry[0])
        assert found.peaks[k] == pytest.approx(highest[0], abs=1e-6)
        distance = ((highest[2] - cell[0]) ** 2 + (highest[1] - cell[1]) ** 2) ** 0.5
        assert found.distances[k] == pytest.approx(distance, abs=1e-3)
        inside = all(-0.5 <= value <= 7.5 for value in cell)
        assert found.labeled[k] == (person.visibility[k] > 0 and inside)
        for r, c in ((0, 0), (3, 5), (7, 7)):
            value = np.exp(-((c - cell[0]) ** 2 + (r - cell[1]) ** 2) / 8) if found.labeled[k] else 0
            assert found.targets[k, r, c] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (256, 192), (96, 64)])
def test_the_picture_shows_the_input(truth, size):
    crop = CropGeometry(size)
    picture, factor = picture_of_input(truth, 1, crop), enlargement(crop)
    assert picture.shape == (size[0] * factor, size[1] * factor, 3)
    assert max(picture.shape) >= 256
    view = eval_view(unlabeled_batch(LazyCrops(truth, crop), [1]), size).images[0].permute(1, 2, 0).numpy()
    colors = (view * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
    small = picture.reshape(size[0], factor, size[1], factor, 3).mean(axis=(1, 3))
    assert np.abs(small - colors).mean() < 6  # gray levels; one is resampled twice


def made(peak, at=(2, 1), labeled=(True, True)):
    heatmaps = np.zeros((2, 4, 4), np.float32)
    heatmaps[:, at[1], at[0]] = peak
    joints = np.array([[2.0, 1.0], [0.0, 3.0]])
    targets = np.stack([np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)])
    return JointHeatmaps(np.full((256, 256, 3), 100, np.uint8), heatmaps, targets, joints, np.array(labeled), 2.5)


def test_networks_of_a_row_share_one_scale():
    sheet = heatmap_sheet({"with": made(0.8), "without": made(0.2)}, ["nose", "hip"], "T")
    assert sheet.columns == ["ground truth", "with", "without"]
    assert [row.label for row in sheet.rows] == ["nose", "hip"]
    assert [tile.caption for tile in sheet.rows[0].tiles[1:]] == [
        "peak 0.80, 0.0 px off",
        "peak 0.20, 0.0 px off",
    ]
    assert sheet.rows[1].tiles[1].caption == "peak 0.80, 7.1 px off"
    redness = [int(tile.image[96, 161, 0]) - int(tile.image[96, 161, 1]) for tile in sheet.rows[1].tiles[1:]]
    assert redness[0] > 3 * redness[1] > 0
    ring = (sheet.rows[0].tiles[1].image == WHITE).all(axis=-1)
    y, x = np.argwhere(ring).mean(axis=0)
    assert (x, y) == (pytest.approx(159.5, abs=1), pytest.approx(95.5, abs=1))  # cell (2, 1) of 64 pixels


def test_unlabeled_joints_have_no_row():
    sheet = heatmap_sheet({"f": made(0.5, labeled=(False, True))}, ["nose", "hip"], "T")
    assert [row.label for row in sheet.rows] == ["hip"]


def test_heatmaps_of_runs_are_those_of_their_first_headline_network(finished_run, truth):
    run = open_run(finished_run)
    found = run_heatmaps([run], truth, 0)
    assert np.allclose(found["run"].heatmaps, joint_heatmaps(run.networks()["G"], truth, 0).heatmaps)


def test_runs_that_differ_in_levels_only(tmp_path, tiny_run):
    def run(name, **options):
        return ReportedRun(name, tmp_path, load_config(None, {**tiny_run, **options}), None)

    trs = [run(f"L{n}", **{"method": "trs", "method.levels": n}) for n in (3, 2, 1)]
    single = run("single", method="single")
    other = run("other", **{"method": "trs", "method.levels": 1, "train.lr": 0.1})
    assert [r.name for r in levels_pair([single, other, *trs])] == ["L1", "L2"]
    assert levels_pair([single, other, trs[0]]) == []
