"""`supervised`, `single`, `dual` and `mean_teacher` against METHODS' table, computed in float64 from their views."""

import copy

import numpy as np
import pytest
import torch

from semipose.augment.masking import JointCutout
from semipose.methods import dual, mean_teacher, single, supervised
from semipose.methods.base import StepInfo

SIZE = (64, 48)


@pytest.fixture
def build(workbench, tiny):
    """(method, spy): the method of a module with its altered images known exactly."""

    def make(module, method, **options):
        config, spy = module.Config(**options), tiny.Spy()
        if hasattr(config, "hard"):
            config.augmentations = [spy]
        return method(config, workbench(SIZE)), spy

    return make


@pytest.fixture
def expected(reference):
    """The two kinds of terms, by explicit formula."""

    class Expected:
        @staticmethod
        def supervised(network, method, labeled):
            view = method.context.views.recording.labeled[0].view
            targets, weights = reference.targets(labeled, view, SIZE)
            return reference.mse(network(view.images.double()), targets, weights)

        @staticmethod
        def unlabeled(student, teacher, method, which):
            """‖student(hard_which) − M teacher(easy)‖²."""
            recording = method.context.views.recording
            easy, matrix = recording.easy[0].images.double(), recording.hard[which].from_easy
            outputs = student(reference.warp(easy + 0.5 * (which + 1), matrix))
            carried, seen = reference.warp_heatmaps(teacher(easy)[:, 0], matrix)
            return reference.mse(outputs, carried, None, seen)

    return Expected


def doubles(method):
    return {name: copy.deepcopy(network).double() for name, network in method.named_children()}


def close(value, expected):
    torch.testing.assert_close(value.detach().double(), expected.detach(), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_supervised(build, batches, start, expected, levels):
    labeled, unlabeled = batches
    method, _ = build(supervised, supervised.Supervised, levels=levels)
    networks = doubles(method)
    value = method.losses(labeled, unlabeled, start)
    close(value.total, expected.supervised(networks["f"], method, labeled))
    assert set(value.terms) == {"supervised"}
    assert method.context.views.recording.easy == []


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_single(build, batches, start, expected, reference, weight):
    labeled, unlabeled = batches
    method, spy = build(single, single.Single, unlabeled_weight=weight)
    networks = doubles(method)
    value = method.losses(labeled, unlabeled, start)
    f = networks["f"]
    consistency = expected.unlabeled(f, f, method, 0)
    close(value.terms["unlabeled"], weight * consistency)
    close(value.total, expected.supervised(f, method, labeled) + weight * consistency)
    joints, _ = reference.decode(f.forward_main(method.context.views.recording.easy[0].images.double()))
    np.testing.assert_allclose(spy.joints[0].numpy(), joints, atol=1e-4)


def test_the_easy_side_of_single_is_detached(build, batches, start, reference):
    """The gradient equals that of a loss whose target is a constant."""
    labeled, unlabeled = batches
    labeled = type(labeled)(labeled.crops, labeled.to_input, labeled.joints, torch.zeros_like(labeled.weights))
    method, _ = build(single, single.Single)
    f = doubles(method)["f"]
    method.losses(labeled, unlabeled, start).total.backward()
    recording = method.context.views.recording
    easy, matrix = recording.easy[0].images.double(), recording.hard[0].from_easy
    carried, seen = reference.warp_heatmaps(f(easy)[:, 0].detach(), matrix)
    reference.mse(f(reference.warp(easy + 0.5, matrix)), carried, None, seen).backward()
    for (name, one), other in zip(method.f.named_parameters(), f.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=2e-3, atol=1e-6, msg=name)


def test_dual(build, batches, start, expected, reference):
    labeled, unlabeled = batches
    method, spy = build(dual, dual.Dual)
    networks = doubles(method)
    inputs = {"f1": [], "f2": []}
    for name, seen in inputs.items():
        getattr(method, name).register_forward_hook(lambda module, args, output, seen=seen: seen.append(args[0]))
    value = method.losses(labeled, unlabeled, start)
    f1, f2 = networks["f1"], networks["f2"]
    recording = method.context.views.recording
    easy = recording.easy[0].images.double()
    # Which of the two hard views was cut around whose joints; the spy keeps the order of making.
    joints = {name: reference.decode(network.forward_main(easy))[0] for name, network in networks.items()}
    order = ["f1" if np.allclose(j.numpy(), joints["f1"], atol=1e-4) else "f2" for j in spy.joints]
    assert sorted(order) == ["f1", "f2"]
    hard1, hard2 = order.index("f1"), order.index("f2")
    assert torch.equal(inputs["f1"][-1], recording.hard[hard2].images)
    assert torch.equal(inputs["f2"][-1], recording.hard[hard1].images)
    first = expected.unlabeled(f1, f2, method, hard2)
    second = expected.unlabeled(f2, f1, method, hard1)
    close(value.terms["unlabeled_1"], first)
    close(value.terms["unlabeled_2"], second)
    learned = 0.5 * expected.supervised(f1, method, labeled) + 0.5 * expected.supervised(f2, method, labeled)
    close(value.terms["supervised"], learned)
    close(value.total, learned + first + second)


def test_dual_has_two_different_networks_of_their_backbones(build):
    method, _ = build(dual, dual.Dual, backbones={"f2": "narrow"})
    assert method.context.views.recording.networks == [(None, 1), ("narrow", 1)]
    same, _ = build(dual, dual.Dual)
    assert not torch.equal(same.f1.stem[0].weight, same.f2.stem[0].weight)


def test_mean_teacher(build, batches, start, expected, reference):
    labeled, unlabeled = batches
    method, spy = build(mean_teacher, mean_teacher.MeanTeacher)
    with torch.no_grad():
        for parameter in method.teacher.parameters():  # it starts as a copy; a mix-up must show
            parameter.mul_(0.8)
    networks = doubles(method)
    value = method.losses(labeled, unlabeled, start)
    f, teacher = networks["f"], networks["teacher"]
    close(value.terms["unlabeled"], expected.unlabeled(f, teacher, method, 0))
    close(value.total, expected.supervised(f, method, labeled) + expected.unlabeled(f, teacher, method, 0))
    joints, _ = reference.decode(teacher.forward_main(method.context.views.recording.easy[0].images.double()))
    np.testing.assert_allclose(spy.joints[0].numpy(), joints, atol=1e-4)


@pytest.mark.parametrize(("step", "keep"), [(0, 0.1), (5, 6 / 15), (100_000, 0.9)])
def test_the_mean_teacher_follows(build, batches, start, step, keep):
    labeled, _ = batches
    method, _ = build(mean_teacher, mean_teacher.MeanTeacher, momentum=0.9)
    method.losses(labeled, None, start)  # the student's running statistics move
    with torch.no_grad():
        for parameter in method.f.parameters():
            parameter.add_(1)
    teacher, student = copy.deepcopy(method.teacher.state_dict()), copy.deepcopy(method.f.state_dict())
    method.after_step(StepInfo(step, 200_000, 0))
    for name, tensor in method.teacher.state_dict().items():
        if tensor.is_floating_point():
            value = keep * teacher[name].double() + (1 - keep) * student[name].double()
            torch.testing.assert_close(tensor.double(), value, rtol=1e-5, atol=1e-6, msg=name)
        else:
            assert torch.equal(tensor, student[name])
    assert all(torch.equal(t, student[n]) for n, t in method.f.state_dict().items())
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_the_papers_joint_cutout_is_the_default():
    for module in (single, dual, mean_teacher):
        assert module.Config().hard == [JointCutout(joints=5, half_size_min=10, half_size_max=19, jitter=10)]


def test_a_negative_supervised_weight_is_an_error():
    with pytest.raises(ValueError, match="supervised_weight"):
        dual.Config(supervised_weight=-1)
