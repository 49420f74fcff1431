"""Poses: one per person, by index and in a loop, and a short repr."""

import numpy as np

from semipose.structures.poses import Poses


def poses(n: int) -> Poses:
    scores = np.linspace(0.1, 0.9, n * 3).reshape(n, 3)
    return Poses(np.arange(n * 6.0).reshape(n, 3, 2), scores, np.ones((n, 4)), ("nose", "neck", "hip"))


def test_persons_by_index_and_in_a_loop() -> None:
    two = poses(2)
    assert len(two) == 2
    assert two[1].keypoints.tolist() == [[6, 7], [8, 9], [10, 11]]
    for n, (keypoints, scores, box) in enumerate(two):
        assert np.array_equal(keypoints, two.keypoints[n])
        assert np.array_equal(scores, two.scores[n])
        assert box.tolist() == [1, 1, 1, 1]


def test_the_repr_names_persons_joints_and_scores() -> None:
    assert repr(poses(1)) == "Poses(1 persons, 3 joints each; mean scores: 0.50)"
    assert repr(poses(0)) == "Poses(0 persons, 3 joints each; mean scores: none)"
    assert repr(poses(7)).endswith(", …)")
