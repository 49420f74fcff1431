"""Moving averages of a method's networks, which are evaluated in addition to them."""

from typing import cast

from torch import nn

from semipose.methods.base import Losses, Method, ParameterGroups, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.ops.ema import ema_update, frozen_copy, warmup_momentum
from semipose.structures.batches import LabeledBatch, UnlabeledBatch

SUFFIX = "_average"
"""Suffix of an average's name."""


class WithAverages(Method):
    """A method with a moving average of each of its evaluated networks that is trained; that of NAME is NAME_average.

    The network of the labels alone has none. The averages do not enter the losses, so the networks train exactly as
    without them. The headline networks stay those of the method.

    Reference: Polyak and Juditsky, 1992; exponential averages: Tarvainen and Valpola, 2017.
    """

    def __init__(self, method: Method, momentum: float) -> None:
        super().__init__(method.config, method.context)
        self.method, self.momentum = method, momentum
        self.averages = nn.ModuleDict(
            {
                name: frozen_copy(network)
                for name, network in method.eval_networks().items()
                if name != method.baseline_network and any(p.requires_grad for p in network.parameters())
            }
        )
        self.summary, self.paper, self.published = method.summary, method.paper, method.published
        self.headline_networks, self.schedule_restarts = method.headline_networks, method.schedule_restarts
        self.uses_unlabeled, self.baseline_network = method.uses_unlabeled, method.baseline_network
        self.needs_labels = method.needs_labels

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the losses of the method."""
        return self.method.losses(labeled, unlabeled, info)

    def unlabeled_weight(self, info: StepInfo) -> float:
        """Returns the unlabeled weight of the method."""
        return self.method.unlabeled_weight(info)

    def describe_baseline(self, info: StepInfo) -> str:
        """Returns the description of the method."""
        return self.method.describe_baseline(info)

    def parameter_groups(self) -> ParameterGroups:
        """Returns the parameter groups of the method."""
        return self.method.parameter_groups()

    def after_step(self, info: StepInfo) -> None:
        """Updates the method's teachers, then the averages."""
        self.method.after_step(info)
        networks = self.method.eval_networks()
        for name, average in self.averages.items():
            ema_update(average, networks[name], warmup_momentum(self.momentum, info.step))

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the method's networks, then their averages."""
        averages = {f"{name}{SUFFIX}": cast(PoseNet, average) for name, average in self.averages.items()}
        return {**self.method.eval_networks(), **averages}
