"""Optimizers and learning-rate schedules."""

from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from semipose.methods.base import Method
from semipose.training.config import TrainConfig
from semipose.training.optim import OPTIMIZERS, SCHEDULES, OptimConfig, build_optimizer, learning_rate


def test_step_drops_after_a_warm_up():
    config = OptimConfig(lr=0.1, drops=(0.7, 0.9), drop_factor=0.1, warm_up=4)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[69] == pytest.approx(0.1)
    assert rates[70] == rates[89] == pytest.approx(0.01)
    assert rates[90] == rates[99] == pytest.approx(0.001)


def test_cosine_falls_from_the_full_rate_to_zero():
    config = OptimConfig(lr=0.1, schedule="cosine")
    assert [learning_rate(config, step, 100) for step in (0, 50, 100)] == pytest.approx([0.1, 0.05, 0.0])


def test_the_schedule_starts_again_at_restarts():
    config = OptimConfig(lr=1.0, drops=(0.5,), drop_factor=0.1, warm_up=2)
    rates = [learning_rate(config, step, 10, restarts=(0.35,)) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 0.1, 0.1, 0.5, 1, 1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_only_trained_parameters_are_optimized(name, kind):
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    config = OptimConfig(optimizer=name, lr=0.5, weight_decay=0.25)
    network.parameter_groups = Method.parameter_groups.__get__(network)
    optimizer = build_optimizer(config, network, torch.device("cpu"))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert [p is network.weight for p in group["params"]] == [True]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.5, 0.25, True)


def test_a_new_optimizer_is_one_entry(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "sgd", lambda parameters, config, fused: torch.optim.SGD(parameters, lr=config.lr))
    monkeypatch.setitem(SCHEDULES, "constant", lambda config, step, steps: 1.0)
    config = TrainConfig(optimizer="sgd", schedule="constant")
    method = SimpleNamespace(parameter_groups=lambda: [{"params": nn.Linear(1, 1).parameters()}])
    assert isinstance(build_optimizer(config, method, torch.device("cpu")), torch.optim.SGD)
    assert learning_rate(config, 99, 100) == config.lr


@pytest.mark.parametrize("option", ["optimizer", "schedule"])
def test_unknown_names_are_refused_with_the_known_ones(option):
    with pytest.raises(ValidationError, match=r"known: (adam, adamw|step, cosine)"):
        OptimConfig(**{option: "other"})
