"""What the methods share: the unlabeled weight, targets on the hard view, and BatchNorm's running averages."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from semipose.augment.masking import AdaptiveJointCutout
from semipose.augment.mixing import CutMix, Mixup
from semipose.augment.views import ViewsConfig
from semipose.config import load_config
from semipose.methods import METHODS, build_method
from semipose.methods.base import ConsistencyTarget, Losses, Method, StepInfo
from semipose.methods.single import Config as SingleConfig
from semipose.methods.single import Single
from semipose.structures.batches import Mixture, View
from tests.methods import helpers, reference

SIZE, CELLS, SIGMA, STRIDE = (128, 96), (32, 24), 1.0, 4


def gaussians(cells, peak=None):
    """Maps (B, K, h, w) with a Gaussian of `peak` at the cell positions (B, K, 2)."""
    rows, columns = np.mgrid[: CELLS[0], : CELLS[1]]
    x, y = cells[..., 0, None, None], cells[..., 1, None, None]
    maps = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA**2))
    return maps if peak is None else maps * peak[..., None, None]


@pytest.fixture
def joints():
    """Positions in input pixels, four cells and more away from the border, between cells."""
    draws = np.random.default_rng(0).random((4, 14, 2))
    return 16 + draws * (np.array([SIZE[1], SIZE[0]]) - 1 - 32)


@pytest.fixture
def context():
    return helpers.make_context(SIZE, views=ViewsConfig(rotation=45, hard_rotation_probability=1))


def pseudo_heatmaps(joints, peak=None):
    return torch.from_numpy(gaussians((joints + 0.5) / STRIDE - 0.5, peak)).float()


def moved_cells(joints, matrices):
    """Joints by the second affine, in cells of the hard grid."""
    homogeneous = np.concatenate([joints, np.ones_like(joints[..., :1])], axis=2)
    moved = np.einsum("bij,bkj->bki", matrices.double().numpy(), homogeneous)[..., :2]
    return (moved + 0.5) / STRIDE - 0.5


def hard_view(context):
    images = torch.zeros(4, 3, *SIZE)
    return context.views.hard(images, context.views.second_affine(4, images.device))


def test_heatmap_targets_are_the_resampled_heatmaps(context, joints):
    hard = hard_view(context)
    maps = pseudo_heatmaps(joints)
    targets, weights, seen = context.targets(maps, hard, SingleConfig())
    warped, visible = reference.warp_heatmaps(maps, hard.from_easy)
    torch.testing.assert_close(targets.double(), warped, rtol=0, atol=1e-4)
    assert torch.equal(seen.double(), visible)
    assert torch.equal(weights, torch.ones(4, 14))


def test_gaussian_targets_stand_where_the_second_affine_moves_the_joint(context, joints):
    """Of full height and the labels' width whatever the teacher's peak; a joint that leaves the map weighs nothing."""
    joints[:, :4] = 17.3  # a corner, which a turned view loses
    turn = torch.tensor([[0.9, -0.7, 30.0], [0.7, 0.9, -35.0], [0.0, 0.0, 1.0]])
    hard = context.views.hard(torch.zeros(4, 3, *SIZE), turn.repeat(4, 1, 1))
    peak = np.random.default_rng(1).uniform(0.2, 1.5, (4, 14))
    targets, weights, seen = context.targets(pseudo_heatmaps(joints, peak), hard, SingleConfig(target="gaussian"))
    cells = moved_cells(joints, hard.from_easy)
    inside = ((cells >= -0.5) & (cells <= np.array([CELLS[1], CELLS[0]]) - 0.5)).all(axis=2)
    edge = (np.abs(cells + 0.5) < 0.1) | (np.abs(cells + 0.5 - np.array([CELLS[1], CELLS[0]])) < 0.1)
    assert not edge.any(), "a joint on the border of the map could fall on either side"
    assert 0 < inside.mean() < 1
    np.testing.assert_array_equal(weights.numpy(), inside.astype(float))
    expected = gaussians(cells) * inside[..., None, None]
    assert np.abs(targets.numpy() - expected).max() < 0.03  # .05 cell: the decoder's accuracy
    assert seen is not None


@pytest.mark.parametrize("target", ["heatmap", "gaussian"])
def test_joints_below_min_peak_weigh_nothing(context, joints, target):
    hard = context.views.hard(torch.zeros(4, 3, *SIZE), torch.eye(3).repeat(4, 1, 1))
    joints = np.round(joints / STRIDE) * STRIDE + 1.5  # on cell centers: the peak is the height
    peak = np.random.default_rng(1).uniform(0.2, 1.0, (4, 14))
    config = SingleConfig(target=target, min_peak=0.6)
    _, weights, _ = context.targets(pseudo_heatmaps(joints, peak), hard, config)
    np.testing.assert_array_equal(weights.numpy(), (peak >= 0.6).astype(float))


@pytest.mark.parametrize("target", ["heatmap", "gaussian"])
def test_the_loss_of_a_student_adds_its_teachers(context, joints, target):
    hard = hard_view(context)
    hard.images.normal_()
    student = helpers.TinyPose(None, 2)
    maps = [pseudo_heatmaps(joints), pseudo_heatmaps(joints[:, ::-1].copy())]
    config = SingleConfig(target=target)
    value = context.consistency_loss(student, ConsistencyTarget(hard, maps), config)
    outputs = student.double()(hard.images.double())
    expected = torch.zeros((), dtype=torch.float64)
    for one, places in zip(maps, (joints, joints[:, ::-1]), strict=True):
        warped, seen = reference.warp_heatmaps(one, hard.from_easy)
        weights = None
        if target == "gaussian":
            cells = moved_cells(places, hard.from_easy)
            inside = ((cells >= -0.5) & (cells <= np.array([CELLS[1], CELLS[0]]) - 0.5)).all(axis=2)
            warped = torch.from_numpy(gaussians(cells) * inside[..., None, None])
            weights = torch.from_numpy(inside).double()
        expected = expected + reference.mse(outputs, warped, weights, seen)
    torch.testing.assert_close(value.double(), expected, rtol=1e-3 if target == "gaussian" else 1e-4, atol=0)


def test_gaussian_targets_under_autocast_are_those_without(context, joints):
    hard = hard_view(context)
    made = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            made.append(context.targets(pseudo_heatmaps(joints), hard, SingleConfig(target="gaussian")))
    for exact, cast in zip(*made, strict=True):
        torch.testing.assert_close(cast, exact, rtol=0, atol=1e-5)


LABELED = (0, 2, 3, 7, 11)


@pytest.mark.parametrize("target", ["heatmap", "gaussian"])
@pytest.mark.parametrize("min_peak", [0.0, 0.6])
def test_joints_that_nobody_labels_weigh_nothing(joints, target, min_peak):
    context = helpers.make_context(SIZE, learned_joints=LABELED)
    hard = context.views.hard(torch.zeros(4, 3, *SIZE), torch.eye(3).repeat(4, 1, 1))
    joints = np.round(joints / STRIDE) * STRIDE + 1.5
    peak = np.random.default_rng(1).uniform(0.2, 1.0, (4, 14))
    expected = np.isin(np.arange(14), LABELED) * (peak >= min_peak)
    config = SingleConfig(target=target, min_peak=min_peak)
    _, weights, _ = context.targets(pseudo_heatmaps(joints, peak), hard, config)
    np.testing.assert_array_equal(weights.numpy(), expected.astype(float))


def test_augmentations_know_the_labeled_joints_only(joints):
    """Neither chosen for patches nor counted as easy: the noise of the others never enters."""
    context = helpers.make_context(SIZE, learned_joints=LABELED)
    easy, maps = context.views.easy(helpers.make_unlabeled(SIZE)), pseudo_heatmaps(joints)
    spy, adaptive = helpers.Spy(), AdaptiveJointCutout()
    context.hard_view(easy, maps, [spy])
    found, scores = reference.decode(maps)
    np.testing.assert_allclose(spy.joints[0].numpy(), found[:, LABELED], atol=1e-4)
    np.testing.assert_allclose(spy.scores[0].numpy(), scores[:, LABELED], rtol=1e-5)
    maps = torch.zeros(4, 14, *CELLS)
    maps[:, :, 5, 5] = torch.tensor([0.01] * 14)
    maps[:, LABELED, 5, 5] = 0.9  # all five are easy: 8 patches, where 5 of 14 would give round(5 · 8 / 14) = 3
    context.hard_view(easy, maps, [spy])
    assert adaptive.num_patches(spy.scores[1]).tolist() == [8] * 4


def mixed_by_hand(maps, partners, shares):
    """Every cell's share is the mean over its pixels; float64 loops."""
    mixed = np.zeros_like(maps)
    for b, row, column in np.ndindex(len(maps), *CELLS):
        pixels = shares[b, row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]
        mixed[b, :, row, column] = pixels.mean() * maps[b, :, row, column]
        mixed[b, :, row, column] += (1 - pixels.mean()) * maps[partners[b], :, row, column]
    return mixed


@pytest.mark.parametrize("target", ["heatmap", "gaussian"])
@pytest.mark.parametrize("kinds", [[Mixup()], [CutMix()], [Mixup(), CutMix()]], ids=["mixup", "cut_mix", "both"])
def test_targets_are_mixed_like_the_images(context, joints, kinds, target):
    """The teacher's heatmaps, or Gaussians at its joints, mixed on the easy view and then warped."""
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, *SIZE)
    easy = View(images, torch.eye(3).repeat(4, 1, 1), torch.zeros(4, dtype=torch.bool))
    peak = np.random.default_rng(1).uniform(0.2, 1.0, (4, 14))
    maps, config = pseudo_heatmaps(joints, peak), SingleConfig(target=target, min_peak=0.3)
    hard = context.hard_view(easy, maps, kinds)
    found, weights, seen = context.targets(maps, hard, config)

    expected, kept = maps.double().numpy(), (maps.amax(dim=(2, 3)) >= 0.3).double().numpy()
    if target == "gaussian":
        expected = gaussians((joints + 0.5) / STRIDE - 0.5) * (kept > 0)[..., None, None]
    for mixture in hard.mixtures:
        partners, shares = mixture.partners.numpy(), mixture.share.double().numpy()[:, 0]
        expected = mixed_by_hand(expected, partners, np.broadcast_to(shares, (4, *SIZE)))
        kept = np.minimum(kept, kept[partners])
    assert len(hard.mixtures) == len(kinds)
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(weights.numpy(), kept)
    warped, visible = reference.warp_heatmaps(torch.from_numpy(expected), hard.from_easy)
    tolerance = 0.03 if target == "gaussian" else 1e-4  # the decoder's accuracy
    assert np.abs(found.numpy() - warped.numpy())[kept > 0].max() < tolerance
    assert torch.equal(seen.double(), visible)


@pytest.mark.parametrize("kind", [Mixup(mix_targets=False), CutMix(mix_targets=False)], ids=lambda kind: kind.kind)
def test_targets_stay_where_only_the_image_is_mixed(context, joints, kind):
    maps = pseudo_heatmaps(joints)
    easy = View(torch.randn(4, 3, *SIZE), torch.eye(3).repeat(4, 1, 1), torch.zeros(4, dtype=torch.bool))
    hard = context.hard_view(easy, maps, [kind])
    warped, _ = reference.warp_heatmaps(maps, hard.from_easy)
    torch.testing.assert_close(context.targets(maps, hard, SingleConfig())[0].double(), warped, rtol=0, atol=1e-4)


def test_a_mixed_joint_needs_its_weight_in_both_samples(context, joints):
    """The weights that a method gives (SSPCM's outliers) are those of the sample and of its partner."""
    hard = replace(hard_view(context), mixtures=(Mixture(torch.tensor([1, 2, 3, 0]), torch.full((4, 1, 1, 1), 0.6)),))
    given = torch.tensor([[1.0, 0.0, 1.0, 1.0]]).T.repeat(1, 14)
    _, weights, _ = context.targets(pseudo_heatmaps(joints), hard, SingleConfig(), given)
    assert weights[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("method", ["single", "dual", "sspcm", "akm", "trs", "mean_teacher", "pseudopose"])
def test_an_empty_list_of_augmentations_leaves_the_second_affine_alone(context, joints, method):
    """The rows without Keypoint-Mix or masks: the hard view is the easy view, warped."""
    config = load_config(None, {"method": method, "method.augmentations": []}).method
    assert config.hard_view_augmentations() == [[]]
    easy = View(torch.randn(4, 3, *SIZE), torch.eye(3).repeat(4, 1, 1), torch.zeros(4, dtype=torch.bool))
    hard = context.hard_view(easy, pseudo_heatmaps(joints), config.augmentations)
    expected = reference.warp(easy.images, hard.from_easy)
    torch.testing.assert_close(hard.images.double(), expected, rtol=0, atol=1e-4)


def test_a_step_knows_its_share_of_the_training():
    assert [StepInfo(step, 10).fraction for step in (0, 5, 10)] == [0, 0.5, 1]
    assert StepInfo(0, 0).fraction == 0


def test_losses_are_the_sum_of_their_terms():
    one, two = torch.tensor(1.5, requires_grad=True), torch.tensor(2.0)
    value = Losses.from_terms(first=one, second=two)
    assert value.total.item() == 3.5
    value.total.backward()
    assert one.grad == 1
    assert {n: float(t) for n, t in value.terms.items()} == {"first": 1.5, "second": 2.0}
    assert not value.terms["first"].requires_grad


def test_the_unlabeled_weight_is_zero_in_burn_in_and_rises_in_the_ramp():
    method = Single(SingleConfig(unlabeled_weight=2.0, burn_in=0.2, ramp_up=0.4), helpers.make_context())
    weights = [method.unlabeled_weight(StepInfo(step, 10)) for step in range(10)]
    assert weights == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2, 2, 2, 2])
    assert Single(SingleConfig(), helpers.make_context()).unlabeled_weight(StepInfo(0, 10)) == 1


def test_a_method_must_give_losses_and_networks():
    class Incomplete(Method):
        pass

    with pytest.raises(TypeError, match="eval_networks"):
        Incomplete(SingleConfig(), helpers.make_context())


@pytest.mark.parametrize("given", [False, True])
def test_a_hard_view_draws_its_second_affine_unless_one_is_given(context, joints, given):
    maps, easy = pseudo_heatmaps(joints), context.views.easy(helpers.make_unlabeled(SIZE))
    matrices = torch.eye(3).repeat(4, 1, 1) if given else None
    spy = helpers.Spy()
    hard = context.hard_view(easy, maps, [spy], matrices)
    np.testing.assert_allclose(spy.joints[0].numpy(), reference.decode(maps)[0], atol=1e-4)
    assert torch.equal(context.views.recording.augmented[0], easy.images + 0.5)
    assert torch.equal(hard.from_easy, torch.eye(3).repeat(4, 1, 1)) is given


@pytest.mark.parametrize(("name", "student"), [("single", "f"), ("dual", "f1"), ("trs", "G"), ("akm+mixup", "f")])
def test_running_averages_of_labeled_views_only(labeled, unlabeled, start, name, student):
    options = {"teacher_mode": "eval"}
    if name == "akm+mixup":
        name, options["mixup"] = "akm", {"enabled": True, "places": ["image"]}
    found = {}
    for hard in (True, False):
        method = build_method(METHODS[name][0](**options, bn_stats_from_hard_views=hard), helpers.make_context())
        alone = copy.deepcopy(getattr(method, student))
        value = method.losses(labeled, unlabeled, start)
        value.total.backward()  # gradients still flow through the hard view
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in getattr(method, student).parameters())
        alone.train()(method.context.views.recording.labeled[0].view.images)
        buffers = dict(getattr(method, student).named_buffers())
        found[hard] = all(torch.allclose(buffer, buffers[n]) for n, buffer in alone.named_buffers() if "running" in n)
    assert found == {True: False, False: True}
