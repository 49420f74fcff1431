"""The median filter over time, against a loop over frames and joints."""

import numpy as np
import pytest

from semipose.errors import ConfigError
from semipose.inference.smoothing import check_smoothing, median_filter
from semipose.structures.predictions import Prediction


def prediction(frame, joints):
    return Prediction(frame, None, np.asarray(joints, float), np.full(len(joints), 0.5), 1.0, (0, 0, 9, 9))


def test_joints_are_the_median_of_the_frames_around():
    rng = np.random.default_rng(0)
    frames = [0, 1, 2, 3, 6, 7, 20]
    found = [prediction(frame, rng.normal(size=(3, 2))) for frame in frames]
    smoothed = median_filter(found, 5)
    for p, original in zip(smoothed, found, strict=True):
        near = [q.joints for q in found if abs(q.image_id - p.image_id) <= 2]
        expected = [[sorted(j[k][c] for j in near) for c in range(2)] for k in range(3)]
        middle = [[(v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2 for v in joint] for joint in expected]
        np.testing.assert_allclose(p.joints, middle)
        assert p.image_id == original.image_id
        assert p.scores is original.scores


def test_a_joint_that_is_wrong_in_one_frame_is_corrected():
    found = [prediction(n, [[n, 5.0]]) for n in range(9)]
    found[4].joints[0] = 900, -900
    np.testing.assert_allclose([p.joints[0] for p in median_filter(found, 3)][3:6], [[3, 5], [5, 5], [6, 5]])
    assert median_filter([], 3) == []


def test_what_can_not_be_smoothed_is_refused():
    with pytest.raises(ConfigError, match="`smooth` is 4"):
        check_smoothing(4)
    with pytest.raises(ConfigError, match="one person, and frames have several boxes"):
        check_smoothing(3, several=True)
    check_smoothing(3)
