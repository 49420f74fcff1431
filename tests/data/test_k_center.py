"""The greedy k-center choice, against a slow reference."""

import numpy as np
import pytest

from semipose.data.k_center import k_center


def slow(points, count, covered):
    """By the definition: the first nearest to the mean, then always the farthest from all chosen ones."""
    chosen = []

    def distance(a, b):
        return float(np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))))

    while len(chosen) < count:
        centers = [*covered, *(points[i] for i in chosen)]
        if centers:
            chosen.append(int(np.argmax([min(distance(p, c) for c in centers) for p in points])))
        else:
            chosen.append(int(np.argmin([distance(p, points.mean(axis=0)) for p in points])))
    return chosen


@pytest.mark.parametrize("covered", [0, 3])
def test_the_farthest_point_is_next(covered):
    rng = np.random.default_rng(0)
    points, known = rng.normal(size=(40, 5)), rng.normal(size=(covered, 5))
    chosen, alike = k_center(points, 12, covered=known)
    assert chosen == slow(points, 12, known)
    assert not alike.any()


def test_points_alike_to_a_chosen_one_are_not_chosen():
    points = np.array([[0.0, 0], [1, 1], [10, 0], [10.5, 0], [20, 0], [20, 1.5]])
    chosen, alike = k_center(points, 6, min_change=2)
    assert sorted(points[chosen, 0]) == [0 if 0 in chosen else 1, 10 if 2 in chosen else 10.5, 20]
    assert alike.sum() == 3
    assert k_center(points, 6, covered=points[:1], min_change=5)[1].tolist()[:2] == [True, True]


def test_no_more_than_there_are_and_no_point_twice():
    assert sorted(k_center(np.array([[1.0], [2.0]]), 9)[0]) == [0, 1]
    assert len(k_center(np.zeros((4, 2)), 3)[0]) == 1
    assert k_center(np.zeros((0, 2)), 3)[0] == []
