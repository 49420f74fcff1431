"""A method of one number, so that what a step does to it can be computed by hand."""

from typing import Any

import torch
from torch import nn

from semipose.methods.base import Losses, Method, MethodOptions


class Line(Method):
    """The loss is slope · weight + offset."""

    headline_networks = ()

    def __init__(self, slope: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(MethodOptions(name="line"), None)  # type: ignore[arg-type]
        self.slope, self.offset = slope, 0.0
        self.weight = nn.Parameter(torch.full((1,), weight))

    def losses(self, labeled: Any, unlabeled: Any, info: Any) -> Losses:
        """Returns the loss."""
        return Losses.from_terms(line=self.weight.sum() * self.slope + self.offset)

    def eval_networks(self) -> dict[str, Any]:
        """Returns nothing."""
        return {}
