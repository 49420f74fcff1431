"""The gain from unlabeled images is the difference of two scores, with the paired bootstrap's interval."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.metrics.bootstrap import differences
from semipose.metrics.gain import Gain, explain_harm, measure_gain
from semipose.metrics.matching import match_dataset
from semipose.metrics.pck import pck_torso
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import evaluated, ground_truth_as_predictions
from semipose.structures.skeletons import COCO, infer_skeleton
from tests.metrics.test_oks import crowd_scene, noisy


@pytest.fixture
def scene():
    rng = np.random.default_rng(1)
    truth = crowd_scene(rng, COCO, 40, 3)
    return truth, noisy(truth, rng, 1), noisy(truth, rng, 6)


def test_the_gain_is_the_difference_of_pck(scene):
    truth, better, worse = scene
    gain = measure_gain(truth, better, worse, "validation")
    ours, theirs = (pck_torso(match_dataset(truth, found)).total for found in (better, worse))
    assert gain.metric == "PCK@0.2"
    assert gain.value == pytest.approx(ours - theirs)
    paired = differences(match_dataset(truth, better), match_dataset(truth, worse))["PCK@0.2"]
    assert gain.interval == paired.interval
    measured = pck_torso(match_dataset(truth, better)).persons
    assert gain.persons == measured < int(evaluated(truth).sum())
    assert not gain.is_harm
    assert measure_gain(truth, worse, better, "validation").is_harm


def test_pixel_error_where_the_skeleton_has_no_pck():
    rng = np.random.default_rng(1)
    truth = crowd_scene(rng, infer_skeleton(["snout", "tail", "paw"], name="mouse"), 40, 3)
    better, worse = noisy(truth, rng, 1), noisy(truth, rng, 6)
    gain = measure_gain(truth, better, worse, "test")
    assert gain.metric == "pixel_error"
    assert gain.value < 0
    assert not gain.is_harm
    assert measure_gain(truth, worse, better, "test").is_harm


def test_pixel_error_where_few_persons_have_a_torso(scene):
    truth, better, worse = scene
    no_torso = np.arange(len(truth)) % 4 > 0
    shoulders = [truth.skeleton.joints.index(f"{side}_shoulder") for side in ("left", "right")]
    visibility = truth.instances.visibility.copy()
    visibility[np.ix_(no_torso, shoulders)] = 0
    few = PoseDataset(truth.skeleton, replace(truth.instances, visibility=visibility), "few torsos")
    gain = measure_gain(few, better, worse, "validation")
    assert (gain.metric, gain.persons) == ("pixel_error", int(evaluated(few).sum()))


def test_few_images_measure_nothing():
    truth = crowd_scene(np.random.default_rng(1), COCO, 5, 3)
    perfect = ground_truth_as_predictions(truth)
    assert measure_gain(truth, perfect, perfect, "validation") is None


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (
            Gain("PCK@0.2", 0.031, (0.02, 0.042), 400, "validation"),
            "unlabeled images: +3.1 PCK@0.2 over labels alone (95 % interval +2.0 to +4.2, 400 validation persons)",
        ),
        (
            Gain("PCK@0.2", 0.031, (0.02, 0.042), 9, "test", "the network at the start"),
            "unlabeled images: +3.1 PCK@0.2 over the network at the start (95 % interval +2.0 to +4.2, 9 test persons)",
        ),
        (
            Gain("pixel_error", -1.25, (-2.0, 0.5), 70, "test"),
            "unlabeled images: -1.2 px pixel error over labels alone (95 % interval -2.0 to +0.5 px, lower is better, "
            "70 test persons)",
        ),
    ],
)
def test_one_line(gain, text):
    assert gain.describe() == text


@pytest.mark.parametrize(
    ("labeled", "confidence", "reason"),
    [
        (10, 0.4, "40 % of those on labeled ones"),
        (10, 0.9, "10 labeled persons are few"),
        (200, 0.9, "min_peak"),
        (0, 0.9, "label some of them"),
    ],
)
def test_likely_reasons(labeled, confidence, reason):
    assert reason in explain_harm(labeled, confidence)
