"""The demo from end to end with a tiny network: its table, its JSON, its picture, and a second start."""

import json

import cv2
import pytest

from semipose.errors import ConfigError
from semipose.studies import demo

TINY = {"model.backbone": "test_resnet", "model.weights": "none", "model.stage": -1, "model.frozen_stages": 0}


def test_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SETTINGS", {**demo.SETTINGS, **TINY})
    monkeypatch.setattr(demo, "FAST", {**demo.FAST, "train.steps": 4})
    result = demo.run_demo(tmp_path, fast=True, upper_bound=True, seed=1)
    assert list(result.runs) == ["supervised", "trs", "all labels"]
    found = result.as_dict()
    for name in ("supervised", "trs"):
        assert {"AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "seconds"} == set(found[name])
    assert json.loads((tmp_path / "demo.json").read_text())["trs"] == found["trs"]
    few, more = str(demo.LABELS), "1500"
    assert [row[1:3] for row in result.rows] == [[few, "0"], [few, more], [few, more], [more, "0"]]
    assert all(len(row) == len(result.columns) for row in result.rows)
    picture = cv2.imread(str(result.picture))
    assert picture.shape[1] > 1000
    assert picture.std() > 20
    splits = [json.loads((tmp_path / n / "split.json").read_text())["labeled"] for n in ("supervised", "trs")]
    assert splits[0] == splits[1]
    with pytest.raises(ConfigError, match="other settings"):
        demo.run_demo(tmp_path, fast=True)
    log = (tmp_path / "trs" / "metrics.jsonl").read_bytes()
    again = demo.run_demo(tmp_path, fast=True, upper_bound=True, seed=1)
    assert {n: again.scores(n) for n in again.runs} == {n: result.scores(n) for n in result.runs}
    assert (tmp_path / "trs" / "metrics.jsonl").read_bytes() == log


def test_gap_recovered():
    """By the definition: (method - few) / (all - few)."""

    class Run:
        def __init__(self, ap):
            self.scores, self.headline_networks = {"f": {"AP": ap}}, ("f",)

    runs = {"supervised": Run(0.2), "trs": Run(0.35), "all labels": Run(0.5)}
    assert demo._gap_recovered(runs) == pytest.approx(0.5)
    del runs["all labels"]
    assert demo._gap_recovered(runs) is None
