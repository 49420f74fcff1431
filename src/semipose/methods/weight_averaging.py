"""Any method with moving averages of its networks beside it: they learn nothing themselves and are judged as well."""

from typing import Any

from torch import nn

from semipose.methods.base import Losses, StepInfo
from semipose.ops.ema import ema_update, frozen_copy, warmup_momentum
from semipose.structures.batches import LabeledBatch, UnlabeledBatch

SUFFIX = "_average"
"""Ends the names of averages."""


class WithAverages(nn.Module):
    """A method as it is, and an average of each of its learning networks, by the name NAME_average.

    No loss knows the averages: networks learn exactly as without them (Polyak and Juditsky, 1992; with the exponential
    form of Tarvainen and Valpola, 2017). Figures of the method stay those of its own networks.
    """

    def __init__(self, method: Any, momentum: float) -> None:
        super().__init__()
        self.method, self.momentum = method, momentum
        learning = {
            name: n for name, n in method.eval_networks().items() if any(p.requires_grad for p in n.parameters())
        }
        self.averages = nn.ModuleDict({name: frozen_copy(network) for name, network in learning.items()})
        self.paper, self.published = method.paper, method.published
        self.headline_networks, self.schedule_restarts = method.headline_networks, method.schedule_restarts
        self.config = getattr(method, "config", None)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Those of the method."""
        losses: Losses = self.method.losses(labeled, unlabeled, info)
        return losses

    def after_step(self, info: StepInfo) -> None:
        """What follows in the method follows first, then the averages."""
        self.method.after_step(info)
        own = self.method.eval_networks()
        for name, average in self.averages.items():
            ema_update(average, own[name], warmup_momentum(self.momentum, info.step))

    def eval_networks(self) -> dict[str, nn.Module]:
        """The method's networks, then their averages."""
        return {**self.method.eval_networks(), **{f"{name}{SUFFIX}": net for name, net in self.averages.items()}}
