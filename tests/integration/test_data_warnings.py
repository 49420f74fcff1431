"""Trainings warn about data that makes their scores too high or meaningless."""

import json
import logging
import shutil

import pytest

from semipose.data.datasets import PEOPLE
from semipose.data.leakage import find_training_images
from semipose.trainer import train


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO)


def test_a_training_on_images_of_its_test_or_validation_set_warns(tiny, small_people, tmp_path, caplog):
    images = str(PEOPLE / "images")
    train(
        tiny("supervised", **{"data.test": str(small_people), "data.test_images": images, "train.steps": 1}),
        tmp_path / "test",
    )
    assert "of the test set (the first:" in caplog.text
    given = {"data.val": str(small_people), "data.val_images": images, "data.validation": None}
    train(tiny("supervised", **given, **{"train.steps": 1}), tmp_path / "val")
    assert "of the validation set (the first:" in caplog.text
    caplog.clear()
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "own")
    assert "set (the first:" not in caplog.text


def test_images_of_the_run_that_a_training_starts_from_are_training_images(tiny, small_people, tmp_path, caplog):
    first, start = tmp_path / "first", {"train.steps": 1, "train.start": str(tmp_path / "first")}
    train(tiny("supervised", **{"train.steps": 1, "data.split_seed": 1}), first)
    caplog.clear()
    train(tiny("supervised", **start, **{"data.split_seed": 2}), tmp_path / "second")
    before, after = find_training_images(first), find_training_images(tmp_path / "second")
    assert set(before.labeled) < set(after.labeled)
    assert f"{first} was trained on" in caplog.text
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("best.safetensors", "model.json"):
        if (first / name).exists():
            shutil.copy(first / name, alone / name)
    train(tiny("supervised", **{"train.steps": 1, "train.start": str(alone)}), tmp_path / "third")
    assert f"{alone} does not list its training images" in caplog.text


def test_few_validation_persons_warn(tiny, tmp_path, caplog):
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "few")
    assert "8 persons for validation: too few" in caplog.text
    caplog.clear()
    train(tiny("supervised", **{"train.steps": 1, "train.select": "last"}), tmp_path / "last")
    train(tiny("supervised", **{"train.steps": 1, "data.validation": 10}), tmp_path / "enough")
    assert "too few" not in caplog.text


def test_joints_that_no_person_has_warn(tiny, small_people, tmp_path, caplog):
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "all")
    assert "no labeled person" not in caplog.text
    content = json.loads(small_people.read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"][:3] = [0, 0, 0]
    small_people.write_text(json.dumps(content))
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "fewer")
    assert "no labeled person" in caplog.text
    assert "nose: " in caplog.text
