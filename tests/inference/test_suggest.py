"""Suggestions: copies of images, with pre-labels, never of what is labeled or was suggested before."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from semipose.config import load_config
from semipose.data.datasets import PEOPLE, load_splits
from semipose.data.formats.coco import read_coco
from semipose.errors import ConfigError, DataError
from semipose.inference.suggest import suggest


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "below/c.png", "below/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (50, 40, 3), dtype=np.uint8))
    return folder


def inside(model, path):
    """Which predicted joints lie in the image of 40×50 pixels."""
    joints = model.predict(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)).keypoints[0]
    return ((joints >= 0) & (joints < (40, 50))).all(axis=1)


def test_copies_and_pre_labels(model, frames, tmp_path):
    out = tmp_path / "label"
    written = suggest(model, frames, count=3, out=out, min_joint_score=0)
    assert written[0] == out / "annotations.json"
    originals = {path.read_bytes(): path.relative_to(frames) for path in frames.rglob("*.png")}
    assert all(originals[path.read_bytes()] == path.relative_to(out / "images") for path in written[1:])
    assert len(written[1:]) == 3
    assert {path for path in out.rglob("*") if path.is_file()} == set(written)
    labels = read_coco(out / "annotations.json", out / "images")
    assert len(labels) == 3
    assert [p.image for p in labels.instances] == written[1:]
    for person in labels.instances:
        np.testing.assert_array_equal(person.visibility == 2, inside(model, person.image))
    assert [p.annotation_id for p in labels.instances] == [1, 2, 3]
    assert written.account.used == {"images suggested": 3, "subjects in them": 3}


def test_deeplabcuts_pre_labels_have_the_scorer_of_the_project(trained_run, frames, tmp_path, caplog):
    run = shutil.copytree(trained_run, tmp_path / "run")
    labels = load_config(run / "config.yaml").data.train
    (tmp_path / "config.yaml").write_text("scorer: Ana\nbodyparts: [nose]")
    for train, scorer in ((labels, "semipose"), (tmp_path, "Ana")):
        config = (run / "config.yaml").read_text().replace(str(labels), str(train))
        (run / "config.yaml").write_text(config)
        written = suggest(run, frames, count=1, out=tmp_path / scorer, format="dlc")
        assert ("rename them CollectedData_SCORER" in caplog.text) == (scorer == "semipose")
        caplog.clear()
        assert [path.name for path in written[:2]] == [f"CollectedData_{scorer}.csv", f"CollectedData_{scorer}.h5"]


@pytest.mark.parametrize("given", [{}, {"min_score": 0.3}, {"box_category": 7}])
def test_nothing_is_suggested_that_is_labeled_or_was_suggested(trained_run, frames, tmp_path, given):
    """Whatever options of its boxes the run was trained with."""
    run = shutil.copytree(trained_run, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "data": {**config["data"], **given}}))
    persons = load_splits(load_config(run / "config.yaml").data).labeled
    for n, path in enumerate(persons.instances.paths[:3]):
        shutil.copyfile(path, frames / f"labeled{n}.jpg")
    first = suggest(run, frames, count=2, out=tmp_path / "first")
    second = suggest(run / "best.safetensors", frames, count=2, out=tmp_path / "second")
    assert second.account.left_out["labeled already"] == 3
    assert second.account.left_out["suggested before"] == 2
    names = [path.name for path in (*first[1:], *second[1:])]
    assert sorted(names) == ["a.png", "b.png", "c.png", "d.png"]
    with pytest.raises(DataError, match=r"no image to suggest: .*4 suggested before"):
        suggest(run, frames, count=2, out=tmp_path / "third")


def test_joints_without_labels_in_training_have_no_pre_label(model, frames, tmp_path, caplog):
    caplog.set_level("INFO")
    partial = replace(model, unlearned_joints=("nose", "left_ankle"))
    suggest(partial, frames, count=2, out=tmp_path / "label", min_joint_score=0)
    labels = read_coco(tmp_path / "label" / "annotations.json", tmp_path / "label" / "images")
    for person in labels.instances:
        learned = [joint not in partial.unlearned_joints for joint in model.skeleton.joints]
        np.testing.assert_array_equal(person.visibility == 2, learned & inside(model, person.image))
    assert "30 of 30 joints have a score of 0 or more" in caplog.text


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


@pytest.mark.parametrize("format", ["coco", "cvat", "yolo"])
def test_one_image_under_two_ids_is_suggested_once(model, small_people, tmp_path, format):
    content = json.loads(small_people.read_text())
    content["images"] = [content["images"][0] | {"id": n} for n in (1, 2)]
    content["annotations"] = [content["annotations"][0] | {"id": n, "image_id": n} for n in (1, 2)]
    small_people.write_text(json.dumps(content))
    given = {"images": PEOPLE / "images", "count": 2, "format": format}
    account = suggest(model, small_people, out=tmp_path / "out", **given).account
    assert account.used == {"images suggested": 1, "subjects in them": 1}
    assert account.left_out == {"persons in images that are listed again": 1}


def test_unusable_parameters_are_refused(model, frames, tmp_path):
    with pytest.raises(ConfigError, match="`count` is 0"):
        suggest(model, frames, count=0, out=tmp_path / "label")
    with pytest.raises(ConfigError, match="`min_joint_score` is 20"):
        suggest(model, frames, count=1, out=tmp_path / "label", min_joint_score=20)
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "annotations.json").write_text("corrected")
    with pytest.raises(ConfigError, match=r"has annotations\.json already, perhaps corrected"):
        suggest(model, frames, count=1, out=tmp_path / "label")
    assert (tmp_path / "label" / "annotations.json").read_text() == "corrected"


@pytest.mark.parametrize("option", [{"min_score": 0.5}, {"box_category": "cat"}, {"images": "nowhere"}, {"count": 2.5}])
def test_parameters_without_effect_are_refused(model, frames, tmp_path, option):
    with pytest.raises(ConfigError, match=f"`{next(iter(option))}`"):
        suggest(model, frames, **{"count": 1, "out": tmp_path / "label", **option})
    assert not (tmp_path / "label").exists()
