"""`data_distill`: as `pseudopose`, the teacher's heatmaps averaged over transforms (Radosavovic et al., CVPR 2018)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semipose import geometry
from semipose.batch import View
from semipose.methods import pseudopose
from semipose.models.heads import STRIDE


class Config(pseudopose.Config):
    """Options of `data_distill`."""

    name: Literal["data_distill"] = "data_distill"  # type: ignore[assignment]
    scales: tuple[float, ...] = Field((1.0, 0.9, 1.1), min_length=1)
    """Scales about the center at which the teacher looks at the easy view."""
    flip: bool = True
    """The teacher looks at the mirror image of each scale as well."""


class DataDistill(pseudopose.PseudoPose):
    """L = L_s(f) + weight * |f(hard) - M mean over t of t⁻¹ teacher(t(easy))|²."""

    paper = "Radosavovic et al., CVPR 2018"
    published = (37.6, 51.6, 56.6)
    config: Config

    def teach(self, easy: View) -> Tensor:
        """Mean of the teacher's heatmaps over all transforms, each brought back first; (B, K, h, w).

        A cell counts in the mean where the transformed view shows it.
        """
        views, size = self.bench.views, self.bench.views.input_size
        batch, device = len(easy), easy.images.device
        total = shown = torch.zeros((), device=device)
        for scale in self.config.scales:
            for flipped in (False, True)[: 1 + self.config.flip]:
                mirrored = torch.full((batch,), flipped, device=device)
                still, same = torch.zeros(batch, device=device), torch.full((batch,), scale, device=device)
                matrix = geometry.similarity(size, still, same, mirrored)
                changed = View(geometry.warp(easy.images, matrix, size), matrix @ easy.from_crop, easy.flipped)
                heatmaps = self.bench.teach(self.teacher, changed, self.config.teacher_mode)
                back = torch.linalg.inv(matrix)
                order = views.skeleton.flip_order
                carried, seen = geometry.carry_heatmaps(heatmaps, back, STRIDE, mirrored, order)
                total, shown = total + carried * seen, shown + seen
        return total / shown.clamp_min(1)
