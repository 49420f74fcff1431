"""Augmentations that hide parts of the image: joint cutout (also adaptive), cut-occlude, cutout and its patches.

Integer centers (B, n, 2) and half-sizes (B, n, 2), of width and height, in input pixels define rectangular patches.
Sizes in the configuration are for 256×192 inputs and scale with the square root of the input area.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from semipose.augment.base import HardViewAugmentation, draw_partners
from semipose.ops.geometry import cached_tensor

REFERENCE_AREA = 256 * 192


def size_factor(images: Tensor) -> float:
    """Returns the scale of this input relative to 256×192."""
    return (images.shape[-2] * images.shape[-1] / REFERENCE_AREA) ** 0.5


class PatchAugmentation(HardViewAugmentation):
    """Base class of augmentations with patches of uniformly drawn half-sizes."""

    half_size_min: int = Field(10, ge=1)
    """Smallest half-size of a patch in pixels at 256×192."""
    half_size_max: int = Field(19, ge=1)
    """Largest half-size of a patch in pixels at 256×192."""

    @model_validator(mode="after")
    def _check_order(self) -> "PatchAugmentation":
        if self.half_size_min > self.half_size_max:
            raise ValueError(f"half_size_min {self.half_size_min} is above half_size_max {self.half_size_max}")
        return self

    def half_size_range(self, images: Tensor) -> tuple[int, int]:
        """Returns the smallest and largest half-size in pixels of `images`."""
        factor = size_factor(images)
        low = max(1, round(self.half_size_min * factor))
        return low, max(low, round(self.half_size_max * factor))

    def draw_random_masks(self, n: int, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the masks (B, n, H, W) bool of n patches at random positions; width and height are drawn apart."""
        position = torch.rand((len(images), n, 2), generator=generator, device=images.device)
        centers = (position * cached_tensor((images.shape[-1], images.shape[-2]), position.device)).long()
        return patch_masks(centers, self.draw_half_sizes(tuple(centers.shape), images, generator), images)

    def draw_half_sizes(self, shape: tuple[int, ...], images: Tensor, generator: torch.Generator) -> Tensor:
        """Draws integer half-sizes in pixels of `images`."""
        low, high = self.half_size_range(images)
        return torch.randint(low, high + 1, shape, generator=generator, device=images.device)


class JointPatchAugmentation(PatchAugmentation):
    """Base class of augmentations with rectangular patches near random joints; width and height are drawn apart."""

    jitter: float = Field(10.0, ge=0)
    """Standard deviation of the offset between joint and patch center, in pixels at 256×192."""

    def draw_centers(self, images: Tensor, joints: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Returns n integer patch centers (B, n, 2) near joints drawn with replacement."""
        batch, count = joints.shape[:2]
        indices = torch.randint(count, (batch, n), generator=generator, device=images.device)
        centers = take_joints(joints, indices)
        noise = torch.randn(centers.shape, generator=generator, device=images.device)
        return (centers + noise * self.jitter * size_factor(images)).round().long()

    def draw_masks(self, images: Tensor, centers: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the masks (B, n, H, W) bool of patches of random size at `centers` (B, n, 2)."""
        return patch_masks(centers, self.draw_half_sizes(tuple(centers.shape), images, generator), images)


class JointCutout(JointPatchAugmentation):
    """Covers rectangles around random joints with the mean color.

    Reference: Xie et al., "An Empirical Study of the Collapsing Problem in Semi-Supervised 2D Human Pose Estimation",
    ICCV 2021, section 4; the shape of the patches is that of its released code.
    """

    kind: Literal["joint_cutout"] = "joint_cutout"
    joints: int = Field(5, ge=1)
    """Patches per sample, at joints drawn with replacement."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Covers patches around `joints`."""
        centers = self.draw_centers(images, joints, self.joints, generator)
        return images * ~self.draw_masks(images, centers, generator).any(dim=1).unsqueeze(1)


class AdaptiveJointCutout(JointPatchAugmentation):
    """Joint cutout with more patches on samples whose joints are easy to find.

    Reference: AKM, section 3.2.
    """

    kind: Literal["adaptive_joint_cutout"] = "adaptive_joint_cutout"
    joints: int = Field(8, ge=1)
    """Number of patches m of a sample whose joints are all easy; 8 was best in the paper."""
    min_joints: int = Field(2, ge=0)
    """Smallest number of patches, also that of an extremely hard sample; 2 in the paper."""
    gamma: float = Field(0.5, gt=0, le=1)
    """A joint is easy if (highest peak - its peak) / (highest peak - lowest peak) is below this; not published."""
    hard_peak: float = Field(0.1, ge=0)
    """A sample is extremely hard if its highest peak is below this; not published."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Covers patches around `joints`; `num_patches` returns their number per sample."""
        centers = self.draw_centers(images, joints, max(self.joints, self.min_joints), generator)
        masks = self.draw_masks(images, centers, generator)
        used = torch.arange(masks.shape[1], device=images.device) < self.num_patches(scores).unsqueeze(1)
        return images * ~(masks & used[..., None, None]).any(dim=1).unsqueeze(1)

    def num_patches(self, scores: Tensor) -> Tensor:
        """Returns round(n m / K), rounded half up, for n easy joints among the K scores of each sample; (B,) long."""
        high, low = scores.amax(dim=1, keepdim=True), scores.amin(dim=1, keepdim=True)
        span = high - low
        r = torch.where(span > 0, (high - scores) / torch.where(span > 0, span, 1), 0)  # equal peaks are all easy
        easy = (r < self.gamma).sum(dim=1)
        patches = (easy * self.joints / scores.shape[1] + 0.5).long().clamp_min(self.min_joints)
        return torch.where(high[:, 0] < self.hard_peak, self.min_joints, patches)


class CutOcclude(JointPatchAugmentation):
    """Pastes patches around joints of one other sample in the batch over joints of each sample.

    Reference: SSPCM, section 3.4; centers, sizes and the one donor are those of its released code.
    """

    kind: Literal["cut_occlude"] = "cut_occlude"
    joints: int = Field(2, ge=1)
    """Patches per sample; each is over a random joint, so that two may be over the same one."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Occludes joints of each sample; a batch of one sample is returned unchanged."""
        if len(images) == 1:
            return images
        donor = draw_partners(len(images), generator, images.device)
        centers = self.draw_centers(images, joints, self.joints, generator)
        origins = self.draw_centers(images, joints[donor], self.joints, generator)
        masks = self.draw_masks(images, centers, generator)
        augmented = images
        for i in range(self.joints):  # one patch of every sample at a time: later patches may cover earlier ones
            source, exists = shift_images(images, donor, origins[:, i] - centers[:, i])
            augmented = torch.where((masks[:, i] & exists).unsqueeze(1), source, augmented)
        return augmented


class Cutout(HardViewAugmentation):
    """Covers one square at a random position with the mean color.

    Reference: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """

    kind: Literal["cutout"] = "cutout"
    side: float = Field(0.3, gt=0, le=1)
    """Side length relative to the square root of the input area."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Covers one square of each image."""
        height, width = images.shape[-2:]
        position = torch.rand((len(images), 1, 2), generator=generator, device=images.device)
        centers = (position * cached_tensor((width, height), position.device)).long()
        half = torch.full((len(images), 1, 2), round(self.side * (height * width) ** 0.5 / 2), device=images.device)
        return images * ~patch_masks(centers, half, images)


class CutoutPatches(PatchAugmentation):
    """Covers rectangles at random positions, of the size of those of joint cutout, with the mean color.

    Reference: the Cutout of MultiAugs (Zhou et al., arXiv 2402.11566); number and size are those of its released code.
    """

    kind: Literal["cutout_patches"] = "cutout_patches"
    patches: int = Field(5, ge=1)
    """Patches per sample."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Covers patches of each image."""
        masks = self.draw_random_masks(self.patches, images, generator)
        return images * ~masks.any(dim=1).unsqueeze(1)


def take_joints(joints: Tensor, indices: Tensor) -> Tensor:
    """Returns the joints (B, n, 2) at `indices` (B, n) of `joints` (B, K, 2)."""
    return joints.gather(1, indices.unsqueeze(-1).expand(-1, -1, 2))


def patch_masks(centers: Tensor, half_sizes: Tensor, images: Tensor) -> Tensor:
    """Returns the mask of the pixels that each patch covers.

    Args:
        centers: (B, n, 2) integer positions in pixels, possibly outside the image.
        half_sizes: (B, n, 2) integers in pixels, of width and height.
        images: (B, 3, H, W).

    Returns:
        (B, n, H, W) bool.
    """
    height, width = images.shape[-2:]
    xs, ys = torch.arange(width, device=images.device), torch.arange(height, device=images.device)
    columns = (xs - centers[..., :1]).abs() <= half_sizes[..., :1]
    rows = (ys - centers[..., 1:]).abs() <= half_sizes[..., 1:]
    return rows.unsqueeze(-1) & columns.unsqueeze(-2)


def shift_images(images: Tensor, donor: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Returns shifted images of other samples.

    Args:
        images: (B, 3, H, W).
        donor: (B,) index of the other sample.
        offset: (B, 2) integer pixels; pixel p of the result is pixel p + offset of the donor.

    Returns:
        The shifted images (B, 3, H, W), and the mask (B, H, W) of the pixels that the donor has.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + offset[:, :1]
    y = torch.arange(height, device=images.device) + offset[:, 1:]
    exists = ((y >= 0) & (y < height)).unsqueeze(2) & ((x >= 0) & (x < width)).unsqueeze(1)
    rows, columns = y.clamp(0, height - 1).unsqueeze(2), x.clamp(0, width - 1).unsqueeze(1)
    return images[donor[:, None, None], :, rows, columns].permute(0, 3, 1, 2), exists
