"""The picture of the demo: which joints are wrong, which persons are drawn, and what is drawn of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from semipose.data.datasets import read_dataset
from semipose.inference.draw import RED
from semipose.studies import demo_picture
from semipose.studies.demo_picture import DIFFERENCE, PERSONS, draw_persons, wrong_joints


@pytest.fixture(scope="module")
def truth():
    return read_dataset("gym", None, "val")


def poses(joints):
    return SimpleNamespace(keypoints=joints[None], scores=np.ones((1, len(joints))))


def test_joints_are_wrong_by_pck_and_get_a_ring(truth):
    person, names = truth[3], list(truth.skeleton.joints)
    a, b = (
        person.joints[[names.index(j) for j in pair]]
        for pair in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
    )
    limit = 0.2 * max(np.linalg.norm(a[0] - a[1]), np.linalg.norm(b[0] - b[1]))
    labeled, networks = person.visibility > 0, []
    for shift, expected in (([0.9 * limit, 0.0], 0 * labeled), ([0.0, 1.1 * limit], labeled)):
        wrong = wrong_joints(truth, 3, person.joints + shift)
        np.testing.assert_array_equal(wrong, expected.astype(bool))
        networks.append((poses(person.joints + shift), wrong))
    tiles = demo_picture._row(truth, 3, networks)
    side = tiles[0].shape[0]
    assert {tile.shape for tile in tiles} == {(side, side, 3)}
    assert (tiles[2] == RED).all(axis=-1).sum() > (tiles[1] == RED).all(axis=-1).sum()


def test_persons_are_drawn_from_those_on_whom_the_networks_differ():
    difference = np.zeros(100, int)
    difference[10:30] = np.tile([DIFFERENCE, -DIFFERENCE], 10)
    difference[30:] = DIFFERENCE - 1
    chosen, least = draw_persons(difference)
    assert (len(set(chosen)), chosen, least) == (PERSONS, sorted(chosen), DIFFERENCE)
    assert set(chosen) < set(range(10, 30))
    chosen, least = draw_persons(np.append(np.full(PERSONS - 1, DIFFERENCE), np.zeros(50, int)))
    assert (len(chosen), least) == (PERSONS, 0)
    assert draw_persons(np.zeros(3, int)) == ([0, 1, 2], 0)
