"""Alterations of the easy image that hide places: joint cutout (adaptive too), cut-occlude, cutout.

All work on a whole batch: patches are given by integer centers and half-sizes, (B, n, 2) and (B, n), in input pixels;
sizes of the configuration hold at 256×192 and scale with the square root of the input's area.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from semipose.ops.geometry import cached_tensor
from semipose.utils.section import Section

REFERENCE_AREA = 256 * 192


def size_factor(images: Tensor) -> float:
    """Side length of this input relative to 256×192."""
    return (images.shape[-2] * images.shape[-1] / REFERENCE_AREA) ** 0.5


class PatchSizes(Section):
    """Half-sizes of square patches, drawn uniformly from the integers between the two, inclusive, per patch."""

    half_size_min: int = Field(10, ge=1)
    """Smallest half-size in pixels at 256×192."""
    half_size_max: int = Field(19, ge=1)
    """Largest half-size in pixels at 256×192."""

    @model_validator(mode="after")
    def _ordered(self) -> "PatchSizes":
        if self.half_size_min > self.half_size_max:
            raise ValueError(f"half_size_min {self.half_size_min} is above half_size_max {self.half_size_max}")
        return self

    def bounds(self, images: Tensor) -> tuple[int, int]:
        """Smallest and largest half-size in pixels of `images`."""
        factor = size_factor(images)
        low = max(1, round(self.half_size_min * factor))
        return low, max(low, round(self.half_size_max * factor))

    def draw(self, shape: tuple[int, ...], images: Tensor, generator: torch.Generator) -> Tensor:
        """Half-sizes in pixels of `images`, long integers of `shape`."""
        low, high = self.bounds(images)
        return torch.randint(low, high + 1, shape, generator=generator, device=images.device)


class JointCutout(PatchSizes):
    """Squares around joints filled with the mean color (Xie et al., ICCV 2021)."""

    kind: Literal["joint_cutout"] = "joint_cutout"
    joints: int = Field(5, ge=1)
    """Joints hidden per sample, drawn with replacement."""
    jitter: float = Field(10.0, ge=0)
    """Standard deviation of the center's offset in pixels at 256×192."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W), `joints` (B, K, 2) in pixels, `scores` (B, K); the altered images."""
        return images * ~self.masks(images, joints, self.joints, generator).any(dim=1).unsqueeze(1)

    def masks(self, images: Tensor, joints: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Pixels covered by each of n masks at joints drawn with replacement, (B, n, H, W) bool."""
        batch, count = joints.shape[:2]
        chosen = torch.randint(count, (batch, n), generator=generator, device=images.device)
        centers = take_joints(joints, chosen)
        noise = torch.randn(centers.shape, generator=generator, device=images.device)
        centers = (centers + noise * self.jitter * size_factor(images)).round().long()
        return covered(centers, self.draw((batch, n), images, generator), images)


class AdaptiveJointCutout(JointCutout):
    """Joint cutout with more masks on easy samples and few on hard ones (AKM, section 3.2)."""

    kind: Literal["adaptive_joint_cutout"] = "adaptive_joint_cutout"  # type: ignore[assignment]
    joints: int = Field(8, ge=1)
    """Most masks, m: what a sample gets whose joints are all easy; the paper's best."""
    fewest: int = Field(2, ge=0)
    """Fewest masks, and those of an extremely hard sample; the paper's 2."""
    gamma: float = Field(0.5, gt=0, le=1)
    """A joint is easy when its peak lies less than this share below the sample's highest. Not published."""
    floor: float = Field(0.1, ge=0)
    """A sample is extremely hard when its highest peak is lower. Not published."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W), `joints` (B, K, 2) in pixels, `scores` (B, K) peak values; the altered images."""
        covered = self.masks(images, joints, max(self.joints, self.fewest), generator)
        used = torch.arange(covered.shape[1], device=images.device) < self.counts(scores).unsqueeze(1)
        return images * ~(covered & used[..., None, None]).any(dim=1).unsqueeze(1)

    def counts(self, scores: Tensor) -> Tensor:
        """Masks per sample from the peak values (B, K): round(n m / K) for n easy joints, half up; (B,) long."""
        high, low = scores.amax(dim=1, keepdim=True), scores.amin(dim=1, keepdim=True)
        span = high - low
        r = torch.where(span > 0, (high - scores) / torch.where(span > 0, span, 1), 0)  # equal peaks are all easy
        easy = (r < self.gamma).sum(dim=1)
        masks = (easy * self.joints / scores.shape[1] + 0.5).floor().long().clamp_min(self.fewest)
        return torch.where(high[:, 0] < self.floor, self.fewest, masks)


class CutOcclude(PatchSizes):
    """Patches around joints of another sample of the batch, pasted over joints of this one (SSPCM, section 3.4)."""

    kind: Literal["cut_occlude"] = "cut_occlude"
    joints: int = Field(2, ge=1)
    """Joints occluded per sample."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W), `joints` (B, K, 2) in pixels, `scores` (B, K); the altered images."""
        batch, count = joints.shape[:2]
        if batch == 1:  # no other sample to cut from
            return images
        shape, device = (batch, self.joints), images.device
        places = take_joints(joints, torch.randint(count, shape, generator=generator, device=device)).round().long()
        step = torch.randint(1, batch, shape, generator=generator, device=device)
        donor = (torch.arange(batch, device=device).unsqueeze(1) + step) % batch
        joint = torch.randint(count, shape, generator=generator, device=device)
        origins = joints[donor, joint].round().long()
        inside = covered(places, self.draw(shape, images, generator), images)
        altered = images
        for i in range(self.joints):  # one patch of every sample at a time: a later one may cover an earlier one
            source, exists = shifted(images, donor[:, i], origins[:, i] - places[:, i])
            altered = torch.where((inside[:, i] & exists).unsqueeze(1), source, altered)
        return altered


class Cutout(Section):
    """One square anywhere, filled with the mean color (DeVries and Taylor, 2017)."""

    kind: Literal["cutout"] = "cutout"
    side: float = Field(0.3, gt=0, le=1)
    """Side length relative to the square root of the input's area."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W); joints and scores play no part; the altered images."""
        height, width = images.shape[-2:]
        spot = torch.rand((len(images), 1, 2), generator=generator, device=images.device)
        centers = (spot * cached_tensor((width, height), spot.device)).long()
        half = torch.full((len(images), 1), round(self.side * (height * width) ** 0.5 / 2), device=images.device)
        return images * ~covered(centers, half, images)


def take_joints(joints: Tensor, chosen: Tensor) -> Tensor:
    """Joints (B, K, 2) at the indices (B, n): (B, n, 2)."""
    return joints.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))


def covered(centers: Tensor, half: Tensor, images: Tensor) -> Tensor:
    """Which pixels each patch covers, (B, n, H, W) bool; what lies beyond the border is cut off."""
    height, width = images.shape[-2:]
    xs, ys = torch.arange(width, device=images.device), torch.arange(height, device=images.device)
    columns = (xs - centers[..., :1]).abs() <= half.unsqueeze(-1)
    rows = (ys - centers[..., 1:]).abs() <= half.unsqueeze(-1)
    return rows.unsqueeze(-1) & columns.unsqueeze(-2)


def shifted(images: Tensor, donor: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Images of the samples `donor` (B,), read at p + offset for every pixel p, and where that lies inside."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + offset[:, :1]
    y = torch.arange(height, device=images.device) + offset[:, 1:]
    exists = ((y >= 0) & (y < height)).unsqueeze(2) & ((x >= 0) & (x < width)).unsqueeze(1)
    rows, columns = y.clamp(0, height - 1).unsqueeze(2), x.clamp(0, width - 1).unsqueeze(1)
    return images[donor[:, None, None], :, rows, columns].permute(0, 3, 1, 2), exists
