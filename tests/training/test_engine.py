"""What an optimizer step does: precision, clipping, scaled losses, steps that are left out."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from semipose.methods.base import Losses, StepInfo
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.training.engine import Engine, seed_everything
from tests.training.line import Line

CPU = torch.device("cpu")
INFO = StepInfo(0, 1)


def step(engine, clip=None):
    return bool(engine.step(engine.losses(None, None, INFO).total, clip))


@pytest.mark.parametrize(("clip", "moved"), [(None, -100.0), (1.0, -1.0), (1000.0, -100.0)])
def test_the_gradient_is_clipped(clip, moved):
    method = Line(slope=100.0, weight=0.0)
    assert step(Engine(method, torch.optim.SGD(method.parameters(), lr=1.0), CPU), clip)
    assert method.weight.item() == pytest.approx(moved, rel=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_scaled_gradients_are_clipped_as_unscaled_ones(fp16_scale, fused):
    fp16_scale(1024.0)
    method = Line(slope=100.0, weight=0.0)
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0, fused=fused)
    step(Engine(method, optimizer, CPU, "16-mixed"), 1.0)
    assert method.weight.item() == pytest.approx(-1.0, rel=1e-4)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("slope", "offset"), [(math.nan, 0.0), (1.0, math.inf)])
def test_a_step_whose_loss_or_gradient_is_not_finite_is_left_out(fused, slope, offset):
    method = Line(slope=1.0)
    optimizer = torch.optim.Adam(method.parameters(), lr=1.0, fused=fused)
    engine = Engine(method, optimizer, CPU)
    method.slope, method.offset = slope, offset
    assert not step(engine)
    assert method.weight.item() == 1.0
    method.slope, method.offset = 1.0, 0.0
    assert step(engine)
    assert method.weight.item() == pytest.approx(0.0, abs=1e-6)


def test_fp16_halves_its_scale_for_a_gradient_that_overflows(fp16_scale):
    fp16_scale(4.0)
    method = Line(slope=math.inf)
    engine = Engine(method, torch.optim.SGD(method.parameters(), lr=1.0), CPU, "16-mixed")
    assert not step(engine)
    assert (engine.scaler.get_scale(), method.weight.item()) == (2.0, 1.0)


class Layer(Line):
    """A method that records the type that its layer computes in."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def losses(self, labeled, unlabeled, info):
        found = self.layer(torch.randn(2, 3))
        self.dtype = found.dtype
        return Losses.from_terms(line=found.float().sum())


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)]
)
def test_losses_are_computed_in_the_precision_of_the_training_and_scores_in_32_bit(precision, dtype):
    method = Layer()
    engine = Engine(method, torch.optim.Adam(method.parameters()), CPU, precision)
    step(engine)
    assert method.dtype is dtype
    with engine.inference():
        method.losses(None, None, INFO)
        assert not torch.is_grad_enabled()
    assert method.dtype is torch.float32


class Regression(Line):
    """A method whose loss is a mean over its batches, and that counts its passes."""

    def __init__(self):
        super().__init__()
        self.layer, self.passes = nn.Linear(2, 1), []

    def losses(self, labeled, unlabeled, info):
        self.passes.append((len(labeled), len(unlabeled or ())))
        terms = {"labeled": self.layer(labeled.joints.mean(dim=1)).square().mean()}
        if unlabeled is not None:
            terms["unlabeled"] = self.layer(unlabeled.to_input[:, 0, :2]).mean()
        return Losses.from_terms(**terms)


@pytest.mark.parametrize("with_unlabeled", [True, False])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(with_unlabeled, clip):
    torch.manual_seed(0)
    crops = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    labeled = LabeledBatch(crops, torch.rand(6, 3, 3), torch.randn(6, 5, 2), torch.ones(6, 5))
    unlabeled = UnlabeledBatch(crops, torch.rand(6, 3, 3)) if with_unlabeled else None
    found = {}
    for parts in (1, 2, 3):
        torch.manual_seed(1)
        method = Regression()
        engine = Engine(method, torch.optim.SGD(method.parameters(), lr=1.0), CPU)
        losses, taken = engine.train_step(labeled, unlabeled, INFO, clip, parts)
        assert bool(taken)
        assert method.passes == [(6 // parts, 6 // parts if with_unlabeled else 0)] * parts
        found[parts] = [losses.total.detach(), *losses.terms.values(), *(p.detach() for p in method.layer.parameters())]
    torch.testing.assert_close(found[2], found[1])
    torch.testing.assert_close(found[3], found[1])


def test_a_part_that_is_not_finite_leaves_the_step_out():
    method = Regression()
    engine = Engine(method, torch.optim.SGD(method.parameters(), lr=1.0), CPU)
    before = method.layer.weight.detach().clone()
    joints = torch.randn(4, 5, 2)
    joints[0] = math.inf
    labeled = LabeledBatch(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), torch.rand(4, 3, 3), joints, torch.ones(4, 5))
    assert not bool(engine.train_step(labeled, None, INFO, None, 2)[1])
    assert torch.equal(method.layer.weight, before)


def test_seeding_seeds_python_numpy_and_torch():
    def draws():
        seed_everything(7)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draws() == draws()
