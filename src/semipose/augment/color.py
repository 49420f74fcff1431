"""The color operations of RandAugment."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from semipose.augment.base import HardViewAugmentation
from semipose.models.backbone import MEAN, STD
from semipose.ops.geometry import cached_tensor

OPERATIONS = (
    "identity", "auto_contrast", "equalize", "solarize", "posterize", "brightness", "contrast", "color", "sharpness",
)  # fmt: skip
"""The operations of RandAugment that leave pixels in place."""

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the luminance, as in torchvision."""

CPU_CHUNK = 8
"""Samples that a CPU processes at a time, so that intermediate values stay in its caches."""


class RandAugment(HardViewAugmentation):
    """Applies random color operations in sequence.

    RandAugment's rotations, shears and translations are left out, because the transform from easy to hard view must
    stay the second affine. Colors have 256 levels, as in the original.

    Reference: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", CVPR
    Workshops 2020.
    """

    kind: Literal["rand_augment"] = "rand_augment"
    operations: int = Field(2, ge=1)
    """Number of operations per sample; usually 2."""
    magnitude: float = Field(10.0, ge=0, le=30)
    """Strength on RandAugment's scale from 0 to 30; usually 10."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Changes the colors of `images`."""
        return self.change_colors(images, generator)

    def change_colors(self, images: Float[Tensor, "B 3 H W"], generator: torch.Generator) -> Float[Tensor, "B 3 H W"]:
        """Returns images with changed colors; normalized images and the source of every draw as in `__call__`."""
        shape, device = (2, len(images)), images.device
        draws = torch.stack([torch.rand(shape, generator=generator, device=device) for _ in range(self.operations)])
        chunk = CPU_CHUNK if device.type == "cpu" else len(images)
        parts = zip(images.split(chunk), draws.split(chunk, dim=2), strict=True)
        return torch.cat([self._augment(part, drawn) for part, drawn in parts])

    def _augment(self, images: Tensor, draws: Tensor) -> Tensor:
        """Applies the operations that `draws` (operations, 2, B) in [0, 1) select, each with an index and a sign."""
        mean, std = (cached_tensor(v, images.device).to(images.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
        colors = (images.contiguous() * std + mean).clamp_(0, 1)
        for choice, sign in draws:
            operation = (choice * len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)
            colors = apply_operation(colors, operation, torch.where(sign < 0.5, -1.0, 1.0), self.magnitude / 30)
        return (colors - mean) / std


def apply_operation(
    colors: Float[Tensor, "B 3 H W"], operation: Int[Tensor, " B"], sign: Float[Tensor, " B"], strength: float
) -> Float[Tensor, "B 3 H W"]:
    """Applies one color operation to each sample.

    All operations except color and sharpness are lookup tables with 256 levels. Every table is computed for every
    sample, so that choosing one per sample needs no loop and no copy to the CPU.

    Args:
        colors: Images with values in [0, 1].
        operation: Index into OPERATIONS.
        sign: 1 to increase brightness, contrast, color or sharpness, -1 to decrease it.
        strength: Strength in [0, 1].

    Returns:
        Images with values in [0, 1].
    """
    levels = (colors * 255).round_().long()
    factor = (1 + sign * 0.9 * strength).to(colors.dtype)
    tables = _tables(colors, levels[:, :, ::2, ::2], factor, strength)  # every second pixel is enough for histograms
    table = tables.gather(0, operation[None, :, None, None].expand(1, -1, *tables.shape[2:]))[0]
    changed = table.to(colors.dtype).gather(2, levels.flatten(2)).view_as(colors)
    sharpen, saturate = (operation == OPERATIONS.index(name) for name in ("sharpness", "color"))
    blend_with = torch.where(sharpen.view(-1, 1, 1, 1), _smooth(colors), _gray(colors))
    amount = torch.where(sharpen | saturate, 1 - factor, 0).view(-1, 1, 1, 1)
    return changed.lerp_(blend_with, amount).clamp_(0, 1)


def _gray(colors: Tensor) -> Tensor:
    """Returns the luminance, (B, 1, H, W)."""
    red, green, blue = (colors[:, i : i + 1] for i in range(3))
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def _tables(colors: Tensor, some_levels: Tensor, factor: Tensor, strength: float) -> Float[Tensor, "N B 3 256"]:
    """Returns the lookup table of each operation; for color and sharpness the identity."""
    ramp = torch.arange(256, device=colors.device) / 255
    same = ramp.expand(*colors.shape[:2], -1)
    low, high = ((extreme * 255).round().unsqueeze(-1) / 255 for extreme in colors.flatten(2).aminmax(dim=2))
    mean = (colors.mean(dim=(2, 3)) * cached_tensor(GRAY, colors.device)).sum(dim=1)
    stretched = torch.where(high > low, (same - low) / (high - low).clamp_min(1 / 255), same)
    step = 2 ** round(4 * strength)
    mean, factor = mean.view(-1, 1, 1), factor.view(-1, 1, 1)
    tables = {
        "auto_contrast": stretched,
        "equalize": _equalize(some_levels),
        "solarize": torch.where(same >= 1 - strength, 1 - same, same),
        "posterize": (ramp * 255).round().div(step, rounding_mode="trunc") * step / 255 + torch.zeros_like(same),
        "brightness": same * factor,
        "contrast": mean + (same - mean) * factor,
    }
    return torch.stack([tables.get(name, same) for name in OPERATIONS]).clamp(0, 1)


def _equalize(levels: Tensor) -> Tensor:
    """Returns tables that flatten each channel's histogram of `levels` (B, 3, H, W)."""
    levels = levels.flatten(2)
    histogram = torch.zeros((*levels.shape[:2], 256), device=levels.device)
    histogram.scatter_add_(2, levels, torch.ones((), device=levels.device).expand(levels.shape))
    brightest = histogram.gather(2, levels.amax(dim=2, keepdim=True))
    darker = levels.shape[2] - brightest  # pixels below the brightest level; they spread over the whole range
    below = histogram.cumsum(dim=2) - histogram
    ramp = torch.arange(256, device=levels.device) / 255
    return torch.where(darker > 0, (below / darker.clamp_min(1)).clamp_max(1), ramp)


def _smooth(colors: Tensor) -> Tensor:
    """Smooths with the 3×3 kernel of the sharpness operation; border pixels do not change."""
    rows = colors[:, :, :-2] + colors[:, :, 1:-1] + colors[:, :, 2:]
    box = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    smooth = colors.clone()
    smooth[:, :, 1:-1, 1:-1] = box.add_(colors[:, :, 1:-1, 1:-1], alpha=4).div_(13)
    return smooth
