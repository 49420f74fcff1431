"""Averages beside any method: they follow its networks and change nothing."""

import copy

import pytest
import torch

from semipose.methods import METHODS, build_method
from semipose.methods.base import StepInfo
from semipose.methods.weight_averaging import WithAverages
from semipose.ops.ema import warmup_momentum
from tests.methods import helpers


def steps_of(method, labeled, unlabeled, count):
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for number in range(count):
        info = StepInfo(number, 100)
        loss = method.losses(labeled, unlabeled, info).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step(info)
        yield number


@pytest.mark.parametrize("name", ["supervised", "dual", "trs"])
def test_networks_learn_as_without_and_averages_follow(labeled, unlabeled, name):
    plain = build_method(METHODS[name][0](), helpers.make_context())
    list(steps_of(plain, labeled, unlabeled, 4))
    averaged = WithAverages(build_method(METHODS[name][0](), helpers.make_context()), 0.6)
    first = {n: t.double() for n, t in copy.deepcopy(averaged.averages).state_dict().items()}
    for number in steps_of(averaged, labeled, unlabeled, 4):
        own, momentum = averaged.method.eval_networks(), warmup_momentum(0.6, number)
        for key, value in first.items():
            network, _, tensor = key.partition(".")
            now = own[network].state_dict()[tensor].double()
            first[key] = momentum * value + (1 - momentum) * now if "num_batches" not in tensor else now
    for key, value in plain.state_dict().items():
        assert torch.equal(value, averaged.method.state_dict()[key]), key
    for key, value in averaged.averages.state_dict().items():
        torch.testing.assert_close(value.double(), first[key], rtol=1e-5, atol=1e-6)
    assert averaged.headline_networks == plain.headline_networks


def test_networks_that_learn_nothing_have_none():
    config = METHODS["trs"][0](reviewers={"supervised": False})
    assert list(WithAverages(build_method(config, helpers.make_context()), 0.9).averages) == ["G", "F"]
    teacher = build_method(METHODS["mean_teacher"][0](), helpers.make_context())
    assert list(WithAverages(teacher, 0.9).eval_networks()) == ["teacher", "student", "student_average"]
    late = build_method(METHODS["late_teacher"][0](), helpers.make_context())
    assert list(WithAverages(late, 0.9).eval_networks()) == ["teacher", "labels_alone"]  # the baseline has none
