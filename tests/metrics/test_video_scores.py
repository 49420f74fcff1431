"""Scores of a video without labels, against loops over frames and joints."""

from itertools import pairwise

import numpy as np
import pytest

from semipose.metrics.video_scores import VideoScores, video_scores
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import infer_skeleton

SKELETON = infer_skeleton(["nose", "left_ear", "right_ear", "tail"])


def prediction(frame, joints, scores=(0.9, 0.9, 0.9, 0.9)):
    return Prediction(frame, None, np.array(joints, float), np.array(scores, float), 1.0, (0, 0, 100, 100))


def distance(a, b):
    return float(np.hypot(*(np.asarray(a) - np.asarray(b))))


def slow(found):
    """The definitions, with one pose in each frame."""
    sizes = [distance(p.joints.max(axis=0), p.joints.min(axis=0)) for p in found]
    limit, steps, swaps = np.median(sizes) / 5, [], []
    for before, after in pairwise(found):
        if after.image_id != before.image_id + 1:
            continue
        steps += [distance(a, b) for a, b in zip(after.joints, before.joints, strict=True)]
        (l0, r0), (l1, r1) = before.joints[1:3], after.joints[1:3]
        exchanged, kept = distance(r1, l0) + distance(l1, r0), distance(l1, l0) + distance(r1, r0)
        swaps.append(distance(l0, r0) > limit and exchanged < kept / 2)
    low = [score < 0.2 for p in found for score in p.scores]
    return np.median(steps), np.mean([step > limit for step in steps]), np.mean(swaps), np.mean(low)


def test_scores_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    base = np.array([[50, 20], [40, 10], [60, 10], [50, 90]])
    found = []
    for frame in [*range(30), *range(40, 60)]:
        joints = base + rng.normal(0, 2, (4, 2))
        if frame in (7, 45):
            joints[3] += 60
        if frame in (12, 50):
            joints[[1, 2]] = joints[[2, 1]]
        found.append(prediction(frame, joints, rng.uniform(0.05, 1, 4)))
    scores = video_scores(found, SKELETON)
    assert scores.frames == 50
    expected = slow(found)
    np.testing.assert_allclose((scores.movement, scores.jumps, scores.swaps, scores.low_scores), expected)
    assert scores.swaps == pytest.approx(4 / 48)
    assert 4 / 192 <= scores.jumps < 13 / 192


def test_frames_with_several_poses_are_not_followed_and_unlearned_joints_do_not_count():
    still = [[50, 20], [40, 10], [60, 10], [50, 90]]
    far = [[50, 20], [40, 10], [60, 10], [5000, 90]]
    known = (0.9, 0.1, 0.9, 0.0)
    found = [prediction(n, joints, known) for n, joints in ((0, still), (1, far), (2, still), (2, still), (4, still))]
    scores = video_scores(found, SKELETON)
    assert (scores.frames, scores.jumps, scores.movement, scores.swaps) == (4, 0.0, 0.0, 0.0)
    assert scores.low_scores == pytest.approx(1 / 3)


def test_without_neighboring_frames_there_is_nothing_to_count():
    assert video_scores([], SKELETON) == VideoScores(0, None, None, None, None)
    lone = video_scores([prediction(3, np.zeros((4, 2)))], SKELETON)
    assert lone == VideoScores(1, None, None, None, 0.0)
    assert lone.describe() == "1 frames: with a low score 0.0%"
    assert VideoScores(2, 1.5, 0.01, None, 0.5).describe() == (
        "2 frames: joints that jump 1.00%, with a low score 50.0%, median movement 1.5 px a frame"
    )
