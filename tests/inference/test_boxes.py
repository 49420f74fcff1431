"""Warnings of boxes that are unlike those of the training."""

import json
import logging
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

import semipose
from semipose.data.datasets import PEOPLE
from semipose.inference.box_finder import SubjectFinder
from semipose.inference.boxes import REMEDIES, box_finder_for, is_box_file, warn_of_other_boxes
from semipose.structures.boxes import BoxFacts

WHOLE, GIVEN = BoxFacts("whole", 1.0, 1.0, 1.0), BoxFacts("given", 0.3, 0.2, 0.4)


def warnings_of(caplog):
    return [r.message for r in caplog.records if r.levelno == logging.WARNING and "trained in" in r.message]


@pytest.mark.parametrize("kind", REMEDIES)
def test_one_line_names_both_kinds_and_the_remedy(model, caplog, kind):
    trained = WHOLE if kind == "whole" else replace(GIVEN, kind=kind)
    warn_of_other_boxes(replace(model, boxes=trained), GIVEN if kind == "whole" else WHOLE, "frames")
    (line,) = warnings_of(caplog)
    assert line.startswith(f"frames: the network was trained in {trained.describe()}")
    assert line.endswith(REMEDIES[kind])
    assert "\n" not in line


def test_like_and_unknown_boxes_are_no_reason_to_warn(model, caplog):
    for trained, facts in ((GIVEN, replace(GIVEN, kind="joints")), (GIVEN, None), (None, WHOLE), (WHOLE, WHOLE)):
        warn_of_other_boxes(replace(model, boxes=trained), facts, "frames")
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("kind", ["given", "joints"])
def test_one_box_an_image_cannot_find_several_subjects(model, caplog, kind):
    several = replace(model, boxes=replace(GIVEN, kind=kind, subjects=2))
    warn_of_other_boxes(several, WHOLE, "video.mp4")
    warn_of_other_boxes(several, replace(GIVEN, low=0.9, size=0.9, high=0.9), "video.mp4")
    warn_of_other_boxes(several, GIVEN, "video.mp4")
    first, second = (r.message for r in caplog.records)
    assert first.startswith("video.mp4: the labels of the training show up to 2 subjects in an image, and one box an ")
    assert "train with `boxes=auto`, or give `boxes=FILE`" in first
    assert "train with `boxes=auto`" in second or kind == "given"


def test_the_words_are_no_files(tmp_path):
    assert [is_box_file(boxes) for boxes in (None, "whole", "auto", "a.json", tmp_path)] == [False] * 3 + [True] * 2


def test_only_a_run_with_a_box_network_finds_boxes(model):
    finder = SubjectFinder(model.predictor(), model.geometry, GIVEN)
    able = replace(model, box_finder=finder)
    assert [box_finder_for(able, boxes) for boxes in (None, "auto", "whole", "boxes.json")] == [finder] * 2 + [None] * 2
    assert box_finder_for(model, None) is None
    with pytest.raises(semipose.ConfigError, match="`boxes=auto`: the model has no box network; train with"):
        box_finder_for(model, "auto")


def test_a_run_keeps_the_facts_and_compares_them(trained_run, tmp_path, caplog):
    """Before, a network that was trained in boxes predicted in whole images without a word."""
    model = semipose.load(trained_run)
    assert model.boxes is not None
    assert model.boxes.kind == "given"
    people, images = trained_run.parent / "people.json", PEOPLE / "images"
    semipose.predict(model, people, images=images, out=tmp_path / "own")
    semipose.evaluate(model, people, images=images)
    assert warnings_of(caplog) == []
    (tmp_path / "one").mkdir()
    shutil.copy(next(iter(images.iterdir())), tmp_path / "one")
    semipose.predict(model, tmp_path / "one", out=tmp_path / "whole")
    written = semipose.predict(model, people, images=images, boxes="whole", out=tmp_path / "word")
    evaluation = semipose.evaluate(model, people, images=images, boxes="whole")
    assert len(warnings_of(caplog)) == 3
    assert {tuple(p["bbox"]) for p in json.loads(written[0].read_text())} == {(0, 0, 192, 192)}
    assert "boxes: whole images" in evaluation.protocol.describe()


def test_boxes_of_a_video_are_compared_once(model, tmp_path, caplog):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [4, 4, 16, 16]}]))
    model = replace(model, boxes=GIVEN)
    semipose.predict(model, tmp_path / "clip.avi", boxes=tmp_path / "boxes.json", out=tmp_path)
    assert warnings_of(caplog) == []
    semipose.predict(model, tmp_path / "clip.avi", boxes="whole", out=tmp_path)
    semipose.predict(replace(model, boxes=WHOLE), tmp_path / "clip.avi", boxes=tmp_path / "boxes.json", out=tmp_path)
    assert len(warnings_of(caplog)) == 2
