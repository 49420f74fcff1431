"""What every method must do, whatever it computes."""

import copy
import io
import math

import pytest
import torch
from pydantic import ValidationError

from semipose.augment.views import ViewsConfig
from semipose.config import load_config
from semipose.errors import ConfigError
from semipose.methods import METHODS, build_method
from semipose.methods.base import ConsistencyTarget, HardViewConfig, Method, StepInfo
from semipose.methods.single import Config as SingleConfig
from semipose.structures.batches import LabeledBatch
from semipose.structures.skeletons import LSP
from semipose.training.engine import Engine
from tests.methods import helpers

STUDENTS = {
    "supervised": (),
    "mean_teacher": ("f",),
    "late_teacher": ("f",),
    "pseudopose": ("f",),
    "data_distill": ("f",),
    "single": ("f",),
    "dual": ("f1", "f2"),
    "sspcm": ("T1", "T2", "S"),
    "akm": ("f",),
    "multi_augs": ("f1", "f2"),
    "trs": ("G", "F"),
}
"""Networks that the unlabeled loss trains; a new method adds its line."""

PURE_TEACHERS = {
    "mean_teacher": ("teacher",),
    "late_teacher": ("teacher", "labels_alone"),
    "pseudopose": ("teacher",),
    "data_distill": ("teacher",),
    "sspcm": ("T1_before", "T2_before"),
    "sspcm, plain": ("T1_before", "T2_before"),
    "trs, average": ("R1", "R2"),
}
"""Networks that no gradient may reach."""

VARIANTS = {
    "trs, average": ("trs", {"reviewers": {"supervised": False}}),
    "trs, two": ("trs", {"reviewers": {"enabled": False}, "levels": 1}),
    "single, gaussian": ("single", {"target": "gaussian", "min_peak": 0.3, "augmentations": ["keypoint_mix"]}),
    "trs, appearance": ("trs", {"augmentations": ["rand_augment", "mixup", "cut_mix", "adaptive_joint_cutout"]}),
    "trs, all": (
        "trs",
        {"levels": 3, "teacher_mode": "eval", "min_peak": 0.1, "augmentations": ["cut_occlude", "cutout"]},
    ),
    "sspcm, plain": ("sspcm", {"lagged": False, "outliers": {"criterion": "both"}}),
    "akm, mixup": ("akm", {"mixup": {"enabled": True, "places": ["image"]}}),
    "multi_augs, two": ("multi_augs", {"networks": 2, "supervised_weight": 0.5}),
    # These train their teacher first unless they are given one; here the second phase is tested.
    "pseudopose": ("pseudopose", {"teacher": "given"}),
    "data_distill": ("data_distill", {"teacher": "given"}),
    # This begins with labels alone; the first step with unlabeled images is tested.
    "late_teacher": ("late_teacher", {"burn_in": 0.5, "min_peak": 0.0}),
}
CASES = {name: (name, {}) for name in METHODS} | VARIANTS


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def labeled():
    return helpers.make_labeled()


@pytest.fixture
def unlabeled():
    return helpers.make_unlabeled()


@pytest.fixture
def start(case):
    return StepInfo(5 if case == "late_teacher" else 0, 10)


@pytest.fixture
def build():
    def make(case, *, seed=0, views=None, size=(32, 32), loss="mse", learned_joints=None, **more):
        name, changed = CASES[case]
        context = helpers.make_context(size, views=views, loss=loss, seed=seed, learned_joints=learned_joints)
        return build_method(METHODS[name][0](**changed, **more), context)

    return make


def trained(method):
    return [p for p in method.parameters() if p.requires_grad]


def step(method, optimizer, labeled, unlabeled, number):
    info = StepInfo(number, 6)  # burn_in .5 ends after three steps
    value = method.losses(labeled, unlabeled, info)
    optimizer.zero_grad(set_to_none=True)
    value.total.backward()
    optimizer.step()
    method.after_step(info)
    return value


@pytest.mark.parametrize(("name", "loss"), [*((name, "mse") for name in METHODS), ("supervised", "cross_entropy")])
def test_it_overfits_one_labeled_batch(build, name, loss):
    method = build(name, views=helpers.STILL, loss=loss)
    labeled = helpers.make_labeled(batch=2)
    optimizer = torch.optim.Adam(trained(method), lr=1e-2)
    values = [float(step(method, optimizer, labeled, None, i).terms["supervised"].detach()) for i in range(50)]
    blank = blank_loss(method, labeled)
    least = 0.0 if loss == "mse" else blank * entropy_share(method)
    assert values[-1] - least < 0.25 * (blank - least)


def blank_loss(method, labeled):
    """The supervised term of networks whose output is zero everywhere, in this method's own sum."""
    blank = copy.deepcopy(method)
    with torch.no_grad():
        for name, parameter in blank.named_parameters():
            if ".heads." in name:
                parameter.zero_()
    return blank.losses(labeled, None, StepInfo(0, 100)).terms["supervised"].item()


def entropy_share(method):
    """A cross-entropy can't fall below the targets' entropy: its share of what a uniform prediction costs."""
    view = method.context.views.recording.labeled[0]
    targets = view.targets.double().flatten(2) / (2 * torch.pi)  # sigma is 1
    least = -(targets * targets.clamp_min(1e-30).log()).sum(dim=2)
    uniform = targets.sum(dim=2) * math.log(targets.shape[2])
    return float((least * view.weights).sum() / (uniform * view.weights).sum())


def test_the_unlabeled_loss_reaches_every_student(build, case, labeled, unlabeled, start):
    method = build(case)
    students = STUDENTS[CASES[case][0]]
    method.losses(helpers.without_joints(labeled), unlabeled, start).total.backward()
    for name, network in method.named_children():
        reached = {n: p.grad is not None and bool(p.grad.abs().sum() > 0) for n, p in network.named_parameters()}
        if name in students:
            assert all(reached.values()), (name, reached)
        else:
            assert not any(reached.values()), (name, reached)


def test_a_joint_that_nobody_labels_is_not_trained(build, case, labeled, unlabeled, start):
    """Its output channel gets no gradient from any term, the other channels do."""
    known = torch.zeros(len(LSP), dtype=torch.bool)
    known[[joint for pair in LSP.flip_pairs[:3] for joint in pair]] = True
    labeled = LabeledBatch(labeled.crops, labeled.to_input, labeled.joints, labeled.weights * known)
    method = build(case, learned_joints=tuple(known.nonzero().flatten().tolist()))
    method.losses(labeled, unlabeled, start).total.backward()
    heads = [(n, p.grad) for n, p in method.named_parameters() if ".heads." in n and p.grad is not None]
    assert heads
    for name, gradient in heads:
        assert torch.equal(gradient.abs().reshape(len(LSP), -1).sum(dim=1) > 0, known), name


def test_no_gradient_reaches_a_pure_teacher(build, case, labeled, unlabeled, start):
    method = build(case)
    method.losses(labeled, unlabeled, start).total.backward()
    for name, network in method.named_children():
        if name in PURE_TEACHERS.get(case, ()):
            assert all(p.grad is None and not p.requires_grad for p in network.parameters()), name
        else:
            assert all(p.grad is not None and p.requires_grad for p in network.parameters()), name


def test_save_load_continue_is_exact(build, case, labeled, unlabeled):
    first = build(case)
    optimizer = torch.optim.Adam(trained(first), lr=1e-3)
    for i in range(2):
        step(first, optimizer, labeled, unlabeled, i)
    file = io.BytesIO()
    generator = first.context.views.generator
    content = {"method": first.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    torch.save(content, file)
    file.seek(0)

    second = build(case, seed=99)
    other = torch.optim.Adam(trained(second), lr=1e-3)
    saved = torch.load(file, weights_only=True)
    second.load_state_dict(saved["method"])
    other.load_state_dict(saved["optimizer"])
    second.context.views.generator.set_state(saved["generator"])
    for i in range(2, 5):
        one = step(first, optimizer, labeled, unlabeled, i)
        two = step(second, other, labeled, unlabeled, i)
        assert one.total.equal(two.total)
        assert one.terms.keys() == two.terms.keys()
        assert all(one.terms[n].equal(two.terms[n]) for n in one.terms)
    states = first.state_dict(), second.state_dict()
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert torch.equal(generator.get_state(), second.context.views.generator.get_state())


def test_a_dry_run_changes_nothing(build, case, labeled, unlabeled, start):
    method = build(case)
    engine = Engine(method, torch.optim.Adam(trained(method)), torch.device("cpu"))
    generator, before = method.context.views.generator.get_state(), copy.deepcopy(method.state_dict())
    engine.dry_run(labeled, unlabeled, [start, StepInfo(9, 10)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
    assert torch.equal(generator, method.context.views.generator.get_state())
    assert all(p.grad is None for p in method.parameters())


def test_every_draw_comes_from_the_saved_generator(build, case, labeled, unlabeled, start):
    method = build(case)
    before = torch.get_rng_state()
    method.losses(labeled, unlabeled, start)
    assert torch.equal(before, torch.get_rng_state())


def test_a_step_in_bfloat16_is_finite(build, case, labeled, unlabeled, start):
    method = build(case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = method.losses(labeled, unlabeled, start)
    assert value.total.dtype == torch.float32
    value.total.backward()
    assert torch.isfinite(value.total)
    assert all(torch.isfinite(term) for term in value.terms.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained(method))
    method.after_step(start)
    assert all(torch.isfinite(t).all() for t in method.state_dict().values())


def test_gradients_in_bfloat16_have_the_same_direction(build, case, labeled, unlabeled, start):
    """No gradient is lost to autocast: its cache must not keep casts of weights made by a teaching pass."""
    if not STUDENTS[CASES[case][0]]:
        pytest.skip("no unlabeled loss")
    gradients = []
    for enabled in (False, True):
        method = build(case, views=helpers.STILL)
        if isinstance(method.config, HardViewConfig):
            method.config.augmentations = []
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = method.losses(labeled, unlabeled, start)
        value.total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trained(method)]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


def test_views_under_autocast_are_those_without():
    """Geometry needs float32: in bf16 a position near 200 is known to a pixel only."""
    size = (256, 192)
    labeled, unlabeled = helpers.make_labeled(size, batch=2), helpers.make_unlabeled(size, batch=2)
    made = []
    for enabled in (False, True):
        views = helpers.make_context(size).views
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            lab, easy = views.labeled(labeled), views.easy(unlabeled)
            hard = views.hard(easy.images, views.second_affine(2, easy.images.device))
            warped, seen = views.warp_heatmaps(easy.images[:, :, ::4, ::4], hard)
        made.append((lab.view.from_crop, lab.targets, easy.from_crop, hard.from_easy, hard.images, warped, seen))
    for exact, cast in zip(*made, strict=True):
        assert exact.dtype == cast.dtype
        assert torch.equal(exact, cast)


def test_a_teaching_pass_first_keeps_the_students_gradients_under_autocast(unlabeled):
    """A network that gives pseudo heatmaps first, with no supervised pass in between, still gets gradients in bf16."""
    context = helpers.make_context()
    network = context.build_network(None, 1)
    easy = context.views.easy(unlabeled)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heatmaps = context.pseudo_heatmaps(network, easy, SingleConfig())
        target = ConsistencyTarget(context.hard_view(easy, heatmaps, []), [heatmaps])
        loss = context.consistency_loss(network, target, SingleConfig())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_headline_networks_are_evaluated(build, case):
    method = build(case)
    networks = method.eval_networks()
    assert method.headline_networks
    assert set(method.headline_networks) <= set(networks)
    assert all(network in list(method.children()) for network in networks.values())


def test_labels_alone_are_enough(build, case, labeled, start):
    method = build(case)
    value = method.losses(labeled, None, start)
    assert set(value.terms) == {"supervised"}
    assert value.total > 0
    value.total.backward()
    assert method.context.views.recording.easy == []
    method.after_step(start)


def test_a_last_batch_of_another_size_and_of_one_is_fine(build, case, start):
    method = build(case, size=(64, 32))
    value = method.losses(helpers.make_labeled((64, 32), batch=3), helpers.make_unlabeled((64, 32), batch=1), start)
    assert torch.isfinite(value.total)


def test_terms_are_detached_and_add_up(build, case, labeled, unlabeled, start):
    value = build(case).losses(labeled, unlabeled, start)
    assert not any(term.requires_grad for term in value.terms.values())
    torch.testing.assert_close(value.total.detach(), sum(value.terms.values()))


def test_the_same_seed_gives_the_same_loss(build, case, labeled, unlabeled, start):
    values = [build(case).losses(labeled, unlabeled, start).total for _ in range(2)]
    assert values[0].equal(values[1])


@pytest.mark.parametrize("name", METHODS)
def test_unknown_options_are_errors(name):
    with pytest.raises(ValidationError, match="nonsense"):
        METHODS[name][0](nonsense=1)
    with pytest.raises(ConfigError, match="nonsense"):
        load_config(None, {"method.name": name, "method.nonsense": 1})


@pytest.mark.parametrize("name", METHODS)
def test_the_table_of_methods_agrees_with_the_configurations(name):
    config, method = METHODS[name]
    assert issubclass(method, Method)
    assert len(method.summary) > 30
    assert config().name == name
    assert type(load_config(None, {"method": name}).method) is config


def test_random_views_are_used_for_labels(build, labeled, start):
    method = build("supervised", views=ViewsConfig(flip_probability=1))
    method.losses(labeled, None, start)
    assert method.context.views.recording.labeled[0].view.flipped.all()
