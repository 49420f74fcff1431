"""Batches: devices and lengths."""

from dataclasses import fields

import pytest
import torch

from semipose.structures.batches import LabeledBatch, UnlabeledBatch


@pytest.fixture(params=["labeled", "unlabeled"])
def batch(request):
    crops, to_input = torch.zeros(2, 3, 8, 6, dtype=torch.uint8), torch.eye(3).repeat(2, 1, 1)
    if request.param == "unlabeled":
        return UnlabeledBatch(crops, to_input)
    return LabeledBatch(crops, to_input, torch.rand(2, 5, 2), torch.ones(2, 5))


def test_length_is_the_number_of_persons(batch):
    assert len(batch) == 2


def test_to_moves_every_tensor(batch):
    moved = batch.to(torch.device("meta"))
    assert type(moved) is type(batch)
    for field in fields(batch):
        tensor = getattr(moved, field.name)
        assert tensor.device.type == "meta"
        assert tensor.shape == getattr(batch, field.name).shape


def test_split_divides_every_tensor(batch):
    parts = batch.split(2)
    assert [len(part) for part in parts] == [1, 1]
    for field in fields(batch):
        assert torch.equal(torch.cat([getattr(part, field.name) for part in parts]), getattr(batch, field.name))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_pin_memory_pins_every_tensor(batch):
    pinned = batch.pin_memory()
    assert all(getattr(pinned, field.name).is_pinned() for field in fields(batch))
