"""What a training logs before its first step."""

import logging
import shutil

from semipose.data.datasets import PEOPLE
from semipose.trainer import train


def test_unlabeled_images_without_a_use_are_reported(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tiny("single", **{"train.steps": 1, "data.labels": None}), tmp_path / "labels")
    assert "no unlabeled images" in caplog.text
    frames = tmp_path / "frames"
    frames.mkdir()
    shutil.copy(next((PEOPLE / "images").iterdir()), frames)
    train(tiny("supervised", **{"train.steps": 1, "data.unlabeled": str(frames)}), tmp_path / "unlabeled")
    assert "supervised uses labeled images only" in caplog.text


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
