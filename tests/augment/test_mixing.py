"""Keypoint-Mix, Mixup and CutMix against slow loops over samples and pixels."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from semipose.augment.masking import size_factor
from semipose.augment.mixing import (
    CutMix,
    CutMixPatches,
    KeypointMix,
    Mixup,
    draw_partners,
    mean_patch,
    mixing_share,
)

CPU = torch.device("cpu")
SIZE = (64, 48)


@pytest.fixture
def batch():
    """Images (4, 3, 64, 48), joints (4, 14, 2) also outside the image, scores."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.normal(size=(4, 3, *SIZE)))
    return images, torch.from_numpy(draw.uniform((-6, -6), (54, 70), (4, 14, 2))), torch.ones(4, 14)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inside(x, y, center, half):
    return abs(x - center[0]) <= half and abs(y - center[1]) <= half


def pixels():
    return ((y, x) for y in range(SIZE[0]) for x in range(SIZE[1]))


def apply(augmentation, images, draw):
    """Calls an augmentation that uses neither joints nor scores."""
    return augmentation(images, torch.zeros(len(images), 17, 2), torch.ones(len(images), 17), draw)


def test_keypoint_mix(batch):
    images, joints, scores = batch
    found = KeypointMix()(images, joints, scores, generator(3)).numpy()
    draw = generator(3)
    chosen = torch.rand((4, 14), generator=draw).argsort(dim=1)[:, :5]
    factor = size_factor(images)
    halves = torch.randint(round(10 * factor), round(19 * factor) + 1, (4, 1, 1), generator=draw).numpy()[:, 0, 0]
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


def test_keypoint_mix_of_one_joint_is_the_identity(batch):
    """The mean of one patch is that patch, also where it extends beyond the border."""
    images, joints, scores = batch
    for seed in range(5):
        assert torch.equal(KeypointMix(joints=1)(images, joints, scores, generator(seed)), images)
        assert not torch.equal(KeypointMix(joints=2)(images, joints, scores, generator(seed)), images)


def test_mean_patch_averages_pixels_inside_the_image():
    images = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    mean = mean_patch(images, torch.tensor([[[0, 0], [4, 4], [7, 7]]]), 2)
    assert (mean == 1).all()
    assert (mean_patch(images, torch.tensor([[[-9, -9]]]), 1) == 0).all()


@pytest.mark.parametrize("beta", [0.2, 0.5, 1.0, 4.0])
def test_share_follows_the_beta_distribution(beta):
    n = 100_000
    share = mixing_share(beta, (n,), generator(3), CPU).double().numpy()
    variance = 1 / (4 * (2 * beta + 1))
    fourth = variance**2 * (3 - 6 / (2 * beta + 3))
    assert share.min() >= 0
    assert share.max() <= 1
    assert abs(share.mean() - 0.5) < 4 * math.sqrt(variance / n)
    assert abs(share.var() - variance) < 4 * math.sqrt((fourth - variance**2) / n)
    lower = share[share < 0.5]  # float32 is too coarse near 1
    assert stats.kstest(lower, lambda t: 2 * stats.beta(beta, beta).cdf(t)).pvalue > 1e-3
    assert stats.binomtest(len(lower), n).pvalue > 1e-3


def test_share_draws_from_the_given_generator_only():
    torch.manual_seed(1)
    before, draw = torch.get_rng_state(), generator(5)
    first = mixing_share(1.0, (4, 2), draw, CPU)
    following = mixing_share(1.0, (4, 2), draw, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, mixing_share(1.0, (4, 2), generator(5), CPU))
    assert not torch.isin(first, following).any()
    assert first.unique().numel() == 8
    assert first.dtype == torch.float32


@pytest.mark.parametrize("batch", [2, 3, 5, 8])
def test_partners_are_uniform_over_the_other_samples(batch):
    draw, rounds = generator(batch), 4000
    table = np.zeros((batch, batch))
    for _ in range(rounds):
        table[np.arange(batch), draw_partners(batch, draw, CPU).numpy()] += 1
    assert (np.diag(table) == 0).all()
    others = table[~np.eye(batch, dtype=bool)].reshape(batch, batch - 1)
    assert (others.sum(axis=1) == rounds).all()
    for row in others:
        assert batch == 2 or stats.chisquare(row).pvalue > 1e-4


def test_partner_in_a_batch_of_one_is_the_sample_itself():
    assert all(draw_partners(1, generator(seed), CPU).tolist() == [0] for seed in range(5))


def test_partners_differ_between_samples():
    steps = (draw_partners(64, generator(), CPU) - torch.arange(64)) % 64
    assert steps.unique().numel() > 20


def images_of(batch, height=16, width=12, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, 3, height, width)))


def unmix(mixed, images, i):
    """Recovers (error, partner, share of image i) from the mixed image."""
    fits = []
    for j in range(len(images)):
        if j != i:
            toward = images[j] - images[i]
            rest = ((mixed[i] - images[i]) * toward).sum() / (toward * toward).sum()
            error = np.abs(mixed[i] - images[i] - rest * toward).max()
            fits.append((error, j, 1 - rest))
    return min(fits)


@pytest.mark.parametrize("mix_targets", [True, False])
@pytest.mark.parametrize("beta", [0.3, 1.0, 8.0])
def test_mixup_blends_with_one_other_sample(beta, mix_targets):
    images = images_of(6)
    shares = []
    for seed in range(20):
        mixed = apply(Mixup(beta=beta, mix_targets=mix_targets), images, generator(seed)).numpy()
        for i in range(6):
            error, _, share = unmix(mixed, images.numpy(), i)
            assert error < 1e-12
            assert (0 if mix_targets else 0.5) - 1e-12 <= share <= 1 + 1e-12
            shares.append(share)
    distribution = stats.beta(beta, beta).cdf
    if mix_targets:
        assert min(shares) < 0.4
        assert stats.kstest(shares, distribution).pvalue > 1e-3
    else:
        reflected = stats.kstest(2 * np.array(shares) - 1, lambda t: 2 * distribution((t + 1) / 2) - 1)
        assert reflected.pvalue > 1e-3


@pytest.mark.parametrize("mix_targets", [True, False])
def test_mixup_with_the_same_draws(mix_targets):
    images = images_of(5, seed=1)
    mixed = apply(Mixup(beta=0.7, mix_targets=mix_targets), images, generator(9)).numpy()
    draw = generator(9)
    share = mixing_share(0.7, (5,), draw, CPU).double().numpy()
    step = torch.randint(1, 5, (5,), generator=draw).numpy()
    assert (share < 0.5).any()
    assert (share > 0.5).any()
    for i in range(5):
        kept = share[i] if mix_targets else max(share[i], 1 - share[i])
        expected = kept * images[i].numpy() + (1 - kept) * images[(i + step[i]) % 5].numpy()
        np.testing.assert_allclose(mixed[i], expected, atol=1e-6)  # the share is reflected in float32


def test_mixup_shares_and_partners_differ_between_samples():
    images = images_of(8, seed=2)
    fits = [unmix(apply(Mixup(), images, generator(4)).numpy(), images.numpy(), i) for i in range(8)]
    assert len({round(share, 6) for _, _, share in fits}) == 8
    assert len({(j - i) % 8 for i, (_, j, _) in enumerate(fits)}) > 1


@pytest.mark.parametrize("augmentation", [Mixup(), CutMix()], ids=lambda a: a.kind)
def test_batch_of_one_stays_unchanged(augmentation):
    images = images_of(1)
    for seed in range(5):
        torch.testing.assert_close(apply(augmentation, images, generator(seed)), images, atol=1e-6, rtol=0)


def rectangle(changed):
    """Returns the inclusive borders (left, top, right, bottom) of the changed pixels, which must form a rectangle."""
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return None
    borders = columns.min(), rows.min(), columns.max(), rows.max()
    assert changed[borders[1] : borders[3] + 1, borders[0] : borders[2] + 1].all()
    return borders


@pytest.mark.parametrize(("height", "width"), [(32, 24), (24, 32), (17, 9)])
@pytest.mark.parametrize("max_area", [0.1, 0.5, 1.0])
def test_cut_mix_pastes_one_rectangle_of_one_other_sample(height, width, max_area):
    images = images_of(5, height, width).numpy()
    at_border, partners = 0, set()
    # Borders fall between pixels, so that each side may gain up to one.
    limit = (math.sqrt(max_area) * width + 1) * (math.sqrt(max_area) * height + 1)
    for seed in range(12):
        kind = CutMix(max_area=max_area, mix_targets=False)
        found = apply(kind, torch.from_numpy(images), generator(seed)).numpy()
        for i in range(5):
            changed = (found[i] != images[i]).any(axis=0)
            assert changed.sum() <= min(limit, height * width)
            borders = rectangle(changed)
            if borders is None:
                continue
            splits = [j for j in range(5) if j != i and (found[i] == images[j])[:, changed].all()]
            assert len(splits) == 1
            partners.add((splits[0] - i) % 5)
            at_border += borders[0] == 0 or borders[1] == 0 or borders[2] == width - 1 or borders[3] == height - 1
    assert at_border > 0
    assert partners == {1, 2, 3, 4}


@pytest.mark.parametrize("mix_targets", [True, False])
@pytest.mark.parametrize(("beta", "max_area"), [(1.0, 0.5), (0.4, 0.5), (3.0, 0.3), (1.0, 1.0)])
def test_cut_mix_with_the_same_draws(beta, max_area, mix_targets):
    """The rectangle has area 1 - share and the proportions of the input; `max_area` holds where targets stay."""
    images = images_of(6, 32, 24, seed=3).numpy()
    clipped = whole = limited = 0
    for seed in range(4):
        kind = CutMix(beta=beta, max_area=max_area, mix_targets=mix_targets)
        found = apply(kind, torch.from_numpy(images), generator(seed)).numpy()
        draw = generator(seed)
        share = mixing_share(beta, (6,), draw, CPU).double().numpy()
        center = torch.rand((6, 2), generator=draw).double().numpy()
        step = torch.randint(1, 6, (6,), generator=draw).numpy()
        expected = images.copy()
        for i in range(6):
            side = math.sqrt(1 - share[i] if mix_targets else min(1 - share[i], max_area))
            limited += 1 - share[i] > max_area
            x0, y0 = center[i, 0] * 23, center[i, 1] * 31
            inner = side * 12 <= x0 <= 23 - side * 12 and side * 16 <= y0 <= 31 - side * 16
            clipped, whole = clipped + (not inner), whole + inner
            for y in range(32):
                for x in range(24):
                    if abs(x - x0) <= side * 12 and abs(y - y0) <= side * 16:
                        expected[i, :, y, x] = images[(i + step[i]) % 6, :, y, x]
        np.testing.assert_array_equal(found, expected)
    assert clipped > 0
    assert whole > 0
    assert limited > 0 or max_area == 1


def test_cut_mix_rectangles_differ_between_samples():
    images = images_of(8, 48, 36)
    found = apply(CutMix(), images, generator(1))
    assert len({rectangle((found[i] != images[i]).any(dim=0).numpy()) for i in range(8)}) >= 7


@pytest.mark.parametrize(("height", "width"), [(64, 48), (256, 192)])
def test_cut_mix_patches_with_the_same_draws(height, width):
    """Two rectangles of one other sample at the same positions; widths and heights of 10 to 19 pixels at 256×192."""
    images = images_of(4, height, width).numpy()
    factor = math.sqrt(height * width / (256 * 192))
    low, high = max(1, round(10 * factor)), round(19 * factor)
    for seed in range(3):
        found = apply(CutMixPatches(), torch.from_numpy(images), generator(seed)).numpy()
        draw = generator(seed)
        places = torch.rand((4, 2, 2), generator=draw).numpy()
        halves = torch.randint(low, high + 1, (4, 2, 2), generator=draw).numpy()
        step = torch.randint(1, 4, (4,), generator=draw).numpy()
        expected = images.copy()
        for b in range(4):
            for (px, py), (half_width, half_height) in zip(places[b], halves[b], strict=True):
                x, y = int(px * np.float32(width)), int(py * np.float32(height))
                rows = slice(max(0, y - half_height), y + half_height + 1)
                columns = slice(max(0, x - half_width), x + half_width + 1)
                expected[b, :, rows, columns] = images[(b + step[b]) % 4, :, rows, columns]
        np.testing.assert_array_equal(found, expected)
    alone = torch.from_numpy(images[:1])
    assert torch.equal(apply(CutMixPatches(), alone, generator()), alone)
