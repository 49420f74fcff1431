"""The demo with a tiny network: its table, its JSON, its picture, and a second start."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from semipose.data.datasets import read_dataset
from semipose.errors import ConfigError
from semipose.inference.draw import RED
from semipose.metrics.gain import Gain
from semipose.studies import demo
from semipose.training.result import TrainResult
from tests.conftest import TEST

TINY = {"model.backbone": "test_resnet", "model.weights": "none", "model.stage": -1, "model.frozen_stages": 0}


def test_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SETTINGS", {**demo.SETTINGS, **TINY, **TEST})
    monkeypatch.setattr(demo, "FAST", {**demo.FAST, "train.steps": 6})
    result = demo.run_demo(tmp_path, fast=True, upper_bound=True, seed=1)
    assert list(result.scores) == ["labels alone", demo.METHOD, "all labels"]
    found = result.as_dict()
    for name in ("supervised", demo.METHOD):
        assert {"AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "pixel_error"} == set(found[name])
    assert json.loads((tmp_path / "demo.json").read_text())[demo.METHOD] == found[demo.METHOD]
    assert result.run.gain.evaluated_on == "test"
    difference = found[demo.METHOD]["PCK@0.2"] - found["supervised"]["PCK@0.2"]
    assert found["gain"]["value"] == pytest.approx(difference)
    assert result.summary[-1].startswith("unlabeled images: ")
    split = json.loads((tmp_path / demo.METHOD / "split.json").read_text())
    few, more = str(demo.LABELS), str(len(split["unlabeled"]))
    assert [row[1:3] for row in result.rows] == [[few, "0"], [few, more], [more, "0"]]
    assert all(len(row) == len(result.columns) for row in result.rows)
    picture = cv2.imread(str(result.picture))
    assert picture.shape[1] > 900
    assert picture.std() > 20
    with pytest.raises(ConfigError, match="other settings"):
        demo.run_demo(tmp_path, fast=True)
    log = (tmp_path / demo.METHOD / "metrics.jsonl").read_bytes()
    again = demo.run_demo(tmp_path, fast=True, upper_bound=True, seed=1)
    assert again.scores == result.scores
    assert (tmp_path / demo.METHOD / "metrics.jsonl").read_bytes() == log


def test_gap_recovered(tmp_path):
    def run(**pcks):
        scores = {name: {"PCK@0.2": pck} for name, pck in pcks.items()}
        return TrainResult(tmp_path, scores, tuple(pcks)[:1], "p", 1.0, gain=Gain("PCK@0.2", 0.1, (0, 0.2), 9, "test"))

    both = run(teacher=0.35, labels_alone=0.2)
    result = demo.DemoResult(both, run(f=0.5), tmp_path)
    assert result.gap_recovered == pytest.approx(0.5)
    assert result.summary[1:] == ["50 % of the gap to all labels recovered (PCK@0.2)", both.gain.describe()]
    assert demo.DemoResult(both, None, tmp_path).gap_recovered is None


def test_the_picture_counts_the_joints_that_are_right_by_pck():
    class Model:
        def __init__(self, shift):
            self.shift = shift

        def predict(self, image, boxes):
            joints = person.joints + self.shift
            return SimpleNamespace(keypoints=joints[None], scores=np.ones((1, len(joints))))

    truth = read_dataset("gym", None, "val")
    person = truth[3]
    names = list(truth.skeleton.joints)
    a, b = (
        person.joints[[names.index(j) for j in pair]]
        for pair in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
    )
    limit = 0.2 * max(np.linalg.norm(a[0] - a[1]), np.linalg.norm(b[0] - b[1]))
    tiles, numbers = demo._picture_row(truth, 3, [Model(0.0), Model([0.9 * limit, 0.0]), Model([0.0, 1.1 * limit])])
    labeled = int((person.visibility > 0).sum())
    assert numbers == (labeled, labeled, labeled, 0)
    side = tiles[0].shape[0]
    assert {tile.shape for tile in tiles} == {(side, side, 3)}
    assert (tiles[3] == RED).all(axis=-1).sum() > (tiles[2] == RED).all(axis=-1).sum()
