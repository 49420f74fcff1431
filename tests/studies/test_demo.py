"""The demo with a tiny network: its table, its JSON, its picture, and a second start."""

import json

import cv2
import pytest

from semipose.errors import ConfigError
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
    assert result.summary[0].startswith(f"{result.picture}: 8 of the ")
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
    result = demo.DemoResult(both, run(f=0.5), tmp_path, "A picture.")
    assert result.gap_recovered == pytest.approx(0.5)
    assert result.summary == [
        "A picture.",
        "p",
        "50 % of the gap to all labels recovered (PCK@0.2)",
        both.gain.describe(),
    ]
    assert demo.DemoResult(both, None, tmp_path, "").gap_recovered is None
