"""A run that finds its own boxes: from the labels to predictions on images and videos, and its resumption."""

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

import semipose
from semipose.data.datasets import PEOPLE
from semipose.reports.html import write_report
from semipose.trainer import train
from semipose.training.loop import Training
from semipose.training.signals import InterruptedTrainingError
from tests.conftest import TEST

AUTO = {"data.boxes": "auto", "train.steps": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with labeled, unlabeled and validation persons."""
    from semipose.config import load_config
    from semipose.data.datasets import read_dataset
    from semipose.data.formats.coco_writer import write_coco
    from tests.conftest import NO_TEST, TINY

    folder = tmp_path_factory.mktemp("found")
    write_coco(read_dataset("people", None).subset(range(60)), folder / "people.json")
    data = {"data.train": str(folder / "people.json"), "data.images": str(PEOPLE / "images"), "train.select": "last"}
    train(load_config(None, {**TINY, **data, **NO_TEST, "method": "single", **AUTO}), folder / "run")
    return folder / "run"


def test_the_run_folder_has_the_box_network_and_its_boxes(run):
    assert semipose.load(run / "box_finder").geometry.padding == 1
    config = yaml.safe_load((run / "box_finder" / "config.yaml").read_text())
    assert (config["method"]["name"], config["data"]["boxes"]) == ("supervised", "whole")
    assert yaml.safe_load((run / "config.yaml").read_text())["views"]["shift"] == 0.1
    found = json.loads((run / "boxes.json").read_text())
    assert {name: len(boxes) for name, boxes in found.items()} == {"unlabeled": 28, "validation": 8}
    assert "boxes: found by the box network of the run" in json.loads((run / "scores.json").read_text())["protocol"]
    assert semipose.load(run).boxes.kind == "found"


def test_predictions_find_their_boxes_unless_others_are_given(run, tmp_path, caplog):
    images = tmp_path / "images"
    images.mkdir()
    for image in sorted((PEOPLE / "images").iterdir())[:3]:
        shutil.copy(image, images)
    written = semipose.predict(run, images, out=tmp_path / "found")
    boxes = [record["bbox"] for record in json.loads(written[0].read_text())]
    same = semipose.predict(run / "weights" / "f.safetensors", images, out=tmp_path / "auto", boxes="auto")
    assert [record["bbox"] for record in json.loads(same[0].read_text())] == boxes
    assert all(box != [0, 0, 192, 192] for box in boxes)
    pose = semipose.load(run).predict(cv2.imread(str(sorted(images.iterdir())[0]))[:, :, ::-1].copy())
    assert pose.boxes[0] == pytest.approx(boxes[0], abs=0.01)
    assert "trained in" not in caplog.text
    whole = semipose.predict(run, images, out=tmp_path / "whole", boxes="whole")
    assert json.loads(whole[0].read_text())[0]["bbox"] == [0, 0, 192, 192]
    assert "set `boxes=auto`" in caplog.text


def test_videos_suggestions_and_evaluations_find_their_boxes(run, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(3):
        writer.write(np.full((48, 64, 3), 40 * n, np.uint8))
    writer.release()
    written = semipose.predict(run, tmp_path / "clip.avi", out=tmp_path / "found")
    assert all(record["bbox"] != [0, 0, 64, 48] for record in json.loads(written[0].read_text()))
    test = Path(TEST["data.test"])
    evaluation = semipose.evaluate(run, test, images=PEOPLE / "images")
    assert "boxes: found by the box network of the run" in evaluation.protocol.describe()
    assert evaluation.scores.counts["no_prediction"] == 0
    content = json.loads(test.read_text())
    content["annotations"] += [content["annotations"][0] | {"id": 10**6}]
    (tmp_path / "two.json").write_text(json.dumps(content))
    with pytest.raises(semipose.ConfigError, match=r"is one box an image, but 1 image of .*give `boxes=FILE`"):
        semipose.evaluate(run, tmp_path / "two.json", images=PEOPLE / "images")
    copied = shutil.copytree(run, tmp_path / "run")
    images = tmp_path / "images"
    images.mkdir()
    for image in sorted((PEOPLE / "images").iterdir())[-8:]:
        shutil.copy(image, images)
    semipose.suggest(copied, images, count=1, out=tmp_path / "label")
    (record,) = json.loads((copied / "suggested.json").read_text())
    assert record["box"] != [0, 0, 192, 192]


def test_the_report_shows_the_found_boxes(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("semipose.reports.run_page.view_sheets", lambda _, splits: seen.append(splits) or [])
    write_report(shutil.copytree(run, tmp_path / "run"))
    found = json.loads((run / "boxes.json").read_text())
    np.testing.assert_array_equal(seen[0].validation.instances.boxes, np.concatenate(found["validation"]))


@pytest.mark.parametrize("stopped", [2, 6])
def test_a_stopped_training_goes_on_exactly(tiny, tmp_path, monkeypatch, stopped, caplog):
    """It is stopped in the training of the box network (4 steps), or in the main one."""
    caplog.set_level(logging.INFO)
    config = tiny("single", **AUTO, **{"train.select": "last", "train.checkpoint_every": 1})
    train(config, tmp_path / "whole")
    steps, step = [], Training.step

    def stop(self, *batch):
        step(self, *batch)
        steps.append(0)
        if len(steps) == stopped:
            self.save()
            raise InterruptedTrainingError(15)

    monkeypatch.setattr(Training, "step", stop)
    with pytest.raises(InterruptedTrainingError):
        train(config, tmp_path / "run")
    with pytest.raises(semipose.ConfigError, match="already contains a run"):
        train(config, tmp_path / "run")
    semipose.train(out=tmp_path / "run", resume=True)
    assert len(steps) == 8
    first, second = (semipose.load(tmp_path / name).network.state_dict() for name in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert Path(tmp_path / "run" / "boxes.json").read_text() == (tmp_path / "whole" / "boxes.json").read_text()
