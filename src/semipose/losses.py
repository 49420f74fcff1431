"""Heatmap losses: the weighted mean squared error of the papers, and a spatial cross-entropy.

A loss also converts raw network outputs to heatmaps whose peak is near 1 where the network is certain, so that
teachers, decoding, thresholds and scores do not depend on the loss.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from semipose.ops.geometry import Matrices
from semipose.utils.section import Section


@dataclass(frozen=True)
class HeatmapLoss(ABC):
    """Compares the outputs of a network with target heatmaps.

    Attributes:
        sigma: Standard deviation of the target Gaussians in heatmap cells.
    """

    sigma: float

    @abstractmethod
    def heatmaps(self, outputs: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
        """Converts raw network outputs to heatmaps with a peak near 1 where the network is certain."""

    def warped_targets(self, targets: Float[Tensor, "B K h w"], matrices: Matrices) -> Float[Tensor, "B K h w"]:
        """Returns targets after a warp by `matrices` (B, 3, 3), with the scale that the loss needs: here unchanged."""
        return targets

    @abstractmethod
    def __call__(
        self,
        outputs: Float[Tensor, "B L K h w"],
        targets: Float[Tensor, "B K h w"],
        weights: Float[Tensor, "B K"],
        seen: Bool[Tensor, "B 1 h w"] | None = None,
    ) -> Float[Tensor, ""]:
        """Computes the loss, summed over the L levels.

        Args:
            outputs: Raw network outputs of L levels.
            targets: Gaussian heatmaps with peak 1.
            weights: Weight of each joint, 0 where it is unlabeled.
            seen: Mask of the cells that carry supervision; None for all cells.
        """


class HeatmapMSE(HeatmapLoss):
    """0.5 × the mean over (B, K, h, w) of w_bk (output - target)², summed over levels.

    Reference: Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018; TRS, eq. 3.
    """

    def heatmaps(self, outputs: Tensor) -> Tensor:
        """Returns the outputs as float32; they are heatmaps already."""
        return outputs.float()

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
        """Computes the loss as in `HeatmapLoss`."""
        squares = (outputs.float() - targets.unsqueeze(1)) ** 2 * weights[:, None, :, None, None]
        if seen is not None:
            squares = squares * seen.unsqueeze(1)
        return 0.5 * squares.mean(dim=(0, 2, 3, 4)).sum()


class SpatialCrossEntropy(HeatmapLoss):
    """The mean over (B, K) of w_bk × the cross-entropy of target and softmax over cells, summed over levels.

    Targets with peak 1 are divided by 2 pi sigma² to make them distributions; a joint near the border of the heatmap
    keeps only the mass inside the heatmap. The softmax is over the cells of the mask `seen` only.
    """

    @property
    def mass(self) -> float:
        """Sum over all cells of a Gaussian with peak 1."""
        return 2 * math.pi * self.sigma**2

    def heatmaps(self, outputs: Tensor) -> Tensor:
        """Returns the softmax over cells, scaled so that a Gaussian of standard deviation sigma has peak 1."""
        return torch.softmax(outputs.float().flatten(-2), dim=-1).view(outputs.shape) * self.mass

    def warped_targets(self, targets: Tensor, matrices: Tensor) -> Tensor:
        """Returns the targets divided by the change of area, so that they stay distributions."""
        area = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
        return targets / area.abs().to(targets.dtype).view(-1, 1, 1, 1)

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
        """Computes the loss as in `HeatmapLoss`."""
        logits = outputs.float()
        target = targets / self.mass
        if seen is not None:
            logits = logits.masked_fill(~seen.unsqueeze(1), -1e4)
            target = target * seen
        log_p = F.log_softmax(logits.flatten(-2), dim=-1)
        entropy = -(target.flatten(-2).unsqueeze(1) * log_p).sum(dim=-1)
        return (entropy * weights.unsqueeze(1)).mean(dim=(0, 2)).sum()


LOSSES: dict[str, type[HeatmapLoss]] = {"mse": HeatmapMSE, "cross_entropy": SpatialCrossEntropy}
"""The losses by their name in configurations."""

if TYPE_CHECKING:
    LossName: TypeAlias = str
else:
    LossName = Literal[tuple(LOSSES)]  # pydantic checks the name


class LossConfig(Section):
    """The heatmap loss."""

    kind: LossName = "mse"
    """`mse`: heatmap regression as in the papers. `cross_entropy`: each heatmap is a distribution over cells;
    needs fewer steps."""
    sigma: float = Field(2.0, gt=0)
    """Standard deviation of the target Gaussians in heatmap cells; 2 in the papers at 256×192, 3 at 384×288."""

    def build(self) -> HeatmapLoss:
        """Returns the loss."""
        return LOSSES[self.kind](self.sigma)
