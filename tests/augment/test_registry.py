"""Alterations of the hard view against slow loops over samples, patches and pixels."""

import numpy as np
import pytest
import torch

from semipose.augment.color import RandAugment
from semipose.augment.masking import AdaptiveJointCutout, CutOcclude, Cutout, JointCutout, size_factor
from semipose.augment.mixing import CutMix, KeypointMix, Mixup, mean_patch
from semipose.augment.registry import apply_augmentations

SIZE = (64, 48)
AUGMENTATIONS = [
    JointCutout(),
    AdaptiveJointCutout(),
    CutOcclude(),
    KeypointMix(),
    Cutout(),
    CutMix(),
    Mixup(),
    RandAugment(),
]


@pytest.fixture
def batch():
    """Images (4, 3, 64, 48), joints (4, 14, 2) reaching over the border, scores."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.normal(size=(4, 3, *SIZE)))
    return images, torch.from_numpy(draw.uniform((-6, -6), (54, 70), (4, 14, 2))), torch.ones(4, 14)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inside(x, y, center, half):
    return abs(x - center[0]) <= half and abs(y - center[1]) <= half


def pixels():
    return ((y, x) for y in range(SIZE[0]) for x in range(SIZE[1]))


@pytest.mark.parametrize("jitter", [0.0, 10.0])
def test_joint_cutout(batch, jitter):
    images, joints, scores = batch
    found = JointCutout(jitter=jitter)(images, joints, scores, generator())
    draw = generator()
    chosen = torch.randint(14, (4, 5), generator=draw)
    noise = torch.randn((4, 5, 2), generator=draw).double().numpy()
    factor = size_factor(images)
    halves = torch.randint(round(10 * factor), round(19 * factor) + 1, (4, 5), generator=draw).numpy()
    expected = images.clone().numpy()
    for b in range(4):
        for n in range(5):
            center = np.round(joints[b, chosen[b, n]].numpy() + noise[b, n] * jitter * factor)
            for y, x in pixels():
                if inside(x, y, center, halves[b, n]):
                    expected[b, :, y, x] = 0
    np.testing.assert_array_equal(found.numpy(), expected)


def test_cut_occlude(batch):
    images, joints, scores = batch
    found = CutOcclude(joints=3)(images, joints, scores, generator(2))
    draw = generator(2)
    place = torch.randint(14, (4, 3), generator=draw)
    donor = (torch.arange(4)[:, None] + torch.randint(1, 4, (4, 3), generator=draw)) % 4
    origin = torch.randint(14, (4, 3), generator=draw)
    factor = size_factor(images)
    halves = torch.randint(round(10 * factor), round(19 * factor) + 1, (4, 3), generator=draw).numpy()
    source, expected = images.numpy(), images.clone().numpy()
    for b in range(4):
        for n in range(3):
            assert donor[b, n] != b
            center = np.round(joints[b, place[b, n]].numpy()).astype(int)
            start = np.round(joints[donor[b, n], origin[b, n]].numpy()).astype(int)
            for y, x in pixels():
                from_x, from_y = x - center[0] + start[0], y - center[1] + start[1]
                exists = 0 <= from_x < SIZE[1] and 0 <= from_y < SIZE[0]
                if inside(x, y, center, halves[b, n]) and exists:
                    expected[b, :, y, x] = source[donor[b, n], :, from_y, from_x]
    np.testing.assert_array_equal(found.numpy(), expected)


def test_keypoint_mix(batch):
    images, joints, scores = batch
    found = KeypointMix()(images, joints, scores, generator(3)).numpy()
    draw = generator(3)
    chosen = torch.rand((4, 14), generator=draw).argsort(dim=1)[:, :5]
    factor = size_factor(images)
    halves = torch.randint(round(10 * factor), round(19 * factor) + 1, (4, 1), generator=draw).numpy()[:, 0]
    source = images.numpy()
    for b in range(4):
        assert len(set(chosen[b].tolist())) == 5
        centers = [np.round(joints[b, k].numpy()).astype(int) for k in chosen[b]]
        for y, x in pixels():
            over = [c for c in centers if inside(x, y, c, halves[b])]
            if not over:
                np.testing.assert_array_equal(found[b, :, y, x], source[b, :, y, x])
                continue
            offset = np.array([x, y]) - over[-1]
            values = [source[b, :, (c + offset)[1], (c + offset)[0]] for c in centers if exists(c + offset)]
            np.testing.assert_allclose(found[b, :, y, x], np.mean(values, axis=0), atol=1e-12)


def exists(point):
    return 0 <= point[0] < SIZE[1] and 0 <= point[1] < SIZE[0]


def test_mean_patch_counts_existing_pixels_only():
    images = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    mean = mean_patch(images, torch.tensor([[[0, 0], [4, 4], [7, 7]]]), 2)
    assert (mean == 1).all()
    assert (mean_patch(images, torch.tensor([[[-9, -9]]]), 1) == 0).all()


def test_cutout(batch):
    images, joints, scores = batch
    found = Cutout(side=0.5)(images, joints, scores, generator())
    gone = (found == 0).all(dim=1)
    assert gone.flatten(1).any(dim=1).all()
    for b in range(4):
        rows, columns = np.nonzero(gone[b].numpy())
        assert gone[b].sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert np.ptp(rows) <= 2 * round(0.25 * np.sqrt(64 * 48))


@pytest.mark.parametrize("kind", AUGMENTATIONS, ids=lambda a: a.kind)
def test_seeded_and_shaped(batch, kind):
    images, joints, scores = batch
    first, again, other = (kind(images, joints, scores, generator(s)) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.isfinite().all()
    alone = kind(images[:1], joints[:1], scores[:1], generator())
    assert alone.shape == (1, 3, *SIZE)


def test_composition(batch):
    images, joints, scores = batch
    draw = generator(1)
    expected = CutOcclude()(JointCutout()(images, joints, scores, draw), joints, scores, draw)
    found = apply_augmentations(images, joints, scores, [JointCutout(), CutOcclude()], generator(1))
    assert torch.equal(found, expected)
    assert apply_augmentations(images, joints, scores, [], generator()) is images


def test_sizes_scale_with_the_input():
    for height, width in ((256, 192), (512, 384), (96, 96), (64, 48)):
        low, high = JointCutout().bounds(torch.empty(1, 3, height, width))
        factor = np.sqrt(height * width / (256 * 192))
        assert (low, high) == (round(10 * factor), round(19 * factor))
    with pytest.raises(ValueError, match="half_size_min"):
        JointCutout(half_size_min=20)
