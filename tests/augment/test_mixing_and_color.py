"""Mixup, CutMix and RandAugment: against loops and against torchvision's operations as an oracle.

Tolerances of colors are in levels, 1/255 of the range.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import functional as oracle

from semipose.augment import color
from semipose.augment.color import OPERATIONS, RandAugment, operate
from semipose.augment.mixing import CutMix, Mixup, another, mixing_share
from semipose.models.backbones import MEAN, STD

CPU = torch.device("cpu")
TABLES = [name for name in OPERATIONS if name not in ("color", "sharpness")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def apply(kind, images, draw):
    """An alteration that looks at neither joints nor scores."""
    return kind(images, torch.zeros(len(images), 17, 2), torch.ones(len(images), 17), draw)


# --- the share and the partner


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
    lower = share[share < 0.5]  # near 1 single precision is too coarse for the test
    assert stats.kstest(lower, lambda t: 2 * stats.beta(beta, beta).cdf(t)).pvalue > 1e-3
    assert stats.binomtest(len(lower), n).pvalue > 1e-3


def test_share_is_seeded_and_draws_from_the_given_generator_only():
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


@pytest.mark.parametrize("kind", [Mixup(), CutMix(), RandAugment()], ids=lambda a: a.kind)
def test_alterations_draw_from_the_given_generator_only(kind):
    images = torch.randn((3, 3, 16, 12), generator=generator())
    before, kept = torch.get_rng_state(), images.clone()
    first = apply(kind, images, generator(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(first, apply(kind, images, generator(1)))
    assert torch.equal(images, kept)  # the easy image is needed again


@pytest.mark.parametrize("batch", [2, 3, 5, 8])
def test_another_is_any_other_sample_alike(batch):
    draw, rounds = generator(batch), 4000
    table = np.zeros((batch, batch))
    for _ in range(rounds):
        table[np.arange(batch), another(batch, draw, CPU).numpy()] += 1
    assert (np.diag(table) == 0).all()
    others = table[~np.eye(batch, dtype=bool)].reshape(batch, batch - 1)
    assert (others.sum(axis=1) == rounds).all()
    for row in others:
        assert batch == 2 or stats.chisquare(row).pvalue > 1e-4


def test_another_of_one_is_itself():
    assert all(another(1, generator(seed), CPU).tolist() == [0] for seed in range(5))


def test_samples_choose_their_partners_apart():
    steps = (another(64, generator(), CPU) - torch.arange(64)) % 64
    assert steps.unique().numel() > 20


# --- Mixup


def images_of(batch, height=16, width=12, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, 3, height, width)))


def unmix(mixed, images, i):
    """The sample that image i was mixed with and the share of i, each from the outcome alone."""
    fits = []
    for j in range(len(images)):
        if j != i:
            toward = images[j] - images[i]
            rest = ((mixed[i] - images[i]) * toward).sum() / (toward * toward).sum()
            error = np.abs(mixed[i] - images[i] - rest * toward).max()
            fits.append((error, j, 1 - rest))
    return min(fits)


@pytest.mark.parametrize("beta", [0.3, 1.0, 8.0])
def test_mixup_is_an_exact_mixture_with_one_other_sample(beta):
    images = images_of(6)
    shares = []
    for seed in range(20):
        mixed = apply(Mixup(beta=beta), images, generator(seed)).numpy()
        for i in range(6):
            error, _, share = unmix(mixed, images.numpy(), i)
            assert error < 1e-12
            assert 0.5 - 1e-12 <= share <= 1 + 1e-12
            shares.append(share)
    reflected = stats.kstest(2 * np.array(shares) - 1, lambda t: 2 * stats.beta(beta, beta).cdf((t + 1) / 2) - 1)
    assert reflected.pvalue > 1e-3


def test_mixup_replayed():
    images = images_of(5, seed=1)
    mixed = apply(Mixup(beta=0.7), images, generator(9)).numpy()
    draw = generator(9)
    share = mixing_share(0.7, (5,), draw, CPU).double().numpy()
    step = torch.randint(1, 5, (5,), generator=draw).numpy()
    assert (share < 0.5).any()
    assert (share > 0.5).any()
    for i in range(5):
        kept = max(share[i], 1 - share[i])
        expected = kept * images[i].numpy() + (1 - kept) * images[(i + step[i]) % 5].numpy()
        np.testing.assert_allclose(mixed[i], expected, atol=1e-6)  # the share is reflected in single precision


def test_mixup_shares_and_partners_are_per_sample():
    images = images_of(8, seed=2)
    fits = [unmix(apply(Mixup(), images, generator(4)).numpy(), images.numpy(), i) for i in range(8)]
    assert len({round(share, 6) for _, _, share in fits}) == 8
    assert len({(j - i) % 8 for i, (_, j, _) in enumerate(fits)}) > 1


@pytest.mark.parametrize("kind", [Mixup(), CutMix()], ids=lambda a: a.kind)
def test_one_sample_alone_stays(kind):
    images = images_of(1)
    for seed in range(5):
        torch.testing.assert_close(apply(kind, images, generator(seed)), images, atol=1e-6, rtol=0)


# --- CutMix


def rectangle(changed):
    """Borders (left, top, right, bottom), inclusive, of the changed pixels, which must fill them; None without any."""
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return None
    borders = columns.min(), rows.min(), columns.max(), rows.max()
    assert changed[borders[1] : borders[3] + 1, borders[0] : borders[2] + 1].all()
    return borders


@pytest.mark.parametrize(("height", "width"), [(32, 24), (24, 32), (17, 9)])
@pytest.mark.parametrize("largest", [0.1, 0.5, 1.0])
def test_cut_mix_pastes_one_rectangle_of_one_other_sample(height, width, largest):
    images = images_of(5, height, width).numpy()
    at_border, partners = 0, set()
    # Borders fall between pixels, so that each side may gain up to one.
    limit = (math.sqrt(largest) * width + 1) * (math.sqrt(largest) * height + 1)
    for seed in range(12):
        found = apply(CutMix(largest=largest), torch.from_numpy(images), generator(seed)).numpy()
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


@pytest.mark.parametrize(("beta", "largest"), [(1.0, 0.5), (0.4, 0.5), (3.0, 0.3), (1.0, 1.0)])
def test_cut_mix_replayed(beta, largest):
    """Area 1 - share of the input's, at most `largest`, in the input's proportions, cut off at the border."""
    images = images_of(6, 32, 24, seed=3).numpy()
    clipped = whole = limited = 0
    for seed in range(4):
        found = apply(CutMix(beta=beta, largest=largest), torch.from_numpy(images), generator(seed)).numpy()
        draw = generator(seed)
        share = mixing_share(beta, (6,), draw, CPU).double().numpy()
        center = torch.rand((6, 2), generator=draw).double().numpy()
        step = torch.randint(1, 6, (6,), generator=draw).numpy()
        expected = images.copy()
        for i in range(6):
            side = math.sqrt(min(1 - share[i], largest))
            limited += 1 - share[i] > largest
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
    assert limited > 0 or largest == 1


def test_cut_mix_rectangles_are_per_sample():
    images = images_of(8, 48, 36)
    found = apply(CutMix(), images, generator(1))
    assert len({rectangle((found[i] != images[i]).any(dim=0).numpy()) for i in range(8)}) >= 7


# --- RandAugment's operations


def photos(batch, side=96, seed=0):
    """Images (B, 3, 2 side, 2 side) of whole levels, smooth with noise, each 2×2 block alike, channels apart.

    Of the blocks a histogram of every second pixel tells as much as one of all.
    """
    draw = np.random.default_rng(seed)
    coarse = torch.from_numpy(draw.uniform(-0.2, 1.1, (batch, 3, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
    noisy = smooth + torch.from_numpy(draw.normal(0, 0.03, (batch, 3, side, side)))
    lowest = torch.from_numpy(draw.uniform(0.05, 0.2, (batch, 3, 1, 1)))
    levels = (noisy.clamp(0, 1) * 0.7 + lowest).mul(255).round().float()
    return (levels / 255).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def run(colors, name, sign=1.0, strength=1 / 3):
    signs = torch.full((len(colors),), sign)
    return operate(colors, torch.full((len(colors),), OPERATIONS.index(name)), signs, strength)


def reference(image, name, sign, strength):
    """torchvision's operation on one image (3, H, W) of whole levels."""
    factor = 1 + sign * 0.9 * strength
    whole = image.mul(255).round().to(torch.uint8)
    if name == "auto_contrast":
        return oracle.autocontrast(image)
    if name == "equalize":
        return oracle.equalize(whole).float() / 255
    if name == "solarize":
        return oracle.solarize(image, 1 - strength)
    if name == "posterize":
        return oracle.posterize(whole, 8 - round(4 * strength)).float() / 255
    if name == "brightness":
        return oracle.adjust_brightness(image, factor)
    if name == "contrast":
        return oracle.adjust_contrast(image, factor)
    if name == "color":
        return oracle.adjust_saturation(image, factor)
    if name == "sharpness":
        return oracle.adjust_sharpness(image, factor)
    assert name == "identity"
    return image


def tolerance(name, image):
    """In levels. torchvision's equalize divides by a step cut down to a whole number and rounds its table."""
    if name != "equalize":
        return 0.01
    steps = [(channel < channel.max()).sum().item() / 255 for channel in image]
    return 0.51 + max(255 * (step / int(step) - 1) for step in steps)


@pytest.mark.parametrize("strength", [0.0, 0.2, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_against_torchvision(name, sign, strength):
    colors = photos(2)
    found = run(colors, name, sign, strength)
    for b in range(2):
        allowed = tolerance(name, colors[b])
        assert allowed < 3
        assert (found[b] - reference(colors[b], name, sign, strength)).abs().max() * 255 < allowed


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "identity"])
def test_operation_changes_the_image(name):
    """Else the comparison above would say little."""
    colors = photos(2)
    assert (run(colors, name, 1.0, 0.5) - colors).abs().mean() * 255 > 0.2


def test_samples_are_operated_on_apart():
    """A batch of all operations with both signs is what each sample alone gives."""
    operation = torch.arange(18) % 9
    sign = torch.where(torch.arange(18) < 9, -1.0, 1.0)
    colors = photos(18, 48)
    found = operate(colors, operation, sign, 1 / 3)
    for i in range(18):
        alone = reference(colors[i], OPERATIONS[operation[i]], sign[i].item(), 1 / 3)
        assert (found[i] - alone).abs().max() * 255 < tolerance(OPERATIONS[operation[i]], colors[i])


def test_equalize_gives_the_share_of_darker_pixels():
    """Of every second pixel in each direction, among those below the brightest level."""
    colors = photos(2, 24)[:, :, ::2, ::2].contiguous()
    levels = colors.mul(255).round().long().numpy()
    found = run(colors, "equalize").numpy()
    for b in range(2):
        for c in range(3):
            sample = levels[b, c, ::2, ::2].ravel().tolist()
            others = [level for level in sample if level < max(sample)]
            for y in range(24):
                for x in range(24):
                    darker = sum(level < levels[b, c, y, x] for level in others)
                    assert abs(found[b, c, y, x] - darker / len(others)) * 255 < 0.01


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", ["identity", "posterize", "brightness", "contrast", "color", "sharpness"])
def test_no_strength_changes_nothing_but_levels(name, sign):
    colors = torch.rand((2, 3, 20, 16), generator=generator())
    found = run(colors, name, sign, 0.0)
    assert (found - colors).abs().max() * 255 <= 0.5 + 1e-3
    assert torch.equal((found * 255).round(), (colors * 255).round())


def test_solarize_without_strength_leaves_all_but_white():
    """As in torchvision, whose threshold at magnitude 0 is white itself."""
    colors = torch.rand((2, 3, 20, 16), generator=generator()) * 0.99
    assert torch.equal((run(colors, "solarize", 1.0, 0.0) * 255).round(), (colors * 255).round())


@pytest.mark.parametrize("strength", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_identity_leaves_the_image_up_to_256_levels(sign, strength):
    colors = torch.rand((3, 3, 20, 16), generator=generator())
    found = run(colors, "identity", sign, strength)
    assert (found - colors).abs().max() * 255 <= 0.5 + 1e-3
    assert (found * 255 - (found * 255).round()).abs().max() < 1e-3


@pytest.mark.parametrize("strength", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_flat_images_stay_finite_and_flat(name, sign, strength):
    levels = torch.tensor([[0, 0, 0], [255, 255, 255], [128, 128, 128], [10, 100, 200], [0, 255, 77]])
    colors = (levels / 255)[:, :, None, None].expand(-1, -1, 12, 10).contiguous()
    found = run(colors, name, sign, strength)
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - found[..., :1, :1]).abs().max() * 255 < 1e-3
    if name in ("identity", "auto_contrast", "equalize", "sharpness"):
        assert (found - colors).abs().max() * 255 < 1e-3


def test_one_flat_channel_stays_while_the_others_stretch():
    colors = photos(1)
    colors[:, 1] = 90 / 255
    for name in ("auto_contrast", "equalize"):
        found = run(colors, name)
        assert (found[:, 1] - colors[:, 1]).abs().max() * 255 < 1e-3
        assert found[:, 0].min() == 0
        assert found[:, 2].max() == 1


@pytest.mark.parametrize("name", [*TABLES, "color"])
def test_operations_commute_with_a_permutation_of_pixels(name):
    """Blocks of 2×2 pixels move together, for equalize's histogram."""
    small = photos(2)[:, :, ::2, ::2]
    order = torch.randperm(small[0, 0].numel(), generator=generator(1))

    def permuted(pixels):
        return pixels.flatten(2)[:, :, order].view_as(pixels)

    def doubled(pixels):
        return pixels.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    before = run(doubled(permuted(small)), name, -1.0)
    after = doubled(permuted(run(doubled(small), name, -1.0)[:, :, ::2, ::2]))
    assert (before - after).abs().max() * 255 < 0.01


@pytest.mark.parametrize("axis", [2, 3])
def test_sharpness_commutes_with_a_flip_and_stays_local(axis):
    colors = photos(2)
    assert (run(colors.flip(axis), "sharpness") - run(colors, "sharpness").flip(axis)).abs().max() * 255 < 0.01
    spot = colors.clone()
    spot[:, :, 20, 30] = 0
    rows, columns = np.nonzero((run(spot, "sharpness") != run(colors, "sharpness")).any(dim=1)[0].numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 21, 29, 31)


# --- RandAugment as a whole


def normalized(colors):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (colors - mean) / std


def denormalized(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return images * std + mean


@pytest.mark.parametrize("magnitude", [4.0, 10.0, 30.0])
def test_rand_augment_of_one_operation_against_torchvision(magnitude):
    colors, seen = photos(24, 48), set()
    found = denormalized(apply(RandAugment(operations=1, magnitude=magnitude), normalized(colors), generator(8)))
    which, sign = torch.rand((2, 24), generator=generator(8)).tolist()
    for i in range(24):
        name = OPERATIONS[int(which[i] * 9)]
        seen.add(name)
        expected = reference(colors[i], name, -1.0 if sign[i] < 0.5 else 1.0, magnitude / 30)
        assert (found[i] - expected).abs().max() * 255 < tolerance(name, colors[i])
    assert len(seen) > 6


def test_rand_augment_applies_operations_in_turn():
    colors = photos(12, 24)
    found = denormalized(apply(RandAugment(operations=3), normalized(colors), generator(2)))
    draw = generator(2)
    for _ in range(3):
        which, sign = torch.rand((2, 12), generator=draw)
        colors = operate(colors, (which * 9).long(), torch.where(sign < 0.5, -1.0, 1.0), 1 / 3)
    error = (found - colors).abs() * 255
    assert error.mean() < 0.01  # a value between two levels may round either way
    assert (error > 0.1).float().mean() < 0.01


def test_how_many_samples_are_worked_on_together_changes_nothing(monkeypatch):
    images = normalized(photos(19, 24))
    found = apply(RandAugment(), images, generator(4))
    monkeypatch.setattr(color, "AT_ONCE", 19)
    assert torch.equal(found, apply(RandAugment(), images, generator(4)))


def test_operations_and_signs_are_drawn_alike_and_apart(monkeypatch):
    drawn = []

    def record(colors, operation, sign, strength):
        drawn.append((operation.numpy(), sign.numpy(), strength))
        return colors

    monkeypatch.setattr(color, "operate", record)
    monkeypatch.setattr(color, "AT_ONCE", 18_000)
    apply(RandAugment(operations=2, magnitude=12), torch.zeros(18_000, 3, 1, 1), generator(6))
    assert len(drawn) == 2
    table = np.zeros((2, 9, 2))
    for turn, (operation, sign, strength) in enumerate(drawn):
        assert strength == pytest.approx(0.4)
        assert set(np.unique(sign)) == {-1.0, 1.0}
        np.add.at(table[turn], (operation, (sign > 0).astype(int)), 1)
        assert stats.chisquare(table[turn].ravel()).pvalue > 1e-3
    pairs = np.zeros((9, 9))
    np.add.at(pairs, (drawn[0][0], drawn[1][0]), 1)
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_rand_augment_keeps_flat_images_finite_and_pixels_in_place():
    flat = torch.tensor([-2.0, 0.0, 2.0])[:, None, None, None].expand(-1, 3, 16, 12).repeat(20, 1, 1, 1)
    found = apply(RandAugment(operations=4, magnitude=30), flat, generator(1))
    assert found.isfinite().all()
    assert (found - found[..., :1, :1]).abs().max() < 1e-3
    low, high = normalized(torch.zeros(1, 3, 1, 1)), normalized(torch.ones(1, 3, 1, 1))
    assert (found >= low - 1e-5).all()
    assert (found <= high + 1e-5).all()


def test_auto_contrast_leaves_a_channel_alone_that_is_flat_but_for_noise():
    colors = torch.full((1, 3, 8, 8), 100 / 255)
    colors[0, :, 3, 3] += 1e-6
    found = operate(colors, torch.tensor([OPERATIONS.index("auto_contrast")]), torch.ones(1), 1 / 3)
    assert (found - colors).abs().max() * 255 < 0.6
