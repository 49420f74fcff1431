"""The color operations of RandAugment against torchvision's; tolerances are in levels, 1/255 of the range."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import functional as oracle

from semipose.augment import color
from semipose.augment.color import OPERATIONS, RandAugment, apply_operation
from semipose.models.backbone import MEAN, STD

TABLES = [name for name in OPERATIONS if name not in ("color", "sharpness")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def apply(augmentation, images, draw):
    return augmentation(images, torch.zeros(len(images), 17, 2), torch.ones(len(images), 17), draw)


def images_of_levels(batch, side=96, seed=0):
    """Smooth images with noise, (B, 3, 2 side, 2 side), of 256 levels and constant in 2×2 blocks.

    The histogram of every second pixel is then the histogram of all pixels.
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
    return apply_operation(colors, torch.full((len(colors),), OPERATIONS.index(name)), signs, strength)


def reference(image, name, sign, strength):
    """Applies torchvision's operation to one image (3, H, W)."""
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
    """Returns the tolerance in levels; torchvision's equalize rounds its step down and its table to whole levels."""
    if name != "equalize":
        return 0.01
    steps = [(channel < channel.max()).sum().item() / 255 for channel in image]
    return 0.51 + max(255 * (step / int(step) - 1) for step in steps)


@pytest.mark.parametrize("strength", [0.0, 0.2, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_against_torchvision(name, sign, strength):
    colors = images_of_levels(2)
    found = run(colors, name, sign, strength)
    for b in range(2):
        allowed = tolerance(name, colors[b])
        assert allowed < 3
        assert (found[b] - reference(colors[b], name, sign, strength)).abs().max() * 255 < allowed


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "identity"])
def test_operation_changes_the_image(name):
    colors = images_of_levels(2)
    assert (run(colors, name, 1.0, 0.5) - colors).abs().mean() * 255 > 0.2


def test_operations_of_a_batch_equal_those_of_single_samples():
    operation = torch.arange(18) % 9
    sign = torch.where(torch.arange(18) < 9, -1.0, 1.0)
    colors = images_of_levels(18, 48)
    found = apply_operation(colors, operation, sign, 1 / 3)
    for i in range(18):
        alone = reference(colors[i], OPERATIONS[operation[i]], sign[i].item(), 1 / 3)
        assert (found[i] - alone).abs().max() * 255 < tolerance(OPERATIONS[operation[i]], colors[i])


def test_equalize_is_the_share_of_darker_pixels():
    """Among every second pixel in each direction, without those of the brightest level."""
    colors = images_of_levels(2, 24)[:, :, ::2, ::2].contiguous()
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
def test_strength_zero_only_rounds_to_levels(name, sign):
    colors = torch.rand((2, 3, 20, 16), generator=generator())
    found = run(colors, name, sign, 0.0)
    assert (found - colors).abs().max() * 255 <= 0.5 + 1e-3
    assert torch.equal((found * 255).round(), (colors * 255).round())


def test_solarize_of_strength_zero_changes_only_white():
    """As in torchvision, whose threshold at magnitude 0 is white."""
    colors = torch.rand((2, 3, 20, 16), generator=generator()) * 0.99
    assert torch.equal((run(colors, "solarize", 1.0, 0.0) * 255).round(), (colors * 255).round())


@pytest.mark.parametrize("strength", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_identity_rounds_to_256_levels(sign, strength):
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


def test_flat_channel_stays_unchanged():
    colors = images_of_levels(1)
    colors[:, 1] = 90 / 255
    for name in ("auto_contrast", "equalize"):
        found = run(colors, name)
        assert (found[:, 1] - colors[:, 1]).abs().max() * 255 < 1e-3
        assert found[:, 0].min() == 0
        assert found[:, 2].max() == 1


@pytest.mark.parametrize("name", [*TABLES, "color"])
def test_operations_commute_with_a_permutation_of_2x2_blocks(name):
    small = images_of_levels(2)[:, :, ::2, ::2]
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
    colors = images_of_levels(2)
    assert (run(colors.flip(axis), "sharpness") - run(colors, "sharpness").flip(axis)).abs().max() * 255 < 0.01
    spot = colors.clone()
    spot[:, :, 20, 30] = 0
    rows, columns = np.nonzero((run(spot, "sharpness") != run(colors, "sharpness")).any(dim=1)[0].numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 21, 29, 31)


def normalized(colors):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (colors - mean) / std


def denormalized(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return images * std + mean


@pytest.mark.parametrize("magnitude", [4.0, 10.0, 30.0])
def test_rand_augment_with_one_operation_against_torchvision(magnitude):
    colors, applied = images_of_levels(24, 48), set()
    found = denormalized(apply(RandAugment(operations=1, magnitude=magnitude), normalized(colors), generator(8)))
    choice, sign = torch.rand((2, 24), generator=generator(8)).tolist()
    for i in range(24):
        name = OPERATIONS[int(choice[i] * 9)]
        applied.add(name)
        expected = reference(colors[i], name, -1.0 if sign[i] < 0.5 else 1.0, magnitude / 30)
        assert (found[i] - expected).abs().max() * 255 < tolerance(name, colors[i])
    assert len(applied) > 6


def test_rand_augment_applies_operations_in_turn():
    colors = images_of_levels(12, 24)
    found = denormalized(apply(RandAugment(operations=3), normalized(colors), generator(2)))
    draw = generator(2)
    for _ in range(3):
        choice, sign = torch.rand((2, 12), generator=draw)
        colors = apply_operation(colors, (choice * 9).long(), torch.where(sign < 0.5, -1.0, 1.0), 1 / 3)
    error = (found - colors).abs() * 255
    assert error.mean() < 0.01  # values halfway between two levels may round either way
    assert (error > 0.1).float().mean() < 0.01


def test_chunk_size_does_not_change_the_result(monkeypatch):
    images = normalized(images_of_levels(19, 24))
    found = apply(RandAugment(), images, generator(4))
    monkeypatch.setattr(color, "CPU_CHUNK", 19)
    assert torch.equal(found, apply(RandAugment(), images, generator(4)))


def test_operations_and_signs_are_uniform_and_independent(monkeypatch):
    drawn = []

    def record(colors, operation, sign, strength):
        drawn.append((operation.numpy(), sign.numpy(), strength))
        return colors

    monkeypatch.setattr(color, "apply_operation", record)
    monkeypatch.setattr(color, "CPU_CHUNK", 18_000)
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


def test_rand_augment_keeps_flat_images_finite_and_flat():
    flat = torch.tensor([-2.0, 0.0, 2.0])[:, None, None, None].expand(-1, 3, 16, 12).repeat(20, 1, 1, 1)
    found = apply(RandAugment(operations=4, magnitude=30), flat, generator(1))
    assert found.isfinite().all()
    assert (found - found[..., :1, :1]).abs().max() < 1e-3
    low, high = normalized(torch.zeros(1, 3, 1, 1)), normalized(torch.ones(1, 3, 1, 1))
    assert (found >= low - 1e-5).all()
    assert (found <= high + 1e-5).all()


def test_auto_contrast_ignores_noise_below_one_level():
    colors = torch.full((1, 3, 8, 8), 100 / 255)
    colors[0, :, 3, 3] += 1e-6
    found = apply_operation(colors, torch.tensor([OPERATIONS.index("auto_contrast")]), torch.ones(1), 1 / 3)
    assert (found - colors).abs().max() * 255 < 0.6
