"""The predictor: batches and 16 bit do not matter, networks keep their mode, unreadable images follow the policy."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from semipose.data.crops import LazyCrops
from semipose.data.datasets import read_dataset
from semipose.data.formats.image_folder import read_folder
from semipose.errors import DataError, RunError
from semipose.inference.parameters import data_errors_for
from semipose.inference.pose_model import load_pose_model
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


def assert_equal_joints(found, expected, atol=0.0):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.joints, other.joints, rtol=0, atol=atol)
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=atol)


def test_batches_are_halved_until_they_fit_the_memory(model, people, monkeypatch, caplog):
    """A GPU for three persons at a time, and one for none."""
    crops, heatmaps, sizes = LazyCrops(people, model.geometry), Predictor.heatmaps, []
    expected, most = predictor(model, batch=1).predict(crops), 3

    def limited(self, view, flip_order):
        sizes.append(len(view))
        if len(view) > most:
            raise torch.OutOfMemoryError
        return heatmaps(self, view, flip_order)

    monkeypatch.setattr(Predictor, "heatmaps", limited)
    ours = predictor(model)
    assert_equal_joints(ours.predict(crops), expected, 1e-3)
    assert sizes == [7, 3, 3, 1]
    assert [r.message for r in caplog.records] == ["7 persons at a time do not fit the memory of cpu; now 3"]
    sizes.clear()
    ours.predict(crops)
    assert sizes == [3, 3, 1]
    most = 0
    with pytest.raises(RunError, match="one person at 64×64 does not fit the memory of cpu; set `device` to cpu"):
        predictor(model).predict(crops)


def test_features_are_computed_in_halves_that_fit_the_memory(model, people, monkeypatch, caplog):
    """A GPU for three persons at a time."""
    crops, forward = LazyCrops(people, model.geometry), type(model.network.backbone).forward
    expected = predictor(model, batch=1).features(crops)

    def limited(self, images):
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return forward(self, images)

    monkeypatch.setattr(type(model.network.backbone), "forward", limited)
    found = predictor(model).features(crops)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert [r.message for r in caplog.records] == ["7 persons at a time do not fit the memory of cpu; now 3"]


def test_a_gpu_predicts_in_16_bit_unless_the_protocol_says_32():
    cuda = torch.device("cuda", 0)
    assert Predictor([], None, device=cuda).in_16_bit
    assert not Predictor([], None, device=cuda, precision="32-true").in_16_bit
    assert not any(Predictor([], None, device=torch.device(name)).in_16_bit for name in ("cpu", "mps"))


@pytest.mark.slow
def test_16_bit_move_joints_little(trained_run, people, monkeypatch):
    """The trained network has peaks where an error of rounding cannot exchange the highest cells."""
    model = load_pose_model(trained_run)
    crops = LazyCrops(people, model.geometry)
    expected = model.predictor().predict(crops)
    monkeypatch.setattr(Predictor, "in_16_bit", property(lambda self: not self.limits.overflow))
    ours = model.predictor()
    found = ours.predict(crops)
    moved = np.array([np.linalg.norm(a.joints - b.joints, axis=-1) for a, b in zip(found, expected, strict=True)])
    assert 0 < np.median(moved) < 0.2
    assert ours.in_16_bit


def test_values_that_overflow_in_16_bit_are_computed_in_32(model, people, monkeypatch, caplog):
    with torch.no_grad():
        model.network.heads[0].final.weight *= 1e8
    crops = LazyCrops(people, model.geometry)
    expected = predictor(model, batch=3).predict(crops)
    monkeypatch.setattr(Predictor, "in_16_bit", property(lambda self: not self.limits.overflow))
    found = predictor(model, batch=3).predict(crops)
    assert_equal_joints(found, expected)
    assert [r.message for r in caplog.records] == ["heatmaps overflow in 16 bit; they are computed in 32 bit"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_in_16_bit_finds_the_joints_of_32(trained_run, people):
    model = load_pose_model(trained_run).to("cuda")
    crops = LazyCrops(people, model.geometry)
    half, full = (replace(model, precision=p).predictor().predict(crops) for p in ("auto", "32-true"))
    moved = np.array([np.linalg.norm(a.joints - b.joints, axis=-1) for a, b in zip(half, full, strict=True)])
    assert 0 < np.median(moved) < 0.2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_are_halved_on_a_gpu_whose_memory_is_full(trained_run, people, monkeypatch, gpu_memory, caplog):
    """The heatmaps of 1,400 persons do not fit 64 MiB."""
    model, fitting = load_pose_model(trained_run).to("cuda"), Predictor._fitting
    crops = LazyCrops(people.subset([*range(7)] * 200), model.geometry)
    expected = model.predictor().predict(crops)

    def limited(*given):
        with gpu_memory(64):
            return fitting(*given)

    monkeypatch.setattr(Predictor, "_fitting", limited)
    ours = replace(model.predictor(), batch=1400)
    found = ours.predict(crops)
    assert ours.limits.batch < 1400
    assert caplog.records[0].message == "1400 persons at a time do not fit the memory of cuda:0; now 700"
    moved = [np.linalg.norm(a.joints - b.joints, axis=-1) for a, b in zip(found, expected, strict=True)]
    assert np.median(moved) < 0.2


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
