"""The predictor: batches do not matter, networks keep their mode, unreadable images follow the policy."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from semipose.data.crops import LazyCrops
from semipose.data.datasets import read_dataset
from semipose.data.formats.image_folder import read_folder
from semipose.errors import DataError
from semipose.inference.parameters import data_errors_for
from semipose.inference.predictor import Predictor, predict_dataset
from semipose.structures.instances import PoseDataset
from tests.inference.conftest import untrained


@pytest.fixture(scope="module")
def people():
    return read_dataset("people", None, "val").subset(range(7))


def predictor(*models, **options):
    first = models[0]
    return Predictor([m.network for m in models], first.criterion, sigma=first.loss.sigma, **options)


def test_one_prediction_per_person_in_their_order(model, people):
    crops = LazyCrops(people, model.geometry)
    found = predictor(model).predict(crops)
    assert [(p.image_id, p.annotation_id, p.box) for p in found] == [
        (p.image_id, p.annotation_id, p.box) for p in people.instances
    ]
    assert all(p.joints.dtype == np.float64 for p in found)
    assert all(p.crop_area == model.geometry.area(p.box) and p.box_score == 1 for p in found)
    small = predictor(model, batch=2).predict(crops)
    for one, other in zip(found, small, strict=True):
        np.testing.assert_allclose(one.joints, other.joints, atol=1e-3)


def test_persons_are_scored_by_their_peaks_and_their_box(model, people):
    detected = [replace(p, score=0.5) for p in people.instances]
    crops = LazyCrops(PoseDataset(people.skeleton, detected, "detections"), model.geometry)
    for p in predictor(model, instance_score="mean").predict(crops):
        assert p.score == pytest.approx(0.5 * p.scores.mean())
    for p in predictor(model).predict(crops):
        high = [peak for peak in p.scores if peak > 0.2]
        assert p.score == pytest.approx(0.5 * sum(high) / len(high) if high else 0.0)
        assert p.box_score == 0.5


def test_joints_without_labels_in_training_carry_nothing(model, people):
    crops, k = LazyCrops(people, model.geometry), people.skeleton.index("left_knee")
    others = np.arange(17) != k
    pairs = [
        predictor(model, instance_score="mean", **options).predict(crops)
        for options in ({}, {"unlearned_joints": ("left_knee",)})
    ]
    for usual, found in zip(*pairs, strict=True):
        assert found.scores[k] == 0
        np.testing.assert_array_equal(found.scores[others], usual.scores[others])
        assert found.score == pytest.approx(usual.scores[others].mean())


def test_networks_return_to_their_mode(model, people):
    model.network.train()
    predictor(model).predict(LazyCrops(people, model.geometry))
    assert model.network.training


def test_an_ensemble_of_equal_networks_is_the_network(model, people):
    crops = LazyCrops(people, model.geometry)
    one, two = predictor(model).predict(crops), predictor(model, untrained()).predict(crops)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.joints, b.joints, atol=1e-3)
    other = predictor(model, untrained(seed=1)).predict(crops)
    assert not any(np.array_equal(a.scores, b.scores) for a, b in zip(one, other, strict=True))


def test_unreadable_images_follow_the_policy(model, tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((40, 30, 3), 90, np.uint8))
    persons = read_folder(tmp_path, model.skeleton)
    (tmp_path / "b.png").write_bytes(b"broken")
    errors = data_errors_for("skip")
    found, failed = predict_dataset(model.predictor(), persons, model.geometry, errors, "images")
    assert [p.image_id for p in found] == [1]
    assert failed == {tmp_path / "b.png"}
    assert "1" in errors.describe()
    with pytest.raises(DataError, match="`on_error`"):
        predict_dataset(model.predictor(), persons, model.geometry, data_errors_for("strict"), "images")
