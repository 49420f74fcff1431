"""`multi_augs`: several hard views of one easy view, in float64 from the views it drew."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from semipose.augment.base import HardViewAugmentation
from semipose.augment.masking import CutOcclude, Cutout, CutoutPatches, JointCutout
from semipose.augment.mixing import CutMixPatches
from semipose.methods.base import StepInfo
from semipose.methods.multi_augs import Config, MultiAugs
from tests.methods import helpers, reference

SIZE = helpers.SIZE
NAMES = ("f1", "f2")


@pytest.fixture
def build():
    """(method, spies): one spy for each path; the i-th path adds i + 1 to the image before, so that paths differ."""

    def make(paths=3, size=SIZE, **options):
        spies = [helpers.Spy() for _ in range(paths)]
        config = Config(**options)
        config.paths = [[Shift(amount=i + 1), spy] for i, spy in enumerate(spies)]
        return MultiAugs(config, helpers.make_context(size)), spies

    return make


class Shift(HardViewAugmentation):
    """Adds a constant to the image: the first augmentation of a path."""

    kind: str = "shift"
    amount: float

    def __call__(self, images, joints, scores, generator):
        return images + self.amount


def consistency(student, maps, method, added):
    """Σ over paths p of ‖student(hard_p) − M maps‖²; `added` is what each path adds to the easy image."""
    recording = method.context.views.recording
    easy, matrix = recording.easy[0].images.double(), recording.hard[0].from_easy
    warped, seen = reference.warp_heatmaps(maps, matrix)
    return sum(
        reference.mse(student(reference.warp(easy + amount, matrix)), warped.detach(), None, seen) for amount in added
    )


@pytest.mark.parametrize("networks", [1, 2])
@pytest.mark.parametrize(
    ("paths", "supervised_weight", "weight"), [(3, 1.0, 1.0), (1, 1.0, 1.0), (2, 0.5, 1.0), (2, 1.0, 0.3)]
)
def test_loss(build, batches, start, networks, paths, supervised_weight, weight):
    labeled, unlabeled = batches
    method, spies = build(paths, networks=networks, supervised_weight=supervised_weight, unlabeled_weight=weight)
    names = NAMES[:networks]
    doubles = {n: copy.deepcopy(getattr(method, n)).double() for n in names}
    value = method.losses(labeled, unlabeled, start)
    easy = method.context.views.recording.easy[0].images.double()
    maps = {n: copy.deepcopy(doubles[n]).forward_main(easy).detach() for n in names}
    joints = {n: reference.decode(maps[n])[0] for n in names}

    expected = {
        "supervised": supervised_weight
        * sum(reference.supervised_loss(f, method.context.views.recording, labeled) for f in doubles.values())
    }
    for number, student in enumerate(names, start=1):
        teacher = names[-number]  # the other one, or itself
        added = []
        for i, spy in enumerate(spies):
            calls = [c for c, j in enumerate(spy.joints) if np.allclose(j.numpy(), joints[teacher], atol=1e-4)]
            assert len(calls) == 1  # each path is used once around this teacher's joints
            added.append(i + 1 + 0.5 * (calls[0] + 1))
        expected[f"unlabeled_{number}"] = weight * consistency(doubles[student], maps[teacher], method, added)
    assert value.terms.keys() == expected.keys()
    for name, term in expected.items():
        helpers.assert_close(value.terms[name], term)
    helpers.assert_close(value.total, sum(expected.values()))


@pytest.mark.parametrize("networks", [1, 2])
def test_each_path_is_augmented_around_the_teachers_joints_and_reaches_the_other_network(
    build, batches, start, networks
):
    labeled, unlabeled = batches
    method, spies = build(4, networks=networks)
    names = NAMES[:networks]
    inputs = {name: [] for name in names}
    for name, seen in inputs.items():
        getattr(method, name).register_forward_hook(lambda module, args, output, seen=seen: seen.append(args[0]))
    doubles = {n: copy.deepcopy(getattr(method, n)).double() for n in names}
    method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    assert (len(recording.easy), len(recording.labeled), len(recording.hard)) == (1, 1, 4 * networks)
    easy = recording.easy[0].images
    decoded = {n: reference.decode(f.forward_main(easy.double())) for n, f in doubles.items()}
    if networks == 2:
        assert not np.allclose(decoded["f1"][0], decoded["f2"][0])
    for number, student in enumerate(names, start=1):
        joints, scores = decoded[names[-number]]
        students = inputs[student][1:]  # after the labeled images
        assert len(students) == 4
        for i, spy in enumerate(spies):
            calls = [c for c, j in enumerate(spy.joints) if np.allclose(j.numpy(), joints, atol=1e-4)]
            assert len(calls) == 1
            np.testing.assert_allclose(spy.scores[calls[0]].numpy(), scores, rtol=1e-3, atol=1e-5)
            augmented = easy + (i + 1) + 0.5 * (calls[0] + 1)
            made = [h for a, h in zip(recording.augmented, recording.hard, strict=True) if torch.equal(a, augmented)]
            assert len(made) == 1
            assert torch.equal(students[i], made[0].images)


@pytest.mark.parametrize("networks", [1, 2])
def test_all_paths_share_one_second_affine(build, batches, start, networks, monkeypatch):
    labeled, unlabeled = batches
    method, _ = build(3, networks=networks)
    views, drawn = method.context.views, []
    draw = views.second_affine
    monkeypatch.setattr(views, "second_affine", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    method.losses(labeled, unlabeled, start)
    matrices = [h.from_easy for h in views.recording.hard]
    assert len(drawn) == 1
    assert len(matrices) == 3 * networks
    assert all(torch.equal(m, drawn[0]) for m in matrices)
    assert not torch.allclose(drawn[0], torch.eye(3).expand(4, 3, 3), atol=0.05)
    images = [h.images for h in views.recording.hard]
    assert not any(torch.equal(images[0], other) for other in images[1:])


def test_no_gradient_reaches_the_teaching_side(build, batches):
    """With labels of weight zero f2 learns from f1's heatmaps and f1 from f2's; a term trains its student alone."""
    labeled, unlabeled = batches
    labeled = helpers.without_joints(labeled)
    method, _ = build(2, networks=2)
    method.losses(labeled, unlabeled, StepInfo(0, 10)).total.backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    terms = method.context.views.recording.consistency
    assert [student for student, _ in terms] == [method.f1] * 2 + [method.f2] * 2  # two paths
    for student, term in terms:
        gradients = torch.autograd.grad(term, list(method.parameters()), allow_unused=True, retain_graph=True)
        own = {id(p) for p in student.parameters()}
        for parameter, gradient in zip(method.parameters(), gradients, strict=True):
            assert (gradient is not None) is (id(parameter) in own)


def test_the_default_paths_are_the_papers():
    config = Config()
    assert config.paths == [
        [CutOcclude(), CutoutPatches()],
        [JointCutout(), CutMixPatches()],
        [JointCutout()],
        [CutOcclude()],
    ]
    assert [[a.kind for a in path] for path in config.paths] == [
        ["cut_occlude", "cutout_patches"],
        ["joint_cutout", "cut_mix_patches"],
        ["joint_cutout"],
        ["cut_occlude"],
    ]
    assert (config.networks, config.unlabeled_weight, config.burn_in, config.min_peak) == (1, 1, 0, 0)
    config.paths[0].clear()
    assert len(Config().paths[0]) == 2


def test_paths_by_name():
    assert Config(paths=[["cut_occlude", "cutout"], ["joint_cutout"]]).paths == [
        [CutOcclude(), Cutout()],
        [JointCutout()],
    ]
    for wrong in ({"paths": []}, {"networks": 3}, {"augmentations": ["cutout"]}, {"backbones": {"f3": "wide"}}):
        with pytest.raises(ValidationError):
            Config(**wrong)


def test_networks(build):
    one, _ = build()
    assert one.eval_networks() == {"f1": one.f1}
    assert one.headline_networks == ("f1",)
    assert [n for n, _ in one.named_children()] == ["f1"]
    two, _ = build(networks=2, backbones={"f2": "narrow"})
    assert two.eval_networks() == {"f1": two.f1, "f2": two.f2}
    assert two.headline_networks == ("f1", "f2")
    assert two.context.views.recording.networks == [(None, 1), ("narrow", 1)]
    alike, _ = build(networks=2)
    assert not torch.equal(alike.f1.stem[0].weight, alike.f2.stem[0].weight)


@pytest.mark.parametrize(("step", "factor"), [(0, 0), (19, 0), (25, 0.25), (40, 1)])
def test_burn_in_then_ramp(build, batches, step, factor):
    labeled, unlabeled = batches
    method, _ = build(2, networks=2, burn_in=0.2, ramp_up=0.2)
    full, _ = build(2, networks=2)
    terms = method.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    whole = full.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    assert terms["supervised"] == whole["supervised"]
    if factor == 0:
        assert set(terms) == {"supervised"}
    else:
        for name in ("unlabeled_1", "unlabeled_2"):
            torch.testing.assert_close(terms[name], factor * whole[name], rtol=1e-4, atol=0)
