"""What a training logs before its first step."""

import logging
import shutil
from dataclasses import replace

from semipose.data.datasets import PEOPLE, DataSplits, read_dataset
from semipose.data.splits import Split
from semipose.structures.instances import PoseDataset
from semipose.trainer import train
from semipose.training.summary import warn_of_neighbors
from tests.data.test_clips import write_frames


def test_unlabeled_images_without_a_use_are_reported(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tiny("single", **{"train.steps": 1, "data.labels": None}), tmp_path / "labels")
    assert "no unlabeled images" in caplog.text
    frames = tmp_path / "frames"
    frames.mkdir()
    shutil.copy(next((PEOPLE / "images").iterdir()), frames)
    train(tiny("supervised", **{"train.steps": 1, "data.unlabeled": str(frames)}), tmp_path / "unlabeled")
    assert "supervised uses labeled images only" in caplog.text


def test_boxes_of_unlabeled_images_that_are_unlike_those_of_the_labels(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tiny("single", **{"train.steps": 1}), tmp_path / "alike")
    assert "trained in boxes from a file (" in caplog.text
    assert "unlabeled images help little" not in caplog.text
    frames = {"data.unlabeled": str(PEOPLE / "images"), "data.labels": None, "data.include_labeled": False}
    train(tiny("single", **frames, **{"train.steps": 1, "data.max_unlabeled": 60}), tmp_path / "unlike")
    assert "the boxes of the unlabeled images are the whole image, those of the labels boxes from a file" in caplog.text


def test_pairs_and_sigmas_are_reported_once(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    few = {"train.steps": 1, "data.sigmas": {"nose": 0.5}}
    train(tiny("supervised", **few, **{"data.flip_pairs": [["left_eye", "right_eye"]]}), tmp_path / "one")
    assert caplog.text.count("1 left/right pair (left_eye ↔ right_eye); OKS sigmas: ") == 1
    assert "left_ear, right_ear" in caplog.text
    assert "names a side and has no partner" in caplog.text
    caplog.clear()
    train(tiny("supervised", **few, **{"data.flip_pairs": []}), tmp_path / "none")
    assert "no image is mirrored" in caplog.text


def test_missing_joints_and_few_validation_persons_are_reported(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    options = {"train.steps": 1, "data.skeleton": "union", "train.select": "best", "data.validation": 5}
    train(tiny("supervised", **options), tmp_path / "run")
    assert (
        "supervised: 24 labeled and 0 unlabeled persons, 5 for validation; test_resnet, 64×64, 1 steps" in caplog.text
    )
    assert (
        "no labeled person has pelvis, thorax, upper_neck, head_top, neck: predictions of these joints" in caplog.text
    )
    assert "5 persons for validation: too few to select weights by" in caplog.text


def test_a_warning_where_validation_frames_follow_training_frames(tmp_path, caplog):
    frames = write_frames(tmp_path, range(24))
    everything = read_dataset("people", None)
    persons = [replace(everything[n], image=image) for n, image in enumerate(frames)]

    def splits(first, last):
        sets = [PoseDataset(everything.skeleton, own, "clip") for own in (persons[:first], persons[last:])]
        return DataSplits(sets[0], None, sets[1], None, Split((), (), (), (), 0, 24))

    warn_of_neighbors(splits(15, 16))
    assert caplog.text == ""
    warn_of_neighbors(splits(16, 16))
    assert "1 of 8 validation images follow or precede a training image in the same clip (the first: img0016.png)" in (
        caplog.text
    )
