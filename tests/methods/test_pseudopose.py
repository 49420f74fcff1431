"""`pseudopose`: its two phases, and the student's loss in float64 from the views it drew."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from semipose.methods.base import StepInfo
from semipose.methods.pseudopose import Config, PseudoPose
from tests.methods import helpers, reference

BURN_IN, AFTERWARDS = StepInfo(0, 10), StepInfo(3, 10)  # burn_in is .3 by default


@pytest.fixture
def build():
    """(method, spy) with all BatchNorm statistics away from their start; a given teacher comes from `paths`."""

    def make(paths=None, **options):
        config, spy = Config(**options), helpers.Spy()
        config.augmentations = [spy]

        def load_network(path):
            if paths is not None:
                paths.append(path)
            return helpers.TinyPose(None, 1)

        context = dataclasses.replace(helpers.make_context(helpers.SIZE), load_network=load_network)
        method = PseudoPose(config, context)
        helpers.move_statistics(method)
        return method, spy

    return make


# ---- the teacher's phase


@pytest.mark.parametrize("step", [0, 2])
def test_during_burn_in_the_teacher_alone_learns(build, batches, step):
    labeled, unlabeled = batches
    method, spy = build()
    teacher, student = copy.deepcopy(method.teacher).double(), helpers.state(method.f)
    value = method.losses(labeled, unlabeled, StepInfo(step, 10))
    assert set(value.terms) == {"teacher"}
    helpers.assert_close(value.total, reference.supervised_loss(teacher, method.context.views.recording, labeled))
    value.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.teacher.parameters())
    assert all(p.grad is None for p in method.f.parameters())
    assert helpers.same(method.f, student)  # no BatchNorm statistics either
    assert method.context.views.recording.easy == []
    assert spy.joints == []


def test_frozen_stages_of_the_teacher_stay_frozen(batches):
    def build_network(backbone, levels):
        network = helpers.TinyPose(backbone, levels)
        next(network.parameters()).requires_grad_(False)
        return network

    context = dataclasses.replace(helpers.make_context(helpers.SIZE), build_network=build_network)
    method = PseudoPose(Config(), context)
    for info, trained in ((BURN_IN, True), (AFTERWARDS, False)):
        method.losses(*batches, info)
        first, *others = (p.requires_grad for p in method.teacher.parameters())
        assert not first
        assert {*others} == {trained}


def test_teacher_and_student_are_two_networks_of_one_level(build):
    method, _ = build()
    assert method.context.views.recording.networks == [(None, 1), (None, 1)]
    assert not torch.equal(method.f.stem[0].weight, method.teacher.stem[0].weight)
    assert method.eval_networks() == {"f": method.f, "teacher": method.teacher}
    assert method.headline_networks == ("f",)


def test_without_unlabeled_images_the_student_learns_at_any_time(build, batches):
    labeled, _ = batches
    for info in (BURN_IN, AFTERWARDS):
        method, _ = build()
        f, teacher = copy.deepcopy(method.f).double(), helpers.state(method.teacher)
        value = method.losses(labeled, None, info)
        assert set(value.terms) == {"supervised"}
        helpers.assert_close(value.total, reference.supervised_loss(f, method.context.views.recording, labeled))
        value.total.backward()
        assert all(p.grad is not None for p in method.f.parameters())
        assert all(p.grad is None for p in method.teacher.parameters())
        assert helpers.same(method.teacher, teacher)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_learning_rate_begins_anew_with_the_student(build, share):
    method, _ = build(burn_in=share)
    assert method.schedule_restarts == (share,)
    given, _ = build(burn_in=share, teacher="some/run")
    assert given.schedule_restarts == ()


def test_burn_in_zero_needs_a_teacher():
    with pytest.raises(ValidationError, match=r"method\.teacher"):
        Config(burn_in=0)
    assert Config(burn_in=0, teacher="some/run").burn_in == 0
    assert Config().burn_in > 0


# ---- the student's phase


@pytest.mark.parametrize(("given", "weight"), [(False, 1.0), (True, 1.0), (False, 0.3), (True, 0.3)])
def test_the_students_loss(build, batches, given, weight):
    labeled, unlabeled = batches
    paths = []
    options = {"teacher": "some/run"} if given else {}
    method, spy = build(paths=paths, unlabeled_weight=weight, **options)
    assert paths == (["some/run"] if given else [])
    f, teacher = (copy.deepcopy(n).double() for n in (method.f, method.teacher))
    teacher.eval()
    value = method.losses(labeled, unlabeled, BURN_IN if given else AFTERWARDS)
    recording = method.context.views.recording
    easy = recording.easy[0].images.double()
    maps = teacher(easy)[:, 0]
    consistency = weight * reference.consistency_loss(f, maps, recording, 0)
    supervised = reference.supervised_loss(f, method.context.views.recording, labeled)
    assert set(value.terms) == {"supervised", "unlabeled"}
    helpers.assert_close(value.terms["supervised"], supervised)
    helpers.assert_close(value.terms["unlabeled"], consistency)
    helpers.assert_close(value.total, supervised + consistency)
    joints, scores = reference.decode(maps)
    np.testing.assert_allclose(spy.joints[0].numpy(), joints, atol=1e-4)
    np.testing.assert_allclose(spy.scores[0].numpy(), scores, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_the_teacher_is_frozen_in_weights_and_statistics(build, batches, given):
    """Steps of an optimizer with momentum and decay that holds all parameters change the student alone."""
    labeled, unlabeled = batches
    method, _ = build(**({"teacher": "some/run"} if given else {}))
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(6):
        info = StepInfo(step, 10)
        teacher, student = helpers.state(method.teacher), helpers.state(method.f)
        optimizer.zero_grad(set_to_none=True)
        method.losses(labeled, unlabeled, info).total.backward()
        optimizer.step()
        method.after_step(info)
        training_teacher = step < 3 and not given
        assert helpers.same(method.teacher, teacher) is not training_teacher
        assert helpers.same(method.f, student) is training_teacher
        assert all(p.requires_grad is training_teacher for p in method.teacher.parameters())
        assert all((p.grad is not None) is training_teacher for p in method.teacher.parameters())
        assert all((p.grad is None) is training_teacher for p in method.f.parameters())
        assert all(m.training for m in method.modules())


def test_statistics_of_the_batch_on_request(build, batches):
    """`teacher_mode: train`: the heatmaps are those of the batch's own statistics."""
    _, unlabeled = batches
    method, _ = build(teacher_mode="train", teacher="some/run")
    teacher = copy.deepcopy(method.teacher).double().train()
    easy = method.context.views.easy(unlabeled)
    expected = teacher(easy.images.double())[:, 0].detach()
    torch.testing.assert_close(method.teacher_heatmaps(easy).double(), expected, rtol=1e-3, atol=2e-4)


RAMP = [(20, 0), (25, 0.25), (30, 0.5), (39, 0.95), (40, 1), (99, 1)]


@pytest.mark.parametrize(("step", "factor"), RAMP)
def test_the_students_weight_ramps_up_after_the_burn_in(build, batches, step, factor):
    labeled, unlabeled = batches
    method, _ = build(burn_in=0.2, ramp_up=0.2)
    full, _ = build(burn_in=0.2)
    terms = method.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    whole = full.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    assert terms["supervised"] == whole["supervised"]
    if factor == 0:
        assert terms.get("unlabeled", 0) == 0
    else:
        torch.testing.assert_close(terms["unlabeled"], factor * whole["unlabeled"], rtol=1e-4, atol=0)


@pytest.mark.parametrize(("step", "factor"), [(5, 0.25), (10, 0.5)])
def test_the_weight_ramps_up_from_the_start_with_a_given_teacher(build, batches, step, factor):
    labeled, unlabeled = batches
    method, _ = build(teacher="some/run", ramp_up=0.2)
    full, _ = build(teacher="some/run")
    terms = method.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    whole = full.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    torch.testing.assert_close(terms["unlabeled"], factor * whole["unlabeled"], rtol=1e-4, atol=0)
