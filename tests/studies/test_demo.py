"""The demo with a tiny network: its table, its JSON, its picture, and a second start."""

import json

import cv2
import pytest

from semipose.errors import ConfigError
from semipose.studies import demo
from semipose.training.evaluator import TrainResult

TINY = {"model.backbone": "test_resnet", "model.weights": "none", "model.stage": -1, "model.frozen_stages": 0}


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SETTINGS", {**demo.SETTINGS, **TINY})
    monkeypatch.setattr(demo, "FAST", {**demo.FAST, "train.steps": 4})
    result = demo.run_demo(tmp_path, fast=True, upper_bound=True, seed=1)
    assert list(result.runs) == ["supervised", demo.METHOD, "all labels"]
    found = result.as_dict()
    for name in ("supervised", demo.METHOD):
        assert {"AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "pixel_error", "seconds"} == set(found[name])
    assert json.loads((tmp_path / "demo.json").read_text())[demo.METHOD] == found[demo.METHOD]
    few, more = str(demo.LABELS), "1500"
    assert [row[1:3] for row in result.rows] == [[few, "0"], [few, more], [few, more], [more, "0"]]
    assert all(len(row) == len(result.columns) for row in result.rows)
    picture = cv2.imread(str(result.picture))
    assert picture.shape[1] > 1000
    assert picture.std() > 20
    splits = [json.loads((tmp_path / n / "split.json").read_text())["labeled"] for n in ("supervised", demo.METHOD)]
    assert splits[0] == splits[1]
    with pytest.raises(ConfigError, match="other settings"):
        demo.run_demo(tmp_path, fast=True)
    log = (tmp_path / demo.METHOD / "metrics.jsonl").read_bytes()
    again = demo.run_demo(tmp_path, fast=True, upper_bound=True, seed=1)
    assert {n: again.scores(n) for n in again.runs} == {n: result.scores(n) for n in result.runs}
    assert (tmp_path / demo.METHOD / "metrics.jsonl").read_bytes() == log


def test_gap_recovered(tmp_path):
    def run(ap):
        return TrainResult(tmp_path, {"f": {"AP": ap}}, ("f",), "p", 1.0)

    runs = {"supervised": run(0.2), demo.METHOD: run(0.35), "all labels": run(0.5)}
    assert demo.DemoResult(runs, tmp_path).gap_recovered == pytest.approx(0.5)
    del runs["all labels"]
    assert demo.DemoResult(runs, tmp_path).gap_recovered is None
