"""Warnings of images that a training shares with its validation and test sets."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from semipose.data.leakage import TrainingImages
from semipose.training.leakage import TrainingSets, training_images, warn_of_shared_images, with_images_before


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO)


def sets(labeled="ab", unlabeled="bc", validation="d", test="e"):
    """Sets of images whose digests are single letters."""

    def crops(letters):
        return SimpleNamespace(image_digests={Path(f"{letter}.jpg"): letter for letter in letters})

    evaluated = {"validation": validation, "test": test}
    evaluator = SimpleNamespace(image_digests=lambda which: crops(evaluated[which]).image_digests)
    return TrainingSets(crops(labeled), crops(unlabeled) if unlabeled else None, evaluator)


def test_each_image_has_one_purpose_in_a_training():
    assert training_images(sets()) == TrainingImages(("a", "b"), ("c",), ("d",))
    assert training_images(sets(unlabeled="")) == TrainingImages(("a", "b"), (), ("d",))


@pytest.mark.parametrize(
    ("shared", "held_out", "named"),
    [
        ({"test": "xc"}, True, "1 image of the test set (the first: c.jpg"),
        ({"validation": "ab"}, False, "2 images of the validation set"),
        ({"validation": "ab"}, True, ""),
        ({"validation": "c"}, False, "1 image of the validation set"),
        ({"validation": "c"}, True, ""),
        ({}, False, ""),
    ],
)
def test_shared_images_are_reported(caplog, shared, held_out, named):
    warn_of_shared_images(sets(**shared), held_out=held_out)
    assert named in caplog.text
    assert bool(named) == bool(caplog.text)


def test_changed_images_of_a_resumed_run_are_reported_and_the_old_ones_remembered(tmp_path, caplog):
    before = sets()
    training_images(before).write(tmp_path)
    now = sets(labeled="ax")
    images = with_images_before(training_images(now), tmp_path, before.hashes, now)
    assert "images of the labeled set changed since the run started (1 new image, the first: x.jpg)" in caplog.text
    assert images.labeled == ("a", "b", "x")
    caplog.clear()
    with_images_before(training_images(before), tmp_path, before.hashes, before)
    assert not caplog.text
