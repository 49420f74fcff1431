"""Calibration at the end of a training: kept with the weights, shown by predictions, and without effect on scores."""

import csv
import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import semipose
from semipose.data.crops import LazyCrops
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_results import load_predictions
from semipose.data.images import read_image
from semipose.inference.evaluation import evaluate
from semipose.inference.pose_model import load_pose_model
from semipose.inference.weights import read_description, read_weights, write_calibrations
from semipose.metrics.calibration import Calibration, CalibrationReport
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.trainer import train
from semipose.training.calibration import calibrate_weights
from tests.metrics.test_calibration import predicted

CALIBRATION = Calibration(slope=1.5, intercept=0.25)


@pytest.fixture
def calibrated(tiny, tmp_path, monkeypatch):
    """Two networks of two steps, whose peaks say nothing, with a given calibration of each and of the ensemble."""
    own = {"f1": CALIBRATION, "f2": Calibration(slope=2, intercept=0), "ensemble": Calibration(slope=3, intercept=1)}
    reports = {name: CalibrationReport(calibration) for name, calibration in own.items()}
    monkeypatch.setattr("semipose.training.calibration.calibrate_networks", lambda truth, predictions: reports)
    train(tiny("dual", **{"train.steps": 2}), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def raw(calibrated, tmp_path):
    """The same run without calibrations, as runs of before."""
    folder = shutil.copytree(calibrated, tmp_path / "raw")
    for path in (folder / "best.safetensors", *(folder / "weights").iterdir()):
        write_calibrations(path, {})
    return folder


def test_every_network_and_the_ensemble_are_calibrated(calibrated):
    for name, slope in (("f1", 1.5), ("f2", 2), ("ensemble", 3)):
        model = load_pose_model(calibrated, name)
        assert model.calibration.slope == slope
    best = json.loads((calibrated / "scores.json").read_text())["best"]
    assert load_pose_model(calibrated).calibration == load_pose_model(calibrated, best).calibration
    load_pose_model(calibrated).save(calibrated / "copy.safetensors")
    assert load_pose_model(calibrated / "copy.safetensors").calibrations == load_pose_model(calibrated).calibrations


def test_tensors_stay_as_they_are(calibrated, raw):
    for name in ("best.safetensors", "weights/f1.safetensors"):
        (_, first), (_, second) = read_weights(calibrated / name), read_weights(raw / name)
        assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_files_and_poses_have_confidences_and_the_same_joints(calibrated, raw, tmp_path):
    images = sorted((PEOPLE / "images").glob("*.jpg"))[:3]
    (tmp_path / "images").mkdir()
    for image in images:
        shutil.copy(image, tmp_path / "images")
    found = {}
    for name, run in (("after", calibrated), ("before", raw)):
        written = semipose.predict(load_pose_model(run, "f1"), tmp_path / "images", out=tmp_path / f"{name}.csv")
        rows = list(csv.reader(written[0].read_text().splitlines()))[3:]
        found[name] = np.array([row[1:] for row in rows], float).reshape(3, -1, 3)
        semipose.predict(load_pose_model(run, "f1"), tmp_path / "images", out=tmp_path / f"{name}.json")
    skeleton = load_pose_model(raw).skeleton
    after, before = (load_predictions(tmp_path / f"{name}.json", skeleton) for name in ("after", "before"))
    np.testing.assert_array_equal(found["after"][..., :2], found["before"][..., :2])
    for row, new, old in zip(found["after"], after, before, strict=True):
        peaks = old.scores
        expected = 1 / (1 + np.exp(-1.5 * peaks - 0.25))
        np.testing.assert_allclose(new.confidences, expected, rtol=1e-12)
        np.testing.assert_allclose(row[:, 2], expected, atol=1e-3)
        np.testing.assert_array_equal(new.scores, peaks)
        np.testing.assert_array_equal(new.joints, old.joints)
        assert (new.score, old.calibrated) == (old.score, None)
    image = read_image(images[0])
    poses = [load_pose_model(run, "f1").predict(image) for run in (calibrated, raw)]
    np.testing.assert_array_equal(poses[0].keypoints, poses[1].keypoints)
    np.testing.assert_allclose(poses[0].scores, CALIBRATION.confidences(poses[1].scores))


def test_evaluations_are_equal_bit_for_bit(calibrated, raw, small_people, tmp_path):
    data = {"data": small_people, "images": PEOPLE / "images"}
    for kind in ("rescored", "mean"):
        scores = [evaluate(run, **data, instance_score=kind).scores for run in (calibrated, raw)]
        assert scores[0] == scores[1]
    files = []
    for run in (calibrated, raw):
        found = tmp_path / f"{run.name}.json"
        semipose.predict(run, small_people, images=PEOPLE / "images", out=found)
        files.append(evaluate(found, **data, instance_score="rescored").scores)
    assert files[0] == files[1] == evaluate(raw, **data, instance_score="rescored").scores


def test_joints_without_labels_keep_the_score_0(calibrated):
    model = load_pose_model(calibrated, "f1")
    predictor = replace(model.predictor(), unlearned_joints=("nose",))
    persons = read_dataset("people", None, "val").subset(range(2))
    found = predictor.predict(LazyCrops(persons, model.geometry))
    assert [p.confidences[0] for p in found] == [0, 0]
    assert all((p.confidences[1:] > 0).all() for p in found)


def test_a_run_without_validation_has_peaks_and_says_so(tiny, tmp_path, caplog, small_people):
    caplog.set_level(logging.INFO)
    line = "scores are peaks of the heatmap, not calibrated: no validation labels"
    train(tiny("supervised", **{"train.steps": 2, "data.validation": 0}), tmp_path / "no_scores")
    assert line in caplog.messages
    caplog.clear()
    test_set = {"data.test": str(small_people), "data.test_images": str(PEOPLE / "images"), "data.validation": 0}
    train(tiny("supervised", **test_set, **{"train.steps": 2}), tmp_path / "run")
    assert line in caplog.messages
    content = json.loads((tmp_path / "run" / "scores.json").read_text())["calibration"]
    assert (content["calibration"], content["reason"]) == (None, "no validation labels")
    model = load_pose_model(tmp_path / "run")
    assert model.calibration is None
    assert model.describe_scores() == line


def test_predictions_repeat_why_the_training_has_no_calibration(tiny, tmp_path, monkeypatch):
    """Before, they said that the weights keep none; weights of before still say so."""
    reports = {name: CalibrationReport(None, f"of {name}") for name in ("f1", "f2", "ensemble")}
    monkeypatch.setattr("semipose.training.calibration.calibrate_networks", lambda truth, predictions: reports)
    train(tiny("dual", **{"train.steps": 2}), tmp_path / "run")
    for name in reports:
        text = load_pose_model(tmp_path / "run", name).describe_scores()
        assert text == f"scores are peaks of the heatmap, not calibrated: of {name}"
    load_pose_model(tmp_path / "run", "f1").save(tmp_path / "copy.safetensors")
    assert load_pose_model(tmp_path / "copy.safetensors").describe_scores().endswith("not calibrated: of f1")
    write_calibrations(tmp_path / "copy.safetensors", {})
    assert "the weights keep no calibration" in load_pose_model(tmp_path / "copy.safetensors").describe_scores()


def test_validation_persons_calibrate_a_run_that_is_tested_on_others_and_a_resumed_one_anew(
    tiny, tmp_path, monkeypatch, small_people
):
    """The predictions for the persons of either set are made up, so that a network of two steps can be calibrated."""
    test_set = {"data.test": str(small_people), "data.test_images": str(PEOPLE / "images"), "data.validation": 20}
    seeds = {20: 1, 60: 2}

    def predict(self, crops, networks):
        return predicted(crops.dataset, seeds[len(crops.dataset)])

    def train_to(steps, folder, **options):
        return train(tiny("supervised", **test_set, **{"train.steps": steps}), folder, **options)

    monkeypatch.setattr("semipose.training.evaluator.Evaluator.predict", predict)
    train_to(2, tmp_path / "run")
    first = read_description(tmp_path / "run" / "best.safetensors").calibrations["f"]
    content = json.loads((tmp_path / "run" / "scores.json").read_text())["calibration"]
    assert (content["persons"], content["calibration"]) == (20, first.model_dump())
    seeds[20] = 3
    train_to(4, tmp_path / "run", resume=True)
    again = read_description(tmp_path / "run" / "weights" / "f.safetensors").calibrations["f"]
    assert again != first
    assert again == read_description(tmp_path / "run" / "best.safetensors").calibrations["f"]


def test_a_calibration_does_not_outlive_the_labels_that_it_was_fitted_to(calibrated, raw, monkeypatch):
    monkeypatch.undo()
    truth = read_dataset("people", None, "val").subset(range(12))
    for run in (calibrated, raw):
        report = calibrate_weights(run, truth, {"f1": ground_truth_as_predictions(truth)}, "f1")
        assert "validation joints are right" in report.reason
        assert load_pose_model(run).calibrations == {}
    untouched = (raw / "best.safetensors").stat().st_mtime_ns
    calibrate_weights(raw, truth, {"f1": ground_truth_as_predictions(truth)}, "f1")
    assert (raw / "best.safetensors").stat().st_mtime_ns == untouched
