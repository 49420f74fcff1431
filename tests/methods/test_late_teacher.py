"""`late_teacher`: labels alone, then the losses of `mean_teacher`, and the network that the labels alone gave."""

import pytest
import torch

from semipose.augment.views import eval_view
from semipose.methods.base import BURN_IN_PASSES, BURN_IN_STEPS, StepInfo
from semipose.methods.late_teacher import Config, LateTeacher
from semipose.methods.mean_teacher import Config as MeanTeacherConfig
from semipose.structures.batches import LabeledBatch
from tests.methods import helpers, reference


@pytest.fixture
def build():
    """(method, spy): the method with augmented images that are known exactly."""

    def make(**options):
        config, spy = Config(**options), helpers.Spy()
        config.augmentations = [spy]
        return LateTeacher(config, helpers.make_context(helpers.SIZE)), spy

    return make


def info(step: int, steps: int = 100) -> StepInfo:
    return StepInfo(step, steps)


@pytest.mark.parametrize("levels", [1, 2])
def test_losses_of_a_step_after_burn_in(build, batches, levels):
    labeled, unlabeled = batches
    method, _ = build(levels=levels, burn_in=0.5, min_peak=0, target="heatmap", teacher_mode="train")
    with torch.no_grad():
        for number, network in enumerate((method.teacher, method.labels_alone)):  # they start equal; a mix-up must show
            for parameter in network.parameters():
                parameter.mul_(0.8 - 0.1 * number)
    networks = helpers.doubles(method)
    assert {network.levels for network in networks.values()} == {levels}
    value = method.losses(labeled, unlabeled, info(50))
    recording = method.context.views.recording
    heatmaps = networks["teacher"].forward_main(recording.easy[0].images.double())
    terms = [
        reference.supervised_loss(networks["f"], recording, labeled),
        reference.consistency_loss(networks["f"], heatmaps, recording, 0),
    ]
    for name, term in zip(("supervised", "unlabeled"), terms, strict=True):
        helpers.assert_close(value.terms[name], term)
    helpers.assert_close(value.total, sum(terms))


@pytest.mark.parametrize(("step", "names"), [(49, {"supervised"}), (50, {"supervised", "unlabeled"})])
def test_when_each_term_is_learned(build, batches, step, names):
    method, _ = build(burn_in=0.5)
    assert method.losses(*batches, info(step)).terms.keys() == names


@pytest.mark.parametrize(
    ("burn_in", "steps", "words"),
    [
        ("auto", 3000, "labels alone"),
        (0.5, 2 * BURN_IN_STEPS, "labels alone"),
        (0.5, 100, f"labels alone after 50 steps, where a fair comparison needs about {BURN_IN_STEPS}"),
        (0.001, 100, f"labels alone after 1 step, where a fair comparison needs about {BURN_IN_STEPS}"),
        (0.0, 3000, "the network at the start"),
    ],
)
def test_the_gain_names_a_network_that_labels_have_not_taught_enough(build, burn_in, steps, words):
    method, _ = build(burn_in=burn_in)
    assert method.describe_baseline(info(0, steps)) == words


def test_the_labels_alone_network_never_sees_unlabeled_images(build, batches):
    method, _ = build(burn_in=0.5)
    method.losses(*batches, info(70)).total.backward()
    assert all(p.grad is None for p in method.labels_alone.parameters())
    assert any(p.grad is not None for p in method.f.parameters())


def test_labels_alone_is_the_teacher_at_the_end_of_burn_in(build):
    method, _ = build(burn_in=0.5)
    for step in (10, 49, 50):
        with torch.no_grad():
            for parameter in method.f.parameters():
                parameter.add_(1)
        method.after_step(info(step))
        if step < 50:
            assert helpers.same(method.labels_alone, method.teacher.state_dict())
            last = helpers.state(method.teacher)
    assert helpers.same(method.labels_alone, last)
    assert not helpers.same(method.teacher, last)


def test_the_student_alone_is_trained(build):
    method, _ = build()
    (student,) = method.parameter_groups()
    assert [id(p) for p in student["params"]] == [id(p) for p in method.f.parameters()]


@pytest.mark.parametrize(
    ("passes_per_step", "steps"),
    [(0.0, BURN_IN_STEPS), (1.0, BURN_IN_STEPS), (0.004, BURN_IN_PASSES / 0.004)],
)
def test_automatic_burn_in_takes_steps_and_passes(build, passes_per_step, steps):
    method, _ = build()

    def weight(step: int) -> float:
        return method.unlabeled_weight(StepInfo(step, 10_000, passes_per_step=passes_per_step))

    assert method.burn_in_steps(StepInfo(5, 10_000, passes_per_step=passes_per_step)) == steps
    assert (weight(int(steps) - 1), weight(int(steps))) == (0, 1)


def test_any_consistency_method_can_take_an_automatic_burn_in():
    assert MeanTeacherConfig(burn_in="auto").burn_in == "auto"


def test_the_average_is_the_result(build):
    method, _ = build()
    assert method.eval_networks() == {"teacher": method.teacher, "labels_alone": method.labels_alone}
    assert (method.headline_networks, method.baseline_network) == (("teacher",), "labels_alone")


def test_without_labels_the_student_learns_what_the_start_says_with_its_statistics(build, batches):
    labeled, unlabeled = batches
    method, _ = build(burn_in=0, min_peak=0, target="heatmap")
    helpers.move_statistics(method)
    with torch.no_grad():
        for network, factor in ((method.teacher, 0.8), (method.labels_alone, 0.9)):
            for parameter in network.parameters():
                parameter.mul_(factor)
    method.train()
    networks, before = helpers.doubles(method), helpers.state(method.labels_alone)
    statistics = {n: b.clone() for n, b in method.f.named_buffers()}
    value = method.losses(LabeledBatch(*(t[:0] for t in vars(labeled).values())), unlabeled, info(3))
    recording = method.context.views.recording
    recording.easy.append(eval_view(unlabeled, helpers.SIZE))  # no random view: the teacher sees what is evaluated
    heatmaps = networks["labels_alone"].eval().forward_main(recording.easy[0].images.double())
    expected = reference.consistency_loss(networks["f"].eval(), heatmaps, recording, 0)
    helpers.assert_close(value.total, expected)
    assert value.terms.keys() == {"unlabeled"}
    value.total.backward()
    assert all(p.grad is None for p in (*method.labels_alone.parameters(), *method.teacher.parameters()))
    method.after_step(info(3))
    assert helpers.same(method.labels_alone, before)
    assert all(torch.equal(b, statistics[n]) for n, b in method.f.named_buffers()) and method.f.training
