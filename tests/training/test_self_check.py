"""The check of an adaptation compares confident joints with those of the network at the start."""

import numpy as np
import pytest

from semipose.structures.predictions import Prediction
from semipose.training.self_check import SelfCheck, compare


def poses(joints: np.ndarray, scores: np.ndarray) -> list[Prediction]:
    rows = zip(joints, scores, strict=True)
    return [Prediction(n, n, j, s, 1.0, (0.0, 0.0, 9.0, 9.0)) for n, (j, s) in enumerate(rows)]


def test_the_measurements_are_those_of_a_slow_reference():
    rng = np.random.default_rng(0)
    joints, scores, later = rng.uniform(0, 99, (20, 5, 2)), rng.uniform(0, 1, (20, 5)), rng.uniform(0, 1, (20, 5))
    moved, sides = joints + rng.normal(0, 6, joints.shape), rng.uniform(40, 120, 20)
    sure = near = before = after = 0
    for n in range(20):
        for k in range(5):
            before += scores[n, k] >= 0.5
            after += later[n, k] >= 0.5
            if scores[n, k] >= 0.5:
                sure += 1
                near += ((joints[n, k] - moved[n, k]) ** 2).sum() ** 0.5 <= 0.1 * sides[n]
    found = compare(poses(joints, scores), poses(moved, later), sides.tolist(), 0.5)
    assert found.confident_before == pytest.approx(before / 100)
    assert found.confident == pytest.approx(after / 100)
    assert found.agreement == pytest.approx(near / sure)
    assert 0.3 < found.agreement < 1 and found.persons == 20


def test_nothing_confident_at_the_start_agrees():
    joints, scores = np.zeros((3, 2, 2)), np.full((3, 2), 0.1)
    assert compare(poses(joints, scores), poses(joints + 50, scores), [9.0] * 3, 0.5) == SelfCheck(0, 0, 1, 3)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (SelfCheck(0.6, 0.8, 0.9, 10), None),
        (SelfCheck(0.6, 0.43, 0.9, 10), None),
        (SelfCheck(0.6, 0.41, 0.9, 10), "collapse"),
        (SelfCheck(0.6, 0.8, 0.79, 10), "drift"),
        (SelfCheck(0.6, 0.8, 0.81, 10), None),
        (SelfCheck(0.0, 0.0, 1.0, 10), "no joint is confident"),
    ],
)
def test_what_is_a_fault(check, fault):
    assert check.fault is None if fault is None else fault in check.fault
    assert "10 held-out persons" in check.describe()
