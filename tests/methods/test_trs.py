"""TRS against its equations, computed in float64 from the views the method drew."""

import copy
import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from semipose.augment.mixing import KeypointMix
from semipose.augment.views import ViewsConfig
from semipose.methods.base import StepInfo
from semipose.methods.trs import Config, TeacherReviewerStudent
from tests.methods import helpers, reference

SIZE = helpers.SIZE
PEAK = 1.6  # about half of the tiny networks' peaks are higher
NO_REVIEWERS = {"enabled": False}
PURE_EMA = {"supervised": False}


@pytest.fixture
def build():
    """(method, spy) with all networks different; `hard` is a spy, so that the augmented image is known exactly."""

    def make(views=None, size=SIZE, loss="mse", **options):
        spy = helpers.Spy()
        config = Config(**options)
        config.augmentations = [spy]
        method = TeacherReviewerStudent(config, helpers.make_context(size, views=views, loss=loss))
        torch.manual_seed(7)
        with torch.no_grad():
            for parameter in method.parameters():  # reviewers start as copies; a mix-up must show
                parameter.add_(0.05 * torch.randn_like(parameter))
        return method, spy

    return make


def unlabeled_losses(method, batches):
    """Eq. 5 and 6, or 10 and 11, with their gradients: the losses of F and of G."""
    labeled, unlabeled = batches
    method.losses(helpers.without_joints(labeled), unlabeled, StepInfo(0, 10))
    (f, loss_f), (g, loss_g) = method.context.views.recording.consistency
    assert (f, g) == (method.F, method.G)
    return loss_f, loss_g


def unlabeled_reference(networks, recording, *, teachers, student, which, seen_mask, min_peak=None):
    """Σ over teachers W and levels V: MSE(student_V(hard), M W_z(easy)); the hard image is the spy's, warped here."""
    easy, matrix = recording.easy[0].images.double(), recording.hard[which].from_easy
    hard = reference.warp(easy + 0.5 * (which + 1), matrix)
    outputs = networks[student](hard)
    total = torch.zeros((), dtype=torch.float64)
    for teacher in teachers:
        heatmaps = networks[teacher](easy)[:, 0].detach()
        warped, seen = reference.warp_heatmaps(heatmaps, matrix)
        weights = None if min_peak is None else (heatmaps.amax(dim=(2, 3)) >= min_peak).double()
        total = total + reference.mse(outputs, warped, weights, seen if seen_mask else 1.0)
    return total


# ---- supervised terms, eq. 2, 3, 9


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(
    ("reviewers", "trained"), [({}, "G F R1 R2"), (PURE_EMA, "G F"), (NO_REVIEWERS, "G F")], ids=["all", "ema", "none"]
)
def test_supervised_loss_adds_networks_and_levels(build, batches, start, levels, reviewers, trained):
    labeled, _ = batches
    method, _ = build(levels=levels, reviewers=reviewers, supervised_weight=1.0)
    networks = helpers.doubles(method)
    value = method.losses(labeled, None, start)
    view = method.context.views.recording.labeled[0].view
    assert view.flipped.any()
    assert not view.flipped.all()
    targets, weights = reference.targets(labeled, view, SIZE)
    assert weights[0].sum() < labeled.weights[0].sum()  # the joint off the map has lost its weight
    outputs = [networks[name](view.images.double()) for name in trained.split()]
    assert all(o.shape[1] == levels for o in outputs)
    helpers.assert_close(value.total, sum(reference.mse(o, targets, weights) for o in outputs))


def test_gradient_of_the_supervised_loss_reaches_reviewers_only_when_they_are_supervised(build, batches, start):
    labeled, _ = batches
    for reviewers, reached in (({}, True), (PURE_EMA, False)):
        method, _ = build(reviewers=reviewers)
        method.losses(labeled, None, start).total.backward()
        for name in ("G", "F"):
            assert all(p.grad.abs().sum() > 0 for p in getattr(method, name).parameters())
        for name in ("R1", "R2"):
            for parameter in getattr(method, name).parameters():
                assert parameter.requires_grad is reached
                assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) is reached


# ---- unlabeled terms, eq. 5, 6, 10, 11


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("seen_mask", [True, False])
@pytest.mark.parametrize("reviewers", [{}, PURE_EMA, NO_REVIEWERS], ids=["all", "ema", "none"])
def test_unlabeled_losses(build, batches, start, levels, seen_mask, reviewers):
    labeled, unlabeled = batches
    method, _ = build(levels=levels, reviewers=reviewers, views=ViewsConfig(seen_mask=seen_mask))
    networks = helpers.doubles(method)
    terms = method.losses(labeled, unlabeled, start).terms
    recording = method.context.views.recording
    assert (len(recording.easy), len(recording.hard)) == (1, 2)
    seconds = ("R1", "R2") if reviewers.get("enabled", True) else ((), ())
    for which, (student, first, second) in enumerate([("F", "G", seconds[0]), ("G", "F", seconds[1])]):
        expected = unlabeled_reference(
            networks,
            recording,
            teachers=[first, second] if second else [first],
            student=student,
            which=which,
            seen_mask=seen_mask,
        )
        helpers.assert_close(terms[f"unlabeled_{which + 1}"], expected)


def test_the_seen_mask_leaves_out_cells_the_easy_view_never_had(build, batches, start):
    """Cells of the hard grid whose source lies outside the easy view: masked cells differ from the peers' behavior."""
    values = {}
    for seen_mask in (True, False):
        method, _ = build(views=ViewsConfig(seen_mask=seen_mask))
        with torch.no_grad():
            values[seen_mask] = sum(unlabeled_losses(method, batches))
    _, seen = reference.warp_heatmaps(torch.zeros(4, 1, 16, 12), method.context.views.recording.hard[0].from_easy)
    assert 0 < seen.mean() < 1
    assert values[True] < values[False]


def test_the_teachers_target_is_level_z_for_every_level(build, batches):
    """Changing the teachers' level p changes nothing; changing their level z does."""
    values = []
    for changed in (None, 1, 0):
        method, _ = build(levels=2)
        if changed is not None:
            for name in ("G", "R1"):
                nn.init.zeros_(getattr(method, name).heads[changed].weight)
        with torch.no_grad():
            values.append(unlabeled_losses(method, batches)[0])
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_no_gradient_of_the_unlabeled_losses_reaches_a_teacher(build, batches):
    for which, student in enumerate(("F", "G")):
        method, _ = build(levels=2)
        unlabeled_losses(method, batches)[which].backward()
        for name, network in method.named_children():
            gradients = [p.grad for p in network.parameters()]
            if name == student:
                assert all(g is not None and g.abs().sum() > 0 for g in gradients), name
            else:
                assert all(g is None for g in gradients), name


def test_each_student_gets_the_hard_view_augmented_around_its_teachers_joints(build, batches, start):
    labeled, unlabeled = batches
    method, spy = build()
    networks = helpers.doubles(method)
    inputs = {"G": [], "F": []}
    for name, seen in inputs.items():
        getattr(method, name).register_forward_hook(lambda module, args, output, seen=seen: seen.append(args[0]))
    method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    assert len(spy.joints) == 2
    for which, (teacher, student) in enumerate([("G", "F"), ("F", "G")]):
        joints, scores = reference.decode(networks[teacher].forward_main(recording.easy[0].images.double()))
        other, _ = reference.decode(networks[student].forward_main(recording.easy[0].images.double()))
        assert not np.allclose(joints, other)
        np.testing.assert_allclose(spy.joints[which].numpy(), joints, atol=1e-4)
        np.testing.assert_allclose(spy.scores[which].numpy(), scores, rtol=1e-3, atol=1e-5)
        assert torch.equal(recording.augmented[which], recording.easy[0].images + 0.5 * (which + 1))
        assert torch.equal(inputs[student][-1], recording.hard[which].images)
    assert not torch.equal(recording.hard[0].from_easy, recording.hard[1].from_easy)


def test_keypoint_mix_makes_the_hard_view_by_default():
    assert Config().augmentations == [KeypointMix(joints=5)]


# ---- total, eq. 12, and its schedule


@pytest.mark.parametrize(("weight", "unlabeled_weight"), [(0.5, 1.0), (0.2, 1.0), (0.5, 3.0), (0.0, 1.0)])
def test_loss(build, batches, start, weight, unlabeled_weight):
    labeled, unlabeled = batches
    method, _ = build(supervised_weight=weight, unlabeled_weight=unlabeled_weight)
    networks = helpers.doubles(method)
    value = method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    view = recording.labeled[0].view
    targets, weights = reference.targets(labeled, view, SIZE)
    supervised = sum(reference.mse(network(view.images.double()), targets, weights) for network in networks.values())
    first, second = (
        unlabeled_reference(networks, recording, teachers=teachers, student=student, which=which, seen_mask=True)
        for which, (student, teachers) in enumerate([("F", ("G", "R1")), ("G", ("F", "R2"))])
    )
    helpers.assert_close(value.total, weight * supervised + unlabeled_weight * (first + second))
    assert set(value.terms) == {"supervised", "unlabeled_1", "unlabeled_2"}
    assert not any(term.requires_grad for term in value.terms.values())
    helpers.assert_close(value.total, sum(value.terms.values()).double())


def test_lambda_is_a_half_by_default_and_nothing_else_departs_from_the_paper():
    config = Config()
    assert config.supervised_weight == 0.5
    assert config.levels == 2
    assert (config.unlabeled_weight, config.burn_in, config.ramp_up, config.min_peak) == (1, 0, 0, 0)
    assert config.reviewers.enabled
    assert config.reviewers.supervised


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0), (19, 0), (20, 0), (25, 0.25), (30, 0.5), (39, 0.95), (40, 1), (99, 1)]
)
def test_burn_in_then_ramp(build, batches, step, factor):
    labeled, unlabeled = batches
    method, _ = build(burn_in=0.2, ramp_up=0.2)
    full, _ = build()
    terms = method.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    whole = full.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    assert terms["supervised"] == whole["supervised"]
    for name in ("unlabeled_1", "unlabeled_2"):
        if factor == 0:
            assert terms.get(name, 0) == 0
        else:
            torch.testing.assert_close(terms[name], factor * whole[name], rtol=1e-4, atol=0)


# ---- weights of the unlabeled joints


def test_min_peak_drops_joints_of_each_teacher_by_that_teachers_peaks(build, batches):
    method, _ = build(min_peak=PEAK)
    networks = helpers.doubles(method)
    with torch.no_grad():
        values = unlabeled_losses(method, batches)
    recording = method.context.views.recording
    kept = [networks[n].forward_main(recording.easy[0].images.double()).amax(dim=(2, 3)) >= PEAK for n in ("G", "R1")]
    assert all(0 < k.double().mean() < 1 for k in kept)
    assert not torch.equal(*kept)
    for which, (student, teachers) in enumerate([("F", ("G", "R1")), ("G", ("F", "R2"))]):
        expected = unlabeled_reference(
            networks,
            recording,
            teachers=teachers,
            student=student,
            which=which,
            seen_mask=True,
            min_peak=PEAK,
        )
        helpers.assert_close(values[which], expected.detach())


def test_without_min_peak_all_joints_count_whatever_their_peak(build, batches):
    """Unlabeled heatmaps weigh 1 for all joints; a regressed map may be below zero everywhere."""
    method, _ = build(min_peak=0.0)
    for name in ("G", "R1", "F", "R2"):
        with torch.no_grad():
            getattr(method, name).heads[0].bias[:7] -= 5
    networks = helpers.doubles(method)
    with torch.no_grad():
        values = unlabeled_losses(method, batches)
    expected = unlabeled_reference(
        networks,
        method.context.views.recording,
        teachers=("G", "R1"),
        student="F",
        which=0,
        seen_mask=True,
    )
    helpers.assert_close(values[0], expected.detach())


# ---- reviewers, eq. 7


def expected_average(reviewer, teacher, keep):
    """θ_R ← keep θ_R + (1 - keep) θ, floating-point buffers too; counters as the teacher's."""
    states = reviewer.state_dict(), teacher.state_dict()
    return {
        name: keep * states[0][name].double() + (1 - keep) * states[1][name].double()
        if states[0][name].is_floating_point()
        else states[1][name]
        for name in states[0]
    }


@pytest.mark.parametrize("reviewers", [{}, PURE_EMA], ids=["supervised", "ema"])
def test_reviewers_follow_their_teachers(build, batches, start, reviewers):
    labeled, unlabeled = batches
    method, _ = build(reviewers={"alpha": 0.9, "beta": 0.6, **reviewers})
    method.losses(labeled, unlabeled, start)  # moves the BatchNorm statistics apart
    method.losses(labeled, None, start)
    before = {name: copy.deepcopy(network) for name, network in method.named_children()}
    norm = "last.1.running_mean"
    assert not torch.equal(before["R1"].state_dict()[norm], before["G"].state_dict()[norm])
    method.after_step(StepInfo(1000, 2000))  # the warm-up of the momentum is over
    for reviewer, teacher, keep in (("R1", "G", 0.9), ("R2", "F", 0.6)):
        expected = expected_average(before[reviewer], before[teacher], keep)
        assert any("running_var" in name for name in expected)
        for name, tensor in getattr(method, reviewer).state_dict().items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
            else:
                assert torch.equal(tensor, expected[name]), name
        after = getattr(method, teacher).state_dict()
        assert all(torch.equal(t, after[n]) for n, t in before[teacher].state_dict().items())


@pytest.mark.parametrize(("step", "keep"), [(0, 0.1), (1, 2 / 11), (10, 11 / 20), (10_000, 0.99)])
def test_momentum_warms_up(build, step, keep):
    method, _ = build()
    before = {name: copy.deepcopy(network) for name, network in method.named_children()}
    method.after_step(StepInfo(step, 20_000))
    for reviewer, teacher in (("R1", "G"), ("R2", "F")):
        expected = expected_average(before[reviewer], before[teacher], keep)
        tensor = getattr(method, reviewer).state_dict()["stem.0.weight"]
        torch.testing.assert_close(tensor.double(), expected["stem.0.weight"], rtol=1e-5, atol=1e-6)


def test_the_reviewers_stay_trainable_and_separate_after_the_average(build, batches, start):
    labeled, _ = batches
    method, _ = build()
    method.after_step(start)
    method.losses(labeled, None, start).total.backward()
    pointers = [p.data_ptr() for p in method.parameters()]
    assert len(set(pointers)) == len(pointers)
    assert all(p.requires_grad and p.is_leaf and p.grad is not None for p in method.parameters())


def test_reviewers_start_as_their_teachers():
    method = TeacherReviewerStudent(Config(), helpers.make_context(SIZE))
    for reviewer, teacher in (("R1", "G"), ("R2", "F")):
        states = getattr(method, reviewer).state_dict(), getattr(method, teacher).state_dict()
        assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert not torch.equal(method.G.stem[0].weight, method.F.stem[0].weight)


def test_without_reviewers_there_are_two_networks(build, batches, start):
    labeled, unlabeled = batches
    method, _ = build(reviewers=NO_REVIEWERS)
    assert [name for name, _ in method.named_children()] == ["G", "F"]
    assert set(method.eval_networks()) == {"G", "F"}
    method.losses(labeled, unlabeled, start).total.backward()
    before = copy.deepcopy(method.state_dict())
    method.after_step(start)
    assert all(torch.equal(t, before[n]) for n, t in method.state_dict().items())


def test_evaluated_networks(build):
    method, _ = build()
    assert method.eval_networks() == {"G": method.G, "F": method.F, "R1": method.R1, "R2": method.R2}
    assert method.headline_networks == ("G", "F")


# ---- networks and their modes


def test_mixed_backbones_reach_their_networks_and_reviewers_follow(build, batches, start):
    labeled, unlabeled = batches
    method, _ = build(backbones={"G": "wide", "F": "narrow"}, levels=3)
    assert method.context.views.recording.networks == [("wide", 3), ("narrow", 3)]
    names = {name: network.backbone_name for name, network in method.named_children()}
    assert names == {"G": "wide", "R1": "wide", "F": "narrow", "R2": "narrow"}
    method.losses(labeled, unlabeled, start).total.backward()
    method.after_step(start)
    only_f, _ = build(backbones={"F": "narrow"})
    assert only_f.context.views.recording.networks == [(None, 2), ("narrow", 2)]


@pytest.mark.parametrize(
    "wrong", [{"levels": 0}, {"levels": 4}, {"backbones": {"H": "wide"}}, {"reviewers": {"gamma": 1}}, {"min_peek": 1}]
)
def test_wrong_options_are_errors(wrong):
    with pytest.raises(ValidationError):
        Config(**wrong)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_teacher_mode_decides_whether_running_statistics_move(build, batches, start, mode):
    """A reviewer without supervised term sees images only as a teacher."""
    labeled, unlabeled = batches
    method, _ = build(teacher_mode=mode, reviewers=PURE_EMA)
    before = copy.deepcopy(method.R1.state_dict())
    method.losses(labeled, unlabeled, start)
    moved = [n for n, t in method.R1.state_dict().items() if not torch.equal(t, before[n])]
    if mode == "eval":
        assert moved == []
    else:
        norms = ("running_mean", "running_var", "num_batches_tracked")
        assert sorted(moved) == sorted(n for n in before if n.endswith(norms))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_teacher_mode_decides_the_statistics_used(build, batches, start, mode):
    labeled, unlabeled = batches
    method, _ = build(teacher_mode=mode, reviewers=PURE_EMA)
    networks = helpers.doubles(method)
    terms = method.losses(labeled, unlabeled, start).terms
    recording = method.context.views.recording
    teachers = {name: copy.deepcopy(network).train(mode == "train") for name, network in networks.items()}
    for which, (student, names) in enumerate([("F", ("G", "R1")), ("G", ("F", "R2"))]):
        matrix = recording.hard[which].from_easy
        easy = recording.easy[0].images.double()
        outputs = networks[student](reference.warp(easy + 0.5 * (which + 1), matrix))
        expected = torch.zeros((), dtype=torch.float64)
        for name in names:
            warped, seen = reference.warp_heatmaps(teachers[name].forward_main(easy), matrix)
            expected = expected + reference.mse(outputs, warped, None, seen)
        helpers.assert_close(terms[f"unlabeled_{which + 1}"], expected)


@pytest.mark.parametrize(("mode", "training"), list(itertools.product(["train", "eval"], [True, False])))
def test_the_modules_mode_is_restored(build, batches, start, mode, training):
    labeled, unlabeled = batches
    method, _ = build(teacher_mode=mode)
    method.train(training)
    method.losses(labeled, unlabeled, start)
    assert {module.training for module in method.modules()} == {training}


# ---- the other loss


def test_cross_entropy_teaches_with_heatmaps_and_adds_teachers_and_levels(build, batches):
    """Teachers' logits become softmax · 2πσ²; the warp keeps their mass; the loss is cross-entropy over seen cells."""
    method, _ = build(loss="cross_entropy", levels=2)
    networks = helpers.doubles(method)
    with torch.no_grad():
        value = unlabeled_losses(method, batches)[0]
    recording = method.context.views.recording
    easy, matrix = recording.easy[0].images.double(), recording.hard[0].from_easy
    outputs = networks["F"](reference.warp(easy + 0.5, matrix)).detach()
    mass = 2 * np.pi  # sigma is 1
    area = np.abs(np.linalg.det(matrix[:, :2, :2].double().numpy()))
    total = 0.0
    for name in ("G", "R1"):
        logits = networks[name].forward_main(easy).detach()
        maps = torch.softmax(logits.flatten(2), dim=2).view_as(logits) * mass
        warped, seen = reference.warp_heatmaps(maps, matrix)
        for level, b, k in itertools.product(range(2), range(4), range(14)):
            cells = seen[b, 0].bool()
            log_p = torch.log_softmax(outputs[b, level, k][cells], dim=0)
            total -= float((warped[b, k][cells] / (mass * area[b]) * log_p).sum()) / (4 * 14)
    assert float(value) == pytest.approx(total, rel=2e-4)
