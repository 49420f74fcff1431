"""RandAugment's color operations as an alteration: the look changes, no pixel moves."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from semipose.models.backbones import MEAN, STD
from semipose.ops.geometry import cached_tensor
from semipose.utils.section import Section

OPERATIONS = (
    "identity", "auto_contrast", "equalize", "solarize", "posterize", "brightness", "contrast", "color", "sharpness",
)  # fmt: skip
"""Those of RandAugment that leave pixels in place."""

GRAY = (0.2989, 0.587, 0.114)
"""Share of red, green and blue in gray, as in torchvision."""


AT_ONCE = 8
"""Samples that a CPU works on together: their intermediate values stay in its caches."""


class RandAugment(Section):
    """Random color operations, one after the other (Cubuk et al., CVPR Workshops 2020).

    Its rotations, shears and translations are left out: the second affine moves the image, and the map from easy to
    hard must stay that affine. Colors are counted in 256 levels, as in the original.
    """

    kind: Literal["rand_augment"] = "rand_augment"
    operations: int = Field(2, ge=1)
    """Operations per sample; the field's 2."""
    magnitude: float = Field(10.0, ge=0, le=30)
    """Strength on RandAugment's scale of 0 to 30; the field's 10."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W) normalized; joints and scores play no part; the altered images."""
        shape, device = (2, len(images)), images.device
        draws = torch.stack([torch.rand(shape, generator=generator, device=device) for _ in range(self.operations)])
        at_once = AT_ONCE if device.type == "cpu" else len(images)
        parts = zip(images.split(at_once), draws.split(at_once, dim=2), strict=True)
        return torch.cat([self._change(part, drawn) for part, drawn in parts])

    def _change(self, images: Tensor, draws: Tensor) -> Tensor:
        """The operations that `draws` (operations, 2, B) in [0, 1) stand for: which one, and which way."""
        mean, std = (cached_tensor(v, images.device).to(images.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
        colors = (images.contiguous() * std + mean).clamp_(0, 1)
        for which, way in draws:
            operation = (which * len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)
            colors = operate(colors, operation, torch.where(way < 0.5, -1.0, 1.0), self.magnitude / 30)
        return (colors - mean) / std


def operate(
    colors: Float[Tensor, "B 3 H W"], operation: Int[Tensor, " B"], sign: Float[Tensor, " B"], strength: float
) -> Float[Tensor, "B 3 H W"]:
    """One operation of OPERATIONS on each sample of `colors` in [0, 1]; `strength` in [0, 1], `sign` for the blends.

    All but color and sharpness are tables of 256 levels, and choosing among tables costs nothing: no sample is
    treated apart and nothing waits for the host.
    """
    levels = (colors * 255).round_().long()
    factor = (1 + sign * 0.9 * strength).to(colors.dtype)
    tables = _tables(colors, levels[:, :, ::2, ::2], factor, strength)
    table = tables.gather(0, operation[None, :, None, None].expand(1, -1, *tables.shape[2:]))[0]
    changed = table.to(colors.dtype).gather(2, levels.flatten(2)).view_as(colors)
    sharpen, saturate = (operation == OPERATIONS.index(name) for name in ("sharpness", "color"))
    toward = torch.where(sharpen.view(-1, 1, 1, 1), _smooth(colors), _gray(colors))
    amount = torch.where(sharpen | saturate, 1 - factor, 0).view(-1, 1, 1, 1)
    return changed.lerp_(toward, amount).clamp_(0, 1)


def _gray(colors: Tensor) -> Tensor:
    """Luminance, (B, 1, H, W)."""
    red, green, blue = (colors[:, i : i + 1] for i in range(3))
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def _tables(colors: Tensor, sample: Tensor, factor: Tensor, strength: float) -> Float[Tensor, "N B 3 256"]:
    """Each operation's output for each level; the identity for those that are no tables. `sample` = some levels."""
    ramp = torch.arange(256, device=colors.device) / 255
    same = ramp.expand(*colors.shape[:2], -1)
    low, high = ((extreme * 255).round().unsqueeze(-1) / 255 for extreme in colors.flatten(2).aminmax(dim=2))
    mean = (colors.mean(dim=(2, 3)) * cached_tensor(GRAY, colors.device)).sum(dim=1)
    stretched = torch.where(high > low, (same - low) / (high - low).clamp_min(1 / 255), same)
    step = 2 ** round(4 * strength)
    mean, factor = mean.view(-1, 1, 1), factor.view(-1, 1, 1)
    tables = {
        "auto_contrast": stretched,
        "equalize": _equalize(sample),
        "solarize": torch.where(same >= 1 - strength, 1 - same, same),
        "posterize": (ramp * 255).round().div(step, rounding_mode="floor") * step / 255 + torch.zeros_like(same),
        "brightness": same * factor,
        "contrast": mean + (same - mean) * factor,
    }
    return torch.stack([tables.get(name, same) for name in OPERATIONS]).clamp(0, 1)


def _equalize(sample: Tensor) -> Tensor:
    """Tables that flatten each channel's histogram, which is taken from every second pixel in each direction."""
    sample = sample.flatten(2)
    histogram = torch.zeros((*sample.shape[:2], 256), device=sample.device)
    histogram.scatter_add_(2, sample, torch.ones((), device=sample.device).expand(sample.shape))
    last = histogram.gather(2, sample.amax(dim=2, keepdim=True))
    others = sample.shape[2] - last  # pixels below the brightest level: they spread over the whole range
    below = histogram.cumsum(dim=2) - histogram
    ramp = torch.arange(256, device=sample.device) / 255
    return torch.where(others > 0, (below / others.clamp_min(1)).clamp_max(1), ramp)


def _smooth(colors: Tensor) -> Tensor:
    """The 3×3 smoothing that sharpness moves away from or toward; the border stays."""
    rows = colors[:, :, :-2] + colors[:, :, 1:-1] + colors[:, :, 2:]
    box = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    smooth = colors.clone()
    smooth[:, :, 1:-1, 1:-1] = box.add_(colors[:, :, 1:-1, 1:-1], alpha=4).div_(13)
    return smooth
