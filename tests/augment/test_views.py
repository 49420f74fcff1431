"""Views: distributions of the random transforms; targets, joints and images are transformed together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.augment.views import ViewSampler, ViewsConfig, eval_view, learned_joints, normalize, resample_crops
from semipose.models.backbone import STD
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.ops.geometry import transform_points
from semipose.ops.heatmaps import decode, encode
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import LSP, center_skeleton, infer_skeleton

SIZE, CROP = (128, 96), (160, 120)


def to_input(n):
    matrix = torch.eye(3).repeat(n, 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = -(CROP[1] - SIZE[1]) / 2, -(CROP[0] - SIZE[0]) / 2
    return matrix


def sampler(seed=0, **options):
    return ViewSampler(ViewsConfig(**options), LSP, SIZE, 2.0, torch.Generator().manual_seed(seed))


def labeled(n, seed=0):
    draw = np.random.default_rng(seed)
    joints = torch.from_numpy(draw.uniform((40, 50), (80, 110), (n, 14, 2))).float()
    crops = torch.from_numpy(draw.integers(0, 255, (n, 3, *CROP), np.uint8))
    return LabeledBatch(crops, to_input(n), joints, torch.ones(n, 14))


def unlabeled(n):
    return UnlabeledBatch(torch.zeros(n, 3, *CROP, dtype=torch.uint8), to_input(n))


def parts(matrices):
    """Returns scale, rotation in degrees and flip of each similarity."""
    linear = matrices[:, :2, :2].double().numpy()
    flipped = np.linalg.det(linear) < 0
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    # A flip comes first and negates the first column.
    sign = np.where(flipped, -1, 1)
    return scale, np.rad2deg(np.arctan2(linear[:, 1, 0] * sign, linear[:, 0, 0] * sign)), flipped


def test_distributions_of_easy_and_hard_views():
    views = sampler()
    scale, degrees, flipped = parts(views.easy(unlabeled(2000)).from_crop)
    assert scale.min() >= 1 / 1.25 - 1e-4
    assert scale.max() <= 1 / 0.75 + 1e-4
    assert np.abs(degrees).max() <= 60.01
    assert np.mean(np.abs(degrees) > 1e-3) == pytest.approx(0.6, abs=0.04)
    assert flipped.mean() == pytest.approx(0.5, abs=0.04)
    assert np.std(degrees[np.abs(degrees) > 1e-3]) == pytest.approx(27.7, abs=2)  # N(0, 30) clipped to 60
    _, degrees, flipped = parts(views.second_affine(2000, torch.device("cpu")))
    assert np.mean(np.abs(degrees) > 1e-3) == pytest.approx(0.8, abs=0.04)
    assert not flipped.any()


def test_flipped_agrees_with_the_matrices():
    view = sampler().easy(unlabeled(50))
    assert view.flipped.tolist() == parts(view.from_crop)[2].tolist()


def test_targets_decode_to_the_transformed_joints():
    batch = labeled(6)
    found = sampler().labeled(batch)
    joints = geometry.transform_points(found.view.from_crop, batch.joints)
    expected = torch.where(found.view.flipped[:, None, None], joints[:, list(LSP.flip_order)], joints)
    decoded, _ = decode(found.targets, 4, "dark")
    inside = ((expected > 16) & (expected < torch.tensor([SIZE[1], SIZE[0]]) - 17)).all(dim=2)
    assert inside.sum() > 40
    assert (decoded - expected).norm(dim=2)[inside].max() < 0.1
    assert found.view.flipped.any()
    assert not found.view.flipped.all()


def test_hard_view_is_the_warped_image():
    views = sampler()
    images = torch.rand(3, 3, *SIZE)
    matrix = views.second_affine(3, images.device)
    hard = views.hard(images, matrix)
    assert torch.equal(hard.images, geometry.warp(images, matrix, SIZE))
    _, seen = views.warp_heatmaps(torch.rand(3, 14, 32, 24), hard)
    assert seen is not None
    assert sampler(seen_mask=False).warp_heatmaps(torch.rand(3, 14, 32, 24), hard)[1] is None


def test_seed_decides_the_view():
    first, again, other = (sampler(seed).easy(unlabeled(5)).from_crop for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_eval_view_is_the_normalized_crop():
    crops = torch.randint(0, 255, (2, 3, *CROP), dtype=torch.uint8)
    view = eval_view(UnlabeledBatch(crops, to_input(2)), SIZE)
    middle = normalize(crops)[:, :, 16:144, 12:108]
    torch.testing.assert_close(view.images, middle, atol=1e-3, rtol=0)
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert normalize(mean).abs().max() < 0.01


def test_cpu_views_equal_gpu_views_within_one_gray_level():
    """With noise as the worst case, and matrices that also leave the crop."""
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (20, 3, *CROP), np.uint8))
    matrices = sampler(scale=0.5).easy(UnlabeledBatch(crops, to_input(20))).from_crop
    exact = geometry.warp(normalize(crops), matrices, SIZE)
    found = resample_crops(crops, matrices, SIZE)
    assert found.is_contiguous()
    assert found.dtype == exact.dtype
    levels = (found - exact).abs() * torch.tensor(STD).view(1, 3, 1, 1) * 255
    assert levels.mean() < 0.3
    assert levels.max() < 1.1
    assert (exact == 0).float().mean() > 0.01  # some pixels lie outside the crop


def test_a_skeleton_without_pairs_is_not_mirrored():
    one_sided = infer_skeleton([f"point {k}" for k in range(14)])
    views = ViewSampler(ViewsConfig(flip_probability=1), one_sided, SIZE, 2.0, torch.Generator().manual_seed(0))
    assert not views.labeled(labeled(20)).view.flipped.any()
    assert sampler(flip_probability=1).labeled(labeled(20)).view.flipped.all()


def test_colors_of_some_labeled_views_change_and_targets_stay():
    batch = labeled(200)
    geometry_of = {"scale": 0, "rotation": 0, "flip_probability": 0}
    plain = sampler(**geometry_of).labeled(batch)
    changed = sampler(**geometry_of, labeled_color_probability=0.3).labeled(batch)
    assert torch.equal(plain.targets, changed.targets) and torch.equal(plain.weights, changed.weights)
    differ = (plain.view.images - changed.view.images).abs().flatten(1).amax(1) > 0.05
    # Some operations leave some images as they are.
    assert 0.15 < differ.float().mean() < 0.3


def test_unlabeled_views_keep_their_colors():
    batch = UnlabeledBatch(labeled(20).crops, to_input(20))
    assert torch.equal(sampler().easy(batch).images, sampler(labeled_color_probability=1.0).easy(batch).images)


def test_learned_joints_are_the_labeled_ones_and_their_partners_in_flipped_views():
    """Nobody labels the ankles, the neck, and the left wrist; flipped views show the right wrist as a left one."""
    visibility = np.full((3, 14), 2)
    missing = [LSP.joints.index(name) for name in ("left_ankle", "right_ankle", "neck", "left_wrist")]
    visibility[:, missing] = 0
    visibility[1:, 4] = 0  # one person has it
    persons = [Instance(Path("a.jpg"), 0, i, (0, 0, 9, 9), np.zeros((14, 2)), row) for i, row in enumerate(visibility)]
    unlearned = PoseDataset(LSP, persons, "made").unlabeled_joints
    assert learned_joints(LSP, unlearned, ViewsConfig(flip_probability=0)) == tuple(sorted({*range(14)} - {*missing}))
    assert learned_joints(LSP, unlearned, ViewsConfig()) == tuple(sorted({*range(14)} - {*missing[:3]}))
    assert learned_joints(LSP, (), ViewsConfig()) is None


def test_shifts_are_uniform_and_move_joints_and_image_alike():
    still = {"scale": 0, "rotation": 0, "flip_probability": 0}
    views = sampler(**still, shift=0.1).easy(unlabeled(2000))
    moved = (views.from_crop[:, :2, 2] - to_input(2000)[:, :2, 2]).double().numpy()
    largest = 0.1 * np.array([SIZE[1], SIZE[0]])
    assert (np.abs(moved) <= largest + 1e-3).all()
    assert np.std(moved, axis=0) == pytest.approx(largest / np.sqrt(3), rel=0.05)
    assert np.abs(moved.mean(axis=0)).max() < 0.05 * largest.max()
    batch = labeled(4)
    view = sampler(**still, shift=0.1).labeled(batch)
    found, _ = decode(view.targets, 4, "dark", 2.0)
    expected = geometry.transform_points(view.view.from_crop, batch.joints)
    inside = view.weights > 0
    assert (found - expected).abs()[inside].max() < 0.1


def test_every_heatmap_of_centers_shows_all_of_them():
    views = ViewSampler(ViewsConfig(), center_skeleton(3), SIZE, 2.0, torch.Generator().manual_seed(0))
    batch = labeled(8)
    weights = torch.tensor([[1.0, 1, 0], [0, 1, 0]]).repeat(4, 1)
    batch = LabeledBatch(batch.crops, batch.to_input, batch.joints[:, :3], weights)
    seen = views.labeled(batch)
    assert seen.view.flipped.any()  # a center has no side
    points = transform_points(seen.view.from_crop, batch.joints)
    separate, kept = encode(points, weights, views.heatmap_size, 2.0, STRIDE)
    assert kept.any(dim=1).all()
    torch.testing.assert_close(seen.weights, torch.ones(8, 3))
    for k in range(3):
        torch.testing.assert_close(seen.targets[:, k], separate.max(dim=1).values)
