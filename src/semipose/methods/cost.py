"""The catalog of methods: paper, published figures, and the cost of a step, counted in passes through one network."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semipose.augment.views import ViewSampler, ViewsConfig
from semipose.losses import LossConfig
from semipose.methods import METHODS, VARIANTS
from semipose.methods.base import MethodContext, StepInfo
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.skeletons import LSP

SIZE = 64


@dataclass(frozen=True)
class Cost:
    """Networks alive, passes with gradient (forward and backward), and passes without."""

    networks: int
    trained: int
    forward: int

    @property
    def units(self) -> int:
        """In forward passes; a backward pass counts as two."""
        return 3 * self.trained + self.forward


def describe_methods() -> list[dict[str, Any]]:
    """For every method and variant: paper, one line, networks, cost of a step, and the published figures.

    `trained`, `forward` and `units` are those of Cost. `published` is COCO val AP (ResNet-18) with 1K, 5K and 10K
    labels, None where the paper gives none.
    """
    listed: dict[str, Any] = {name: (name, {}, method.published) for name, (_, method) in METHODS.items()}
    listed |= VARIANTS
    rows = []
    for label, (name, changed, published) in listed.items():
        config, method = METHODS[name]
        cost = step_cost(config(**changed))
        rows.append(
            {
                "method": label,
                "paper": method.paper,
                "summary": " ".join(str(sys.modules[method.__module__].__doc__).split()).partition(": ")[2],
                "networks": cost.networks,
                "trained": cost.trained,
                "forward": cost.forward,
                "units": cost.units,
                "published": [None if math.isnan(figure) else figure for figure in published],
            }
        )
    return rows


def step_cost(config: Any) -> Cost:
    """Counts a step between burn-in and cool-down by running it on a tiny network and two blank samples a kind."""
    passes: list[bool] = []

    def network(backbone: str | None, levels: int) -> PoseNet:
        made = PoseNet(ModelConfig(backbone="resnet10t", weights="none", head_channels=8), len(LSP), levels)
        made.backbone.features.register_forward_hook(_Counter(passes))
        return made

    if hasattr(config, "cool_down"):
        config = config.model_copy(update={"cool_down": 0.0})
    views = ViewSampler(ViewsConfig(), LSP, (SIZE, SIZE), 2.0, torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        method = METHODS[config.name][1](
            config, MethodContext(views, LossConfig().build(), network, lambda _: network(None, 1))
        )
        crops, still = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), torch.eye(3).repeat(2, 1, 1)
        joints, weights = torch.zeros(2, len(LSP), 2), torch.ones(2, len(LSP))
        late = StepInfo(step=98, steps=100, epoch=1)
        method.losses(LabeledBatch(crops, still, joints, weights), UnlabeledBatch(crops, still), late)
    networks = sum(isinstance(module, PoseNet) for module in method.modules())
    return Cost(networks, sum(passes), len(passes) - sum(passes))


class _Counter:
    """A hook that notes whether each pass of a network takes gradients; survives copies of the network."""

    def __init__(self, passes: list[bool]) -> None:
        self.passes = passes

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: list[Tensor]) -> None:
        self.passes.append(torch.is_grad_enabled())

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Counter":
        return self
