"""Augmentations that mix pixels: Keypoint-Mix within a sample, Mixup and CutMix between samples."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semipose.augment.base import MixingAugmentation, draw_partners
from semipose.augment.masking import PatchAugmentation, patch_masks, take_joints
from semipose.structures.batches import Mixture


class KeypointMix(PatchAugmentation):
    """Replaces the patches around several distinct joints by the mean of these patches.

    All patches of a sample are squares of one size. Where patches extend beyond the border, the mean is over the
    patches that have the pixel.

    Reference: TRS, section III-D.
    """

    kind: Literal["keypoint_mix"] = "keypoint_mix"
    joints: int = Field(5, ge=1)
    """Number of joints mixed per sample; in the paper 5 was the best of 3, 5, 7 and 9."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Mixes the patches around `joints`."""
        batch, count = joints.shape[:2]
        n = min(self.joints, count)
        order = torch.rand((batch, count), generator=generator, device=images.device).argsort(dim=1)
        centers = take_joints(joints, order[:, :n]).round().long()
        half_sizes = self.draw_half_sizes((batch, 1, 1), images, generator).expand(-1, n, 2)
        mean = mean_patch(images, centers, self.half_size_range(images)[1])
        masks = patch_masks(centers, half_sizes, images)
        # Number of the patch that covers each pixel, of the last one where several overlap; 0 outside all patches.
        patch = (masks * torch.arange(1, n + 1, device=images.device)[:, None, None]).amax(dim=1)
        return torch.where((patch > 0).unsqueeze(1), self._paste(mean, centers, patch), images)

    def _paste(self, mean: Tensor, centers: Tensor, patch: Tensor) -> Tensor:
        """Returns (B, 3, H, W): at each pixel, the value of `mean` at the offset from the patch center."""
        height, width = patch.shape[1:]
        side = mean.shape[-1]
        patch_index = (patch - 1).clamp_min(0).flatten(1)
        patch_center = take_joints(centers, patch_index).view(-1, height, width, 2)
        xs = torch.arange(width, device=mean.device) - patch_center[..., 0] + side // 2
        ys = torch.arange(height, device=mean.device)[:, None] - patch_center[..., 1] + side // 2
        index = (ys.clamp(0, side - 1) * side + xs.clamp(0, side - 1)).flatten(1)
        pixels = mean.flatten(2).gather(2, index.unsqueeze(1).expand(-1, mean.shape[1], -1))
        return pixels.view(*mean.shape[:2], height, width)


def mean_patch(images: Tensor, centers: Tensor, radius: int) -> Tensor:
    """Returns the mean of the n patches of each sample, over the pixels inside the image.

    Args:
        images: (B, 3, H, W).
        centers: (B, n, 2) integer positions in pixels, possibly outside the image.
        radius: Half-size of the patches in pixels.

    Returns:
        (B, 3, 2 * radius + 1, 2 * radius + 1).
    """
    batch, channels, height, width = images.shape
    span = torch.arange(-radius, radius + 1, device=images.device)
    x = centers[..., 0, None] + span
    y = centers[..., 1, None] + span
    exists = ((y >= 0) & (y < height)).unsqueeze(3) & ((x >= 0) & (x < width)).unsqueeze(2)
    index = (y.clamp(0, height - 1).unsqueeze(3) * width + x.clamp(0, width - 1).unsqueeze(2)).flatten(1)
    windows = images.flatten(2).gather(2, index.unsqueeze(1).expand(-1, channels, -1))
    windows = windows.view(batch, channels, *exists.shape[1:]) * exists.unsqueeze(1)
    return windows.sum(dim=2) / exists.sum(dim=1).clamp_min(1).unsqueeze(1)


class Mixup(MixingAugmentation):
    """Blends each image, and its target, with another sample of the batch: a X_i + (1 - a) X_j.

    The weight a is drawn from Beta(beta, beta). Where the target does not change, it is max(a, 1 - a), which is at
    least one half.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """

    kind: Literal["mixup"] = "mixup"
    beta: float = Field(1.0, ge=0.01)
    """Both parameters of the Beta distribution."""

    def draw(self, images: Tensor, generator: torch.Generator) -> Mixture:
        """Draws a weight and a partner for each sample."""
        batch, device = len(images), images.device
        share = mixing_share(self.beta, (batch, 1, 1, 1), generator, device).to(images.dtype)
        if not self.mix_targets:
            share = torch.maximum(share, 1 - share)
        return Mixture(draw_partners(batch, generator, device), share)


class CutMix(MixingAugmentation):
    """Pastes a rectangle of another sample of the batch at the same position, in the image and in its target.

    In the original a label is mixed in proportion to the areas. A heatmap has places: here the cells of the rectangle
    are the other sample's. Where the target does not change, the rectangle is an occlusion.

    Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    ICCV 2019.
    """

    kind: Literal["cut_mix"] = "cut_mix"
    beta: float = Field(1.0, ge=0.01)
    """Both parameters of the Beta distribution of the area that is kept."""
    max_area: float = Field(0.5, gt=0, le=1)
    """Largest area of the rectangle, as a fraction of the image, where the target does not change."""

    def draw(self, images: Tensor, generator: torch.Generator) -> Mixture:
        """Draws a rectangle and a partner for each sample."""
        batch, device = len(images), images.device
        height, width = images.shape[-2:]
        area = 1 - mixing_share(self.beta, (batch, 1), generator, device)
        side = (area if self.mix_targets else area.clamp_max(self.max_area)).sqrt()
        center = torch.rand((batch, 2), generator=generator, device=device)
        x, y = torch.arange(width, device=device), torch.arange(height, device=device)
        columns = (x - center[:, :1] * (width - 1)).abs() <= side * width / 2
        rows = (y - center[:, 1:] * (height - 1)).abs() <= side * height / 2
        outside = ~(rows.unsqueeze(2) & columns.unsqueeze(1))
        return Mixture(draw_partners(batch, generator, device), outside.unsqueeze(1).to(images.dtype))


class CutMixPatches(PatchAugmentation):
    """Pastes rectangles of one other sample of the batch at the same positions; the target does not change.

    Reference: the CutMix of MultiAugs (Zhou et al., arXiv 2402.11566); number and size of the patches are those of its
    released code.
    """

    kind: Literal["cut_mix_patches"] = "cut_mix_patches"
    patches: int = Field(2, ge=1)
    """Patches per sample."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Pastes patches into each image; a batch of one sample is returned unchanged."""
        masks = self.draw_random_masks(self.patches, images, generator).any(dim=1)
        return torch.where(masks.unsqueeze(1), images[draw_partners(len(images), generator, images.device)], images)


def mixing_share(beta: float, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws float32 numbers in [0, 1] from Beta(beta, beta), computed from two Gamma draws."""
    dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
    concentration = torch.full((2, *shape), beta, dtype=dtype, device=device)
    # This is the sampler of torch.distributions.Gamma. The class itself accepts no generator, so its draws would not
    # follow from the saved state.
    first, second = torch._standard_gamma(concentration, generator=generator)
    return (first / (first + second).clamp_min(torch.finfo(dtype).tiny)).float()
