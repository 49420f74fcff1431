"""Uncertainty: ranks of scores, disagreement and jumps, against loops."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.inference.uncertainty import second_opinion, uncertainty
from semipose.structures.predictions import Prediction
from tests.inference.conftest import untrained


def prediction(image, joints, scores):
    return Prediction(image, None, np.asarray(joints, float), np.asarray(scores, float), 1.0, (0, 0, 8, 2))


def random_predictions(rng, images):
    return [prediction(i, rng.normal(size=(3, 2)), [*rng.uniform(0.1, 1, 2), 0]) for i in images]


def slow_rank(values, value):
    """The share of the other values that are lower; equal ones count half."""
    others = len(values) - 1
    below, equal = sum(v < value for v in values), sum(v == value for v in values) - 1
    return (below + equal / 2) / others


def test_ranks_are_averaged():
    rng = np.random.default_rng(0)
    images = [0, 1, 2, 2, 3, 4, 5]
    found, opinions = random_predictions(rng, images), random_predictions(rng, images)
    around = {
        0: random_predictions(rng, ["x", "y"]),
        2: random_predictions(rng, ["x"]),
        4: random_predictions(rng, "z"),
    }
    around[5] = []

    def distance(p, q):
        return np.mean([np.hypot(*(p.joints[k] - q.joints[k])) for k in range(2)]) / 4  # the third is not learned

    names = sorted(set(images))
    low = {i: max(-p.scores[:2].mean() for p in found if p.image_id == i) for i in names}
    apart = {i: max(distance(p, q) for p, q in zip(found, opinions, strict=True) if p.image_id == i) for i in names}
    jumps = {i: max(distance(p, q) for p in found if p.image_id == i for q in around[i]) for i in (0, 4)}
    for given, signals in (((), [low]), ((opinions,), [low, apart]), ((opinions, around), [low, apart, jumps])):
        values = uncertainty(found, *given)
        for i in names:
            expected = np.mean([slow_rank(list(s.values()), s[i]) for s in signals if i in s])
            assert values[i] == pytest.approx(expected)
    assert uncertainty([]) == {}


def test_equal_predictions_have_equal_ranks():
    same = [prediction(i, np.zeros((2, 2)), [0.5, 0.5]) for i in range(4)]
    assert set(uncertainty(same, same).values()) == {0.5}


def test_the_second_opinion_is_another_network_or_the_mirrored_image():
    first, second = untrained(0), untrained(1)
    ensemble = replace(first, ensemble_members=(second,)).predictor()
    assert second_opinion(ensemble, True).networks == (first.network,)
    assert second_opinion(first.predictor(), True).flip_test
    assert not second_opinion(first.predictor(flip_test=True), True).flip_test
    assert second_opinion(first.predictor(), False) is None


def test_scores_that_are_all_zero_rank_nothing():
    found = [prediction(i, np.zeros((3, 2)), np.zeros(3)) for i in range(3)]
    assert uncertainty(found, found) == {0: 0.5, 1: 0.5, 2: 0.5}
