"""Easy and hard views: draws the matrices of METHODS' common ground and resamples crops by them."""

import torch
from pydantic import Field
from torch import Tensor

from semipose.models.backbones import MEAN, STD
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.ops.heatmaps import encode
from semipose.structures.batches import HardView, LabeledBatch, LabeledView, UnlabeledBatch, View
from semipose.structures.skeletons import Skeleton
from semipose.utils.section import Section


class ViewsConfig(Section):
    """Random geometry of the views (Xie et al., ICCV 2021, section 4; the same in TRS)."""

    scale: float = Field(0.25, ge=0, lt=1)
    """Standard deviation and clip of the random scale about 1."""
    rotation: float = Field(30.0, ge=0)
    """Standard deviation of the random rotation in degrees; clipped to twice that."""
    easy_rotation_probability: float = Field(0.6, ge=0, le=1)
    """Share of easy (and labeled) views that are rotated."""
    hard_rotation_probability: float = Field(0.8, ge=0, le=1)
    """Share of hard views that are rotated a second time."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Share of easy (and labeled) views that are mirrored."""
    seen_mask: bool = True
    """Cells of a hard view that the easy view never saw carry no supervision; off = the behavior of the peers."""


class ViewSampler:
    """Makes views of batches; every draw comes from `generator`, whose state is part of a checkpoint.

    `input_size` = (H, W) in pixels; `sigma` of the target Gaussians in heatmap cells.
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
        """(h, w) in cells."""
        return self.input_size[0] // STRIDE, self.input_size[1] // STRIDE

    @geometry.in_float32
    def easy(self, batch: LabeledBatch | UnlabeledBatch) -> View:
        """Random flip, scale and rotation of the source crops."""
        n, device = len(batch), batch.crops.device
        flipped = self._uniform(n, device) < self.config.flip_probability
        matrices = self._similarity(n, device, self.config.easy_rotation_probability, flipped) @ batch.to_input
        return View(resample_crops(batch.crops, matrices, self.input_size), matrices, flipped)

    def labeled(self, batch: LabeledBatch) -> LabeledView:
        """An easy view with Gaussian targets at its joints, left and right exchanged where mirrored."""
        view = self.easy(batch)
        joints = geometry.transform_points(view.from_crop, batch.joints)
        joints = geometry.flip_joints(joints, view.flipped, self.skeleton.flip_order)
        weights = geometry.flip_weights(batch.weights, view.flipped, self.skeleton.flip_order)
        targets, weights = encode(joints, weights, self.heatmap_size, self.sigma, STRIDE)
        return LabeledView(view, targets, weights)

    @geometry.in_float32
    def second_affine(self, batch: int, device: torch.device) -> Tensor:
        """M, easy to hard: scale and rotation, no flip; (B, 3, 3) in input pixels."""
        flipped = torch.zeros(batch, dtype=torch.bool, device=device)
        return self._similarity(batch, device, self.config.hard_rotation_probability, flipped)

    def hard(self, altered: Tensor, from_easy: Tensor) -> HardView:
        """The altered easy images (B, 3, H, W), moved by the second affine."""
        return HardView(geometry.warp(altered, from_easy, self.input_size), from_easy)

    def warp_heatmaps(self, heatmaps: Tensor, hard: HardView) -> tuple[Tensor, Tensor | None]:
        """Easy-view heatmaps on the hard grid, and the cells that carry supervision (None: all)."""
        carried, seen = geometry.warp_heatmaps(heatmaps, hard.from_easy, STRIDE)
        return carried, seen if self.config.seen_mask else None

    def _similarity(self, batch: int, device: torch.device, rotated: float, flipped: Tensor) -> Tensor:
        """Random scale and rotation about the input's center after the given mirrors."""
        c = self.config
        # As in the field the factor scales the region looked at: a factor above 1 shows the person smaller.
        region = (1 + c.scale * self._normal(batch, device)).clamp(1 - c.scale, 1 + c.scale)
        degrees = (c.rotation * self._normal(batch, device)).clamp(-2 * c.rotation, 2 * c.rotation)
        degrees = degrees * (self._uniform(batch, device) < rotated)
        return geometry.similarity(self.input_size, degrees, 1 / region, flipped)

    def _normal(self, batch: int, device: torch.device) -> Tensor:
        return torch.randn(batch, generator=self.generator, device=device)

    def _uniform(self, batch: int, device: torch.device) -> Tensor:
        return torch.rand(batch, generator=self.generator, device=device)


def eval_view(batch: LabeledBatch | UnlabeledBatch, input_size: tuple[int, int]) -> View:
    """The view for evaluation: no random change."""
    flipped = torch.zeros(len(batch), dtype=torch.bool, device=batch.crops.device)
    return View(resample_crops(batch.crops, batch.to_input, input_size), batch.to_input, flipped)


def resample_crops(crops: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Normalized images (B, 3, *size) of crops (B, 3, S, T) uint8 through `matrices`; the mean color lies around them.

    A CPU moves bytes and then normalizes what is left of them, much faster and the same to a gray level.
    """
    if crops.device.type == "cpu":
        return normalize(geometry.warp_bytes(crops, matrices, size, [round(255 * m) for m in MEAN]))
    return geometry.warp(normalize(crops), matrices, size)


def normalize(crops: Tensor) -> Tensor:
    """uint8 (B, 3, S, T) to float, zero mean and unit variance in ImageNet's statistics; zero is the mean color."""
    mean = geometry.cached_tensor(MEAN, crops.device).view(1, 3, 1, 1) * 255
    std = geometry.cached_tensor(STD, crops.device).view(1, 3, 1, 1) * 255
    return crops.float().sub_(mean).div_(std)
