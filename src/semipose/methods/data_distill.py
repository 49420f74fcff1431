"""`data_distill`: `pseudopose` with teacher heatmaps averaged over transforms (Radosavovic et al., CVPR 2018)."""

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semipose.methods import pseudopose
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.ops.ema import in_mode
from semipose.structures.batches import View


class Config(pseudopose.Config):
    """Options of `data_distill`."""

    name: Literal["data_distill"] = "data_distill"  # type: ignore[assignment]
    teacher_scales: tuple[float, ...] = Field((1.0, 0.9, 1.1), min_length=1)
    """Scale factors of the easy view (about its center) over which heatmaps are averaged."""
    teacher_flip: bool = True
    """Whether to average over the mirror image at each scale as well."""


class DataDistill(pseudopose.PseudoPose):
    """PseudoPose with targets M mean_t t⁻¹ teacher(t(easy)); t runs over `teacher_scales` × `teacher_flip`."""

    summary = "like pseudopose, with the teacher's heatmaps averaged over scales and mirror images"
    paper = "Radosavovic et al., CVPR 2018"
    published = (37.6, 51.6, 56.6)
    config: Config

    def teacher_heatmaps(self, easy: View) -> Tensor:
        """Returns the mean over transforms; a cell averages the transformed views that cover it."""
        flips = (False, True) if self.config.teacher_flip and self.context.views.skeleton.flip_pairs else (False,)
        total = views = torch.zeros((), device=easy.images.device)
        with torch.no_grad(), in_mode(self.teacher, training=self.config.teacher_mode == "train"):
            for scale, flip in itertools.product(self.config.teacher_scales, flips):
                heatmaps, seen = self._transformed(easy, scale, flip)
                total, views = total + heatmaps * seen, views + seen
        return total / views.clamp_min(1)

    def _transformed(self, easy: View, scale: float, flip: bool) -> tuple[Tensor, Tensor]:
        """Returns the heatmaps of a transformed easy view, warped back, and the mask of the cells that it covers."""
        batch, device = len(easy), easy.images.device
        size, flip_order = self.context.views.input_size, self.context.views.skeleton.flip_order
        flipped, scales = torch.full((batch,), flip, device=device), torch.full((batch,), scale, device=device)
        matrices = geometry.similarity(size, torch.zeros(batch, device=device), scales, flipped)
        images = geometry.warp(easy.images, matrices, size)
        heatmaps = self.context.loss.heatmaps(self.teacher.forward_main(images))
        return geometry.warp_heatmaps(heatmaps, geometry.inverse(matrices), STRIDE, flipped, flip_order)
