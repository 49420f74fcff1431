"""Calibration against slow references: the fit, the reliability diagram, right joints, and what can't be fitted."""

import math
from dataclasses import replace

import numpy as np
import pytest

from semipose.data.datasets import read_dataset
from semipose.metrics.calibration import Calibration, Reliability, calibrate, calibrate_networks, fit
from semipose.metrics.matching import match_dataset
from semipose.metrics.pck import pck_torso
from semipose.structures.predictions import ground_truth_as_predictions


def joints(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of which the higher ones are more often right."""
    rng = np.random.default_rng(seed)
    peaks = rng.uniform(0.02, 1.4, count)
    return peaks, rng.random(count) < peaks / 2


def negative_log_likelihood(slope: float, intercept: float, peaks, right) -> float:
    """One joint after the other, with Platt's targets."""
    positive = sum(bool(r) for r in right)
    total = 0.0
    for peak, is_right in zip(peaks.tolist(), right.tolist(), strict=True):
        target = (positive + 1) / (positive + 2) if is_right else 1 / (len(right) - positive + 2)
        odds = math.exp(slope * peak + intercept)
        total += target * math.log1p(1 / odds) + (1 - target) * math.log1p(odds)
    return total


@pytest.mark.parametrize("count", [12, 60])
@pytest.mark.parametrize("separable", [False, True])
def test_the_fit_is_the_maximum_that_a_search_by_grids_finds(count, separable):
    peaks, right = joints(count)
    right = peaks > 0.6 if separable else right
    best, width = (0.0, 0.0), 16.0
    while width > 1e-5:
        around = [width * i / 4 for i in range(-4, 5)]
        tried = [(best[0] + a, best[1] + b) for a in around for b in around]
        best, before = min(tried, key=lambda t: negative_log_likelihood(*t, peaks, right)), best
        width *= 0.5 if best == before else 1
    found = fit(peaks, right)
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx(best, abs=1e-4)


def test_confidences_rise_with_the_peak_within_0_and_1():
    found = fit(*joints(60))
    confidences = found.confidences(np.array([-0.1, 0.0, 0.01, 0.3, 0.9, 1.0, 1.2, 14.0, 1e9]))
    assert (np.diff(confidences[:-1]) > 0).all()
    assert confidences[0] > 0
    assert confidences[-1] == 1
    assert confidences[1] == pytest.approx(1 / (1 + math.exp(-found.intercept)))
    assert Calibration(slope=500, intercept=0).confidences(np.array([-9.0, 9.0])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("peaks", "right"),
    [
        (np.linspace(0.1, 1, 20), np.ones(20, bool)),
        (np.linspace(0.1, 1, 20), np.zeros(20, bool)),
        (np.linspace(0.1, 1, 9), np.arange(9) > 4),
        (np.full(20, 0.5), np.arange(20) > 9),
        (np.linspace(0.1, 1, 20), np.arange(20) < 9),
        (np.zeros(0), np.zeros(0, bool)),
    ],
    ids=["all right", "all wrong", "nine joints", "one peak", "higher is worse", "none"],
)
def test_nothing_is_fitted_where_peaks_say_nothing(peaks, right):
    assert fit(peaks, right) is None


def test_reliability_is_that_of_a_plain_loop():
    rng = np.random.default_rng(1)
    confidences, right = rng.uniform(-0.1, 1.3, 300), rng.random(300) < 0.5
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(10)]
    for confidence, is_right in zip(confidences.tolist(), right.tolist(), strict=True):
        limited = min(max(confidence, 0.0), 1.0)
        bins[min(int(limited * 10), 9)].append((limited, is_right))
    rows = [(len(b), sum(c for c, _ in b) / len(b), sum(r for _, r in b) / len(b)) for b in bins if b]
    found = Reliability.of(confidences, right)
    np.testing.assert_allclose(found.bins, rows)
    assert found.error == pytest.approx(sum(n * abs(c - r) for n, c, r in rows) / 300)
    assert Reliability.of(np.array([0.25, 0.25, 0.25, 0.25]), np.array([True, False, False, False])).error == 0


def predicted(truth, seed: int = 0):
    """Predictions of which the joints with higher peaks are nearer to the labels, and which joints are wrong."""
    rng = np.random.default_rng(seed)
    found = []
    for p in ground_truth_as_predictions(truth):
        peaks = rng.uniform(0.02, 1.4, len(p.joints))
        moved = np.where(rng.random(len(peaks)) < peaks / 2, 0.0, 1000.0)
        found.append(replace(p, joints=p.joints + moved[:, None], scores=peaks))
    return found


def test_right_joints_are_those_of_pck_and_halves_of_the_images_are_scored_by_the_other_half():
    truth = read_dataset("people", None, "val").subset(range(40))
    data = match_dataset(truth, predicted(truth))
    report = calibrate(data)
    peaks, right, half = [], [], []
    for n, (person, p) in enumerate(zip(truth.instances, data.matched, strict=True)):
        for k in np.flatnonzero(person.visibility > 0):
            peaks.append(p.scores[k])
            right.append(np.hypot(*(p.joints[k] - person.joints[k])) == 0)
            half.append(n % 2)  # one person an image
    peaks, right, half = np.array(peaks), np.array(right), np.array(half)
    assert pck_torso(data).total == pytest.approx(right.mean())
    assert (report.joints, report.persons) == (len(right), 40)
    assert report.calibration == fit(peaks, right)
    assert report.before == Reliability.of(peaks, right)
    folds = [fit(peaks[half == 1], right[half == 1]), fit(peaks[half == 0], right[half == 0])]
    crossed = np.array([folds[h].confidences(np.array([p]))[0] for p, h in zip(peaks, half, strict=True)])
    assert report.after.error == pytest.approx(Reliability.of(crossed, right).error)
    assert report.after.error < report.before.error / 2
    assert "fitted to" in report.describe()
    assert report.as_dict()["calibration"] == report.calibration.model_dump()


def test_without_a_torso_the_length_of_the_pose_decides():
    truth = read_dataset("people", None, "val").subset(range(40))
    k = truth.skeleton.find("nose")
    truth = truth.without_joints([j for j in truth.skeleton.joints if "hip" in j])
    assert pck_torso(match_dataset(truth, predicted(truth))).total is None
    predictions = []
    for n, (person, p) in enumerate(zip(truth.instances, predicted(truth), strict=True)):
        known = person.joints[person.visibility > 0]
        side, joints = np.ptp(known, axis=0).max(), person.joints.copy()
        joints[k, 0] += side * (0.099 if n % 4 < 2 else 0.101)
        predictions.append(replace(p, joints=joints, scores=np.full(len(joints), 0.9 if n % 4 < 2 else 0.3)))
    report = calibrate(match_dataset(truth, predictions))
    assert report.criterion == "within 0.1 × the longer side of the pose"
    wrong = sum(person.visibility[k] > 0 for n, person in enumerate(truth.instances) if n % 4 >= 2)
    total = report.before.bins
    assert sum(n * (1 - share) for n, _, share in total) == pytest.approx(wrong)


def test_the_reason_is_given_where_nothing_is_calibrated():
    truth = read_dataset("people", None, "val").subset(range(12))
    right = ground_truth_as_predictions(truth)
    unlabeled = truth.without_joints(truth.skeleton.joints)
    few = truth.without_joints(truth.skeleton.joints[2:])
    assert calibrate_networks(None, {"f": right})["f"].describe() == (
        "scores are peaks of the heatmap, not calibrated: no validation labels"
    )
    for persons, predictions, reason in (
        (truth, right, "validation joints are right"),
        (truth, [replace(p, joints=p.joints + 1000) for p in right], "validation joints are wrong"),
        (unlabeled, right, "no validation labels"),
        (truth, [], "no validation labels"),
        (few.subset([0, 1]), right[:2], "only 2 labeled validation persons, 10 are needed"),
        (truth.subset(range(9)), predicted(truth)[:9], "only 9 labeled validation persons"),
    ):
        report = calibrate_networks(persons, {"f": predictions})["f"]
        assert report.calibration is None
        assert reason in report.reason
        assert report.as_dict()["calibration"] is None
