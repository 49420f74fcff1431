"""Suggestions: the least confident images first, copied, with pre-labels that read back as annotations."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from semipose.data.formats.coco import read_coco
from semipose.errors import ConfigError
from semipose.inference.suggest import least_confident, suggest
from semipose.structures.predictions import Prediction


def prediction(image, *scores):
    return Prediction(image, None, np.zeros((len(scores), 2)), np.array(scores), 1.0, (0, 0, 9, 9))


def test_images_are_ordered_by_their_least_confident_person():
    high, low, mixed = prediction("high", 0.9, 0.9), prediction("low", 0.2, 0.4), prediction("mixed", 0.9, 0.8)
    lowest = prediction("mixed", 0.1, 0.3)
    everything = [mixed, high, low, lowest]
    assert least_confident(everything, 1) == [mixed, lowest]
    assert least_confident(everything, 2) == [mixed, lowest, low]
    assert least_confident(everything, 9) == [mixed, lowest, low, high]
    assert least_confident([], 3) == []


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "below/c.png", "below/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (50, 40, 3), dtype=np.uint8))
    return folder


def confidence(model, path):
    return model.predict(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)).scores.mean()


def test_copies_and_pre_labels_of_the_least_confident_images(model, frames, tmp_path):
    out = tmp_path / "label"
    written = suggest(model, frames, count=3, out=out, min_joint_score=0)
    assert written[0] == out / "annotations.json"
    order = sorted(frames.rglob("*.png"), key=lambda path: confidence(model, path))[:3]
    assert [path.read_bytes() for path in written[1:]] == [path.read_bytes() for path in order]
    assert {path for path in out.rglob("*") if path.is_file()} == set(written)
    labels = read_coco(out / "annotations.json", out / "images")
    assert len(labels) == 3
    assert sorted(p.image for p in labels.instances) == sorted(written[1:])
    assert all((p.visibility == 2).all() for p in labels.instances)
    assert [p.annotation_id for p in labels.instances] == [1, 2, 3]


def test_joints_without_labels_in_training_have_no_pre_label(model, frames, tmp_path, caplog):
    caplog.set_level("INFO")
    partial = replace(model, unlearned_joints=("nose", "left_ankle"))
    suggest(partial, frames, count=2, out=tmp_path / "label", min_joint_score=0)
    for person in read_coco(tmp_path / "label" / "annotations.json", tmp_path / "label" / "images").instances:
        assert (person.visibility == 2).sum() == 15
        assert person.visibility[model.skeleton.index("nose")] == 0
    assert "30 of 30 joints have a pre-label" in caplog.text


def test_fewer_images_than_asked_for(model, frames, tmp_path, caplog):
    assert len(suggest(model, frames, count=9, out=tmp_path / "label")) == 5
    assert f"`count` is 9, but 4 images of {frames} can be suggested; all are" in caplog.text


def test_joints_with_a_low_score_have_no_pre_label(model, frames, tmp_path):
    suggest(model, frames, count=1, out=tmp_path / "label", min_joint_score=1)
    (record,) = json.loads((tmp_path / "label" / "annotations.json").read_text())["annotations"]
    assert record["keypoints"] == [0] * 51


def test_frames_of_a_video_are_suggested(model, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 1, (64, 96))
    for n in (0, 1, 2, 2, 3, 4):
        writer.write(np.full((96, 64, 3), 50 * n, np.uint8))
    writer.release()
    written = suggest(model, path, count=2, out=tmp_path / "label")
    account = written.account
    assert (account.source, account.images) == (str(path), 5)
    assert account.left_out == {"examined frames like one taken": 1}
    assert [p.parent.name for p in written[1:]] == ["images", "images"]
    assert {p.name for p in (tmp_path / "label").iterdir()} == {"images", "annotations.json"}


def test_unusable_parameters_are_refused(model, frames, tmp_path):
    with pytest.raises(ConfigError, match="`count` is 0"):
        suggest(model, frames, count=0, out=tmp_path / "label")
    with pytest.raises(ConfigError, match="`min_joint_score` is 20"):
        suggest(model, frames, count=1, out=tmp_path / "label", min_joint_score=20)
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "annotations.json").write_text("corrected")
    with pytest.raises(ConfigError, match="perhaps corrected"):
        suggest(model, frames, count=1, out=tmp_path / "label")
    assert (tmp_path / "label" / "annotations.json").read_text() == "corrected"
