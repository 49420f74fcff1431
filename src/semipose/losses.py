"""Heatmap losses: the field's weighted MSE, and a spatial cross-entropy for short budgets.

A loss also says how a network's raw output reads as heatmaps whose peak is about 1 where the network is sure, so that
teachers, decoding, thresholds and scores need not know which loss trained the network.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from semipose.utils.section import Section


class LossConfig(Section):
    """How predicted heatmaps are compared with targets."""

    kind: Literal["mse", "cross_entropy"] = "mse"
    """`mse`: the papers' heatmap regression. `cross_entropy`: each map is a distribution over cells; learns faster."""
    sigma: float = Field(2.0, gt=0)
    """Width of the target Gaussians in heatmap cells; the papers' 2 at 256×192 (3 at 384×288)."""

    def build(self) -> "HeatmapLoss":
        """The loss itself."""
        return HeatmapMSE() if self.kind == "mse" else SpatialCrossEntropy(self.sigma)


class HeatmapLoss(Protocol):
    """What methods, prediction and export need of a loss."""

    def heatmaps(self, outputs: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
        """Raw network outputs as heatmaps with a peak near 1 where the network is sure."""
        ...

    def __call__(
        self,
        outputs: Float[Tensor, "B L K h w"],
        targets: Float[Tensor, "B K h w"],
        weights: Float[Tensor, "B K"],
        seen: Bool[Tensor, "B 1 h w"] | None = None,
    ) -> Float[Tensor, ""]:
        """Scalar loss, added over the L levels; cells outside `seen` carry no supervision."""
        ...


@dataclass(frozen=True)
class HeatmapMSE:
    """0.5 * mean over (B, K, h, w) of w_bk (prediction - target)², added over levels (SimpleBaseline; TRS eq. 3)."""

    def heatmaps(self, outputs: Tensor) -> Tensor:
        """The outputs are heatmaps already."""
        return outputs.float()

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
        """See HeatmapLoss."""
        squares = (outputs.float() - targets.unsqueeze(1)) ** 2 * weights[:, None, :, None, None]
        if seen is not None:
            squares = squares * seen.unsqueeze(1)
        return 0.5 * squares.mean(dim=(0, 2, 3, 4)).sum()


@dataclass(frozen=True)
class SpatialCrossEntropy:
    """Mean over (B, K) of w_bk times the cross-entropy between the target and a softmax over cells, added over levels.

    Targets of peak 1 and width `sigma` become distributions by dividing by 2 pi sigma²; a joint half beyond the border
    keeps half its mass. The softmax runs over seen cells only.
    """

    sigma: float

    @property
    def mass(self) -> float:
        """Sum over cells of an unnormalized Gaussian: what a peak of 1 holds."""
        return 2 * math.pi * self.sigma**2

    def heatmaps(self, outputs: Tensor) -> Tensor:
        """Softmax over cells, scaled so that the target's own shape has peak 1."""
        return torch.softmax(outputs.float().flatten(-2), dim=-1).view(outputs.shape) * self.mass

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
        """See HeatmapLoss."""
        logits = outputs.float()
        target = targets / self.mass
        if seen is not None:
            logits = logits.masked_fill(~seen.unsqueeze(1), -1e4)
            target = target * seen
        log_p = F.log_softmax(logits.flatten(-2), dim=-1)
        entropy = -(target.flatten(-2).unsqueeze(1) * log_p).sum(dim=-1)
        return (entropy * weights.unsqueeze(1)).mean(dim=(0, 2)).sum()
