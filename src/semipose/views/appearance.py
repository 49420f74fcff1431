"""RandAugment's color operations as an alteration: the look changes, no pixel moves."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from semipose.models.backbones import MEAN, STD

OPERATIONS = (
    "identity", "auto_contrast", "equalize", "solarize", "posterize", "brightness", "contrast", "color", "sharpness",
)  # fmt: skip
"""Those of RandAugment that leave pixels in place."""

GRAY = (0.2989, 0.587, 0.114)
"""Share of red, green and blue in gray, as in torchvision."""


class RandAugment(BaseModel):
    """Random color operations, one after the other (Cubuk et al., CVPR Workshops 2020).

    Its rotations, shears and translations are left out: the second affine moves the image, and the map from easy to
    hard must stay that affine. Colors are counted in 256 levels, as in the original.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["rand_augment"] = "rand_augment"
    operations: int = Field(2, ge=1)
    """Operations per sample; the field's 2."""
    magnitude: float = Field(10.0, ge=0, le=30)
    """Strength on RandAugment's scale of 0 to 30; the field's 10."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W) normalized; joints and scores play no part; the altered images."""
        mean, std = (torch.tensor(v, device=images.device, dtype=images.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
        colors = (images * std + mean).clamp(0, 1)
        for _ in range(self.operations):
            draws = torch.rand((2, len(images)), generator=generator, device=images.device)
            operation = (draws[0] * len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)
            colors = operate(colors, operation, torch.where(draws[1] < 0.5, -1.0, 1.0), self.magnitude / 30)
        return (colors - mean) / std


def operate(
    colors: Float[Tensor, "B 3 H W"], operation: Int[Tensor, " B"], sign: Float[Tensor, " B"], strength: float
) -> Float[Tensor, "B 3 H W"]:
    """One operation of OPERATIONS on each sample of `colors` in [0, 1]; `strength` in [0, 1], `sign` for the blends.

    All but color and sharpness are tables of 256 levels, and choosing among tables costs nothing: no sample is
    treated apart and nothing waits for the host.
    """
    levels = (colors * 255).round().long()
    gray = (colors * torch.tensor(GRAY, device=colors.device).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    factor = 1 + sign * 0.9 * strength
    tables = _tables(levels, gray.mean(dim=(1, 2, 3)), factor, strength)
    table = tables.gather(0, operation[None, :, None, None].expand(1, -1, *tables.shape[2:]))[0]
    changed = table.gather(2, levels.flatten(2)).view_as(colors)
    for name, toward in (("color", gray), ("sharpness", _smooth(colors))):
        amount = torch.where(operation == OPERATIONS.index(name), 1 - factor, 0).view(-1, 1, 1, 1)
        changed = changed + amount * (toward - changed)
    return changed.clamp(0, 1)


def _tables(levels: Tensor, mean: Tensor, factor: Tensor, strength: float) -> Float[Tensor, "N B 3 256"]:
    """Each operation's output for each level; the identity for those that are no tables."""
    ramp = torch.arange(256, device=levels.device) / 255
    same = ramp.expand(*levels.shape[:2], -1)
    low, high = (levels.flatten(2).aminmax(dim=2)[i].unsqueeze(-1) / 255 for i in (0, 1))
    stretched = torch.where(high > low, (same - low) / (high - low).clamp_min(1 / 255), same)
    step = 2 ** round(4 * strength)
    mean, factor = mean.view(-1, 1, 1), factor.view(-1, 1, 1)
    tables = {
        "auto_contrast": stretched,
        "equalize": _equalize(levels),
        "solarize": torch.where(same >= 1 - strength, 1 - same, same),
        "posterize": (ramp * 255).round().div(step, rounding_mode="floor") * step / 255 + torch.zeros_like(same),
        "brightness": same * factor,
        "contrast": mean + (same - mean) * factor,
    }
    return torch.stack([tables.get(name, same) for name in OPERATIONS]).clamp(0, 1)


def _equalize(levels: Tensor) -> Tensor:
    """Tables that flatten each channel's histogram, which is taken from every second pixel in each direction."""
    sample = levels[:, :, ::2, ::2].flatten(2)
    histogram = torch.zeros((*levels.shape[:2], 256), device=levels.device)
    histogram.scatter_add_(2, sample, torch.ones((), device=levels.device).expand(sample.shape))
    last = histogram.gather(2, sample.amax(dim=2, keepdim=True))
    others = sample.shape[2] - last  # pixels below the brightest level: they spread over the whole range
    below = histogram.cumsum(dim=2) - histogram
    ramp = torch.arange(256, device=levels.device) / 255
    return torch.where(others > 0, (below / others.clamp_min(1)).clamp_max(1), ramp)


def _smooth(colors: Tensor) -> Tensor:
    """The 3×3 smoothing that sharpness moves away from or toward; the border stays."""
    inner = (F.avg_pool2d(colors, 3, stride=1) * 9 + 4 * colors[:, :, 1:-1, 1:-1]) / 13
    smooth = colors.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return smooth
