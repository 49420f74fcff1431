"""Alterations of the easy image that mix: Keypoint-Mix within a sample, Mixup and CutMix between samples."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semipose.augment.masking import PatchSizes, covered, take_joints
from semipose.utils.section import Section


class KeypointMix(PatchSizes):
    """The mean of the patches around K distinct joints, pasted back on all K places (TRS, section III-D).

    One half-size per sample, so that the patches can be averaged. Where a patch hangs over the border, the mean is
    taken over the patches that have the pixel.
    """

    kind: Literal["keypoint_mix"] = "keypoint_mix"
    joints: int = Field(5, ge=1)
    """Joints mixed per sample; best of 3, 5, 7, 9 in the paper."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W), `joints` (B, K, 2) in pixels, `scores` (B, K); the altered images."""
        batch, count = joints.shape[:2]
        n = min(self.joints, count)
        order = torch.rand((batch, count), generator=generator, device=images.device).argsort(dim=1)
        places = take_joints(joints, order[:, :n]).round().long()
        half = self.draw((batch, 1), images, generator).expand(-1, n)
        mean = mean_patch(images, places, self.bounds(images)[1])
        inside = covered(places, half, images)
        owner = (inside * torch.arange(1, n + 1, device=images.device)[:, None, None]).amax(dim=1)
        return torch.where((owner > 0).unsqueeze(1), self._paste(mean, places, owner), images)

    def _paste(self, mean: Tensor, places: Tensor, owner: Tensor) -> Tensor:
        """For each pixel the value of its owner's patch at its offset from the owner's center, (B, 3, H, W)."""
        height, width = owner.shape[1:]
        side = mean.shape[-1]
        chosen = (owner - 1).clamp_min(0).flatten(1)
        centers = take_joints(places, chosen).view(-1, height, width, 2)
        xs = torch.arange(width, device=mean.device) - centers[..., 0] + side // 2
        ys = torch.arange(height, device=mean.device)[:, None] - centers[..., 1] + side // 2
        index = (ys.clamp(0, side - 1) * side + xs.clamp(0, side - 1)).flatten(1)
        pixels = mean.flatten(2).gather(2, index.unsqueeze(1).expand(-1, mean.shape[1], -1))
        return pixels.view(*mean.shape[:2], height, width)


def mean_patch(images: Tensor, places: Tensor, radius: int) -> Tensor:
    """Mean over the n windows of (2 radius + 1)² pixels around `places` (B, n, 2), of the pixels that exist."""
    batch, channels, height, width = images.shape
    span = torch.arange(-radius, radius + 1, device=images.device)
    x = places[..., 0, None] + span
    y = places[..., 1, None] + span
    exists = ((y >= 0) & (y < height)).unsqueeze(3) & ((x >= 0) & (x < width)).unsqueeze(2)
    index = (y.clamp(0, height - 1).unsqueeze(3) * width + x.clamp(0, width - 1).unsqueeze(2)).flatten(1)
    windows = images.flatten(2).gather(2, index.unsqueeze(1).expand(-1, channels, -1))
    windows = windows.view(batch, channels, *exists.shape[1:]) * exists.unsqueeze(1)
    return windows.sum(dim=2) / exists.sum(dim=1).clamp_min(1).unsqueeze(1)


class Mixup(Section):
    """Each image a little mixed with another of the batch; the target stays that of the stronger one.

    Zhang et al., ICLR 2018, as an alteration: the share drawn from Beta(beta, beta) is reflected to .5 or more.
    """

    kind: Literal["mixup"] = "mixup"
    beta: float = Field(1.0, ge=0.01)
    """Both parameters of the Beta distribution of the mixing share."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W); joints and scores play no part; the altered images."""
        share = mixing_share(self.beta, (len(images), 1, 1, 1), generator, images.device).to(images.dtype)
        share = torch.maximum(share, 1 - share)
        return share * images + (1 - share) * images[another(len(images), generator, images.device)]


class CutMix(Section):
    """One rectangle of another sample of the batch, pasted in place; the target stays (Yun et al., ICCV 2019).

    As in MultiAugs the image alone is mixed: the rectangle occludes.
    """

    kind: Literal["cut_mix"] = "cut_mix"
    beta: float = Field(1.0, ge=0.01)
    """Both parameters of the Beta distribution of the share of the image that stays."""
    largest: float = Field(0.5, gt=0, le=1)
    """Largest share of the image that a rectangle may take, to a pixel a side, so that the target stays true."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """`images` (B, 3, H, W); joints and scores play no part; the altered images."""
        batch, device = len(images), images.device
        height, width = images.shape[-2:]
        side = (1 - mixing_share(self.beta, (batch, 1), generator, device)).clamp_max(self.largest).sqrt()
        center = torch.rand((batch, 2), generator=generator, device=device)
        x, y = torch.arange(width, device=device), torch.arange(height, device=device)
        columns = (x - center[:, :1] * (width - 1)).abs() <= side * width / 2
        rows = (y - center[:, 1:] * (height - 1)).abs() <= side * height / 2
        inside = rows.unsqueeze(2) & columns.unsqueeze(1)
        return torch.where(inside.unsqueeze(1), images[another(batch, generator, device)], images)


def mixing_share(beta: float, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws from Beta(beta, beta), as a ratio of two Gamma draws."""
    precise = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs know no float64
    concentration = torch.full((2, *shape), beta, dtype=precise, device=device)
    # torch.distributions.Beta takes no generator; this is the sampler beneath it.
    first, second = torch._standard_gamma(concentration, generator=generator)
    return (first / (first + second).clamp_min(torch.finfo(precise).tiny)).float()


def another(batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """For each sample the index of another one, (B,); in a batch of one, itself."""
    step = torch.randint(1, max(2, batch), (batch,), generator=generator, device=device)
    return (torch.arange(batch, device=device) + step) % batch
