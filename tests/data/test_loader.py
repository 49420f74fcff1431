"""Loaders: endless, every person once an epoch, a part for every process, joints in crop pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import read_dataset
from semipose.data.loader import IndexStream, PairedLoader, labeled_batch
from semipose.structures.batches import UnlabeledBatch


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_epoch_is_a_permutation(count, batch, seed):
    stream = IndexStream(count, batch, seed)
    visited = [i for step in range(3 * count // batch + 3) for i in stream.indices(step)]
    for epoch in range(len(visited) // count):
        assert sorted(visited[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4))
def test_processes_share_the_joint_batch(count, batch, world_size):
    joint = IndexStream(count, batch * world_size, 0)
    parts = [IndexStream(count, batch, 0, rank, world_size) for rank in range(world_size)]
    for step in range(5):
        assert joint.indices(step) == [i for part in parts for i in part.indices(step)]


def test_seeds_differ_and_repeat():
    orders = [IndexStream(100, 100, seed).indices(0) for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert IndexStream(100, 100, 0).indices(0) != IndexStream(100, 100, 0).indices(1)


@pytest.fixture(scope="module")
def crops():
    return LazyCrops(read_dataset("people", None).subset(range(10)), CropGeometry((64, 48)))


def test_joints_are_in_crop_pixels(crops):
    batch = labeled_batch(crops, [3, 7])
    assert batch.crops.shape == (2, 3, *crops.geometry.crop_size)
    assert batch.crops.dtype == torch.uint8
    for row, index in enumerate((3, 7)):
        person = crops.dataset[index]
        back = np.linalg.inv(crops.geometry.from_image(person.box))
        joints = batch.joints[row].double().numpy() @ back[:2, :2].T + back[:2, 2]
        np.testing.assert_allclose(joints, person.joints, atol=1e-3)
        np.testing.assert_array_equal(batch.weights[row].numpy(), person.visibility > 0)


def test_unlabeled_batches_have_no_joints(crops):
    loader = PairedLoader(crops, crops, batch=4, unlabeled_batch=3, seed=0)
    labeled, unlabeled = loader.load(0)
    assert isinstance(unlabeled, UnlabeledBatch)
    assert not {"joints", "weights"} & set(vars(unlabeled))
    assert (len(labeled), len(unlabeled)) == (4, 3)
    assert loader.steps_per_epoch == 4


def test_steps_come_in_order_and_resume(crops):
    loader = PairedLoader(crops, None, batch=4, unlabeled_batch=1, seed=0)
    whole = [labeled.crops for labeled, _ in loader.steps(0, 9)]
    rest = [labeled.crops for labeled, _ in loader.steps(6, 9)]
    assert len(whole) == 9
    for a, b in zip(whole[6:], rest, strict=True):
        assert torch.equal(a, b)
    assert loader.steps_per_epoch == 3
    assert all(unlabeled is None for _, unlabeled in loader.steps(0, 2))


def test_without_labels_labeled_batches_are_empty(crops):
    nobody = LazyCrops(crops.dataset.subset([]), crops.geometry)
    loader = PairedLoader(nobody, crops, batch=4, unlabeled_batch=3, seed=0)
    labeled, unlabeled = loader.load(5)
    assert (len(labeled), len(unlabeled), loader.steps_per_epoch) == (0, 3, 4)
    assert labeled.crops.shape == (0, 3, *crops.geometry.crop_size) and labeled.joints.shape == (0, 17, 2)
    assert [len(part) for part in labeled.split(3)] == [0, 0, 0]  # train.accumulate


def test_persons_without_labels_are_refused():
    persons = read_dataset("people", None).subset(range(2)).without_labels()
    with pytest.raises(ValueError, match="no labels"):
        labeled_batch(LazyCrops(persons, CropGeometry((64, 64))), [0])
