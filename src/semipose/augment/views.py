"""Easy and hard views: random similarity transforms, and crops resampled with them."""

import dataclasses
from collections.abc import Collection

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from semipose.augment.color import RandAugment
from semipose.models.backbone import MEAN, STD
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.ops.heatmaps import encode
from semipose.structures.batches import HardView, LabeledBatch, LabeledView, Mixture, UnlabeledBatch, View
from semipose.structures.skeletons import Skeleton
from semipose.utils.section import Section


class ViewsConfig(Section):
    """Random geometry of the views.

    Reference: Xie et al., ICCV 2021, section 4. TRS uses the same values.
    """

    scale: float = Field(0.25, ge=0, lt=1)
    """Standard deviation of the random scale around 1, and the largest deviation from 1."""
    rotation: float = Field(30.0, ge=0)
    """Standard deviation of the random rotation in degrees; rotations are clipped to twice this value."""
    easy_rotation_probability: float = Field(0.6, ge=0, le=1)
    """Probability that an easy or labeled view is rotated."""
    hard_rotation_probability: float = Field(0.8, ge=0, le=1)
    """Probability that a hard view is rotated once more."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Probability that an easy or labeled view is flipped horizontally."""
    labeled_color_probability: float = Field(0.0, ge=0, le=1)
    """Probability that RandAugment changes the colors of a labeled view; 0, as in the papers, leaves them."""
    shift: float = Field(0.0, ge=0, lt=1)
    """Largest random shift of an easy or labeled view in each direction, as a share of the input; 0 in the papers. With
    `data.boxes: auto` it is .1, because boxes that a network finds are off the center."""
    seen_mask: bool = True
    """Whether cells of a hard view that lie outside the easy view carry no loss; otherwise their target is 0, as in the
    papers' code."""


class ViewSampler:
    """Makes views of batches.

    Args:
        config: Random geometry.
        skeleton: Joints of the labels; flipped views exchange its left and right ones. Without such pairs no view is
            flipped, because a joint of one side would be learned on the other; centers of subjects have no side.
        input_size: (H, W) of the views in pixels.
        sigma: Standard deviation of the target Gaussians in heatmap cells.
        generator: Source of every random draw, on the device of the batches. Its state is part of a checkpoint.
    """

    def __init__(
        self,
        config: ViewsConfig,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        sigma: float,
        generator: torch.Generator,
    ) -> None:
        self.config, self.skeleton, self.input_size = config, skeleton, input_size
        self.sigma, self.generator = sigma, generator

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """Size (h, w) of the heatmaps in cells."""
        return self.input_size[0] // STRIDE, self.input_size[1] // STRIDE

    @geometry.in_float32
    def easy(self, batch: LabeledBatch | UnlabeledBatch) -> View:
        """Draws an easy view: the crops with random flip, scale and rotation."""
        n, device = len(batch), batch.crops.device
        mirrored = self.skeleton.flip_pairs or self.skeleton.interchangeable
        flipped = self._uniform(n, device) < (self.config.flip_probability if mirrored else 0)
        matrices = self._similarity(n, device, self.config.easy_rotation_probability, flipped) @ batch.to_input
        if self.config.shift:
            matrices = self._shift(n, device) @ matrices
        return View(resample_crops(batch.crops, matrices, self.input_size), matrices, flipped)

    def labeled(self, batch: LabeledBatch) -> LabeledView:
        """Draws an easy view with target heatmaps; flipped samples have left and right joints exchanged."""
        view = self._change_colors(self.easy(batch))
        joints = geometry.transform_points(view.from_crop, batch.joints)
        joints = geometry.flip_joints(joints, view.flipped, self.skeleton.flip_order)
        weights = geometry.flip_weights(batch.weights, view.flipped, self.skeleton.flip_order)
        targets, weights = encode(joints, weights, self.heatmap_size, self.sigma, STRIDE)
        if self.skeleton.interchangeable:  # every heatmap shows all joints
            targets, weights = (t.amax(dim=1, keepdim=True).expand_as(t) for t in (targets, weights))
        return LabeledView(view, targets, weights)

    def _change_colors(self, view: View) -> View:
        """Applies RandAugment to some samples of a labeled view."""
        if not self.config.labeled_color_probability:
            return view
        changed = self._uniform(len(view.images), view.images.device) < self.config.labeled_color_probability
        images = torch.where(
            changed.view(-1, 1, 1, 1), RandAugment().change_colors(view.images, self.generator), view.images
        )
        return dataclasses.replace(view, images=images)

    @geometry.in_float32
    def second_affine(self, batch: int, device: torch.device) -> Tensor:
        """Draws M (B, 3, 3), the map from easy to hard view in input pixels: scale and rotation, no flip."""
        flipped = torch.zeros(batch, dtype=torch.bool, device=device)
        return self._similarity(batch, device, self.config.hard_rotation_probability, flipped)

    def hard(self, images: Tensor, from_easy: Tensor, mixtures: tuple[Mixture, ...] = ()) -> HardView:
        """Warps augmented easy images (B, 3, H, W) by the second affine `from_easy` (B, 3, 3)."""
        return HardView(geometry.warp(images, from_easy, self.input_size), from_easy, mixtures)

    def warp_heatmaps(self, heatmaps: Tensor, hard: HardView) -> tuple[Tensor, Tensor | None]:
        """Warps easy-view heatmaps to the hard view; returns them and the mask of supervised cells (None for all)."""
        warped, seen = geometry.warp_heatmaps(heatmaps, hard.from_easy, STRIDE)
        return warped, seen if self.config.seen_mask else None

    def _similarity(self, batch: int, device: torch.device, rotation_probability: float, flipped: Tensor) -> Tensor:
        """Draws scale and rotation about the center of the input, applied after the given flips."""
        c = self.config
        # As in SimpleBaseline's code, the factor scales the cropped region: a factor above 1 makes the person smaller.
        region = (1 + c.scale * self._normal(batch, device)).clamp(1 - c.scale, 1 + c.scale)
        degrees = (c.rotation * self._normal(batch, device)).clamp(-2 * c.rotation, 2 * c.rotation)
        degrees = degrees * (self._uniform(batch, device) < rotation_probability)
        return geometry.similarity(self.input_size, degrees, 1 / region, flipped)

    def _shift(self, batch: int, device: torch.device) -> Tensor:
        """Draws translations (B, 3, 3), uniform in both directions."""
        height, width = self.input_size
        share = self.config.shift * (2 * torch.rand(batch, 2, generator=self.generator, device=device) - 1)
        return geometry.translation(share * geometry.cached_tensor((width, height), device))

    def _normal(self, batch: int, device: torch.device) -> Tensor:
        return torch.randn(batch, generator=self.generator, device=device)

    def _uniform(self, batch: int, device: torch.device) -> Tensor:
        return torch.rand(batch, generator=self.generator, device=device)


def learned_joints(skeleton: Skeleton, unlearned: Collection[str], config: ViewsConfig) -> tuple[int, ...] | None:
    """Returns the indices of the joints that labeled views have; None if they have all.

    A joint that no person has labeled, one of `unlearned`, is labeled in flipped views if its left or right partner is.
    """
    known = np.array([joint not in unlearned for joint in skeleton.joints])
    if config.flip_probability > 0:
        known = known | known[list(skeleton.flip_order)]
    return None if known.all() else tuple(np.flatnonzero(known).tolist())


def eval_view(batch: LabeledBatch | UnlabeledBatch, input_size: tuple[int, int]) -> View:
    """Returns the view for evaluation, without random changes."""
    flipped = torch.zeros(len(batch), dtype=torch.bool, device=batch.crops.device)
    return View(resample_crops(batch.crops, batch.to_input, input_size), batch.to_input, flipped)


def resample_crops(crops: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Resamples and normalizes crops; pixels outside a crop get the mean color.

    On a CPU the uint8 crops are resampled before normalization: this is faster, and equal to within one gray level.

    Args:
        crops: (B, 3, S, T) uint8.
        matrices: (B, 3, 3) from crop pixels to pixels of the result.
        size: (H, W) of the result.

    Returns:
        (B, 3, H, W) normalized images.
    """
    if crops.device.type == "cpu":
        return normalize(geometry.warp_uint8(crops, matrices, size, [round(255 * m) for m in MEAN]))
    return geometry.warp(normalize(crops), matrices, size)


def normalize(crops: Tensor) -> Tensor:
    """Converts uint8 images to float with ImageNet's mean and standard deviation; 0 is the mean color."""
    mean = geometry.cached_tensor(MEAN, crops.device).view(1, 3, 1, 1) * 255
    std = geometry.cached_tensor(STD, crops.device).view(1, 3, 1, 1) * 255
    return crops.float().sub_(mean).div_(std)
