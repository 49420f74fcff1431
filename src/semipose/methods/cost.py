"""The cost of a training step in passes through a network, and the table of all methods."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semipose.augment.views import ViewSampler, ViewsConfig
from semipose.losses import LossConfig
from semipose.methods import METHODS, VARIANTS, build_method
from semipose.methods.base import MethodContext, MethodOptions, StepInfo
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.skeletons import LSP

SIZE = 64
"""Height and width of the input for which passes are counted."""


@dataclass(frozen=True)
class Cost:
    """The number of networks of a method, and of passes per step with gradient (`trained`) and without (`forward`).

    `labeled` of the passes are on labeled images; all of these have a gradient.
    """

    networks: int
    labeled: int
    trained: int
    forward: int

    @property
    def units(self) -> int:
        """Cost in forward passes; a backward pass counts as two."""
        return 3 * self.trained + self.forward

    def of_batch(self, labeled: int, unlabeled: int) -> int:
        """Returns the cost of a step with so many labeled and unlabeled images, in forward passes of one image."""
        return 3 * self.labeled * labeled + (self.units - 3 * self.labeled) * unlabeled


def describe_methods() -> list[dict[str, Any]]:
    """Returns one row per method and variant: paper, summary, cost of a step and published scores.

    `networks`, `trained`, `forward` and `units` are the fields of Cost. `published` is COCO val AP (ResNet-18) with 1K,
    5K and 10K labels; None where the paper gives no score.
    """
    rows = [_row(name, name, {}, method.summary, method.published) for name, (_, method) in METHODS.items()]
    return rows + [_row(name, *variant) for name, variant in VARIANTS.items()]


def _row(
    label: str, name: str, options: dict[str, Any], summary: str, published: tuple[float, float, float]
) -> dict[str, Any]:
    config, method = METHODS[name]
    cost = step_cost(config.model_validate({"name": name, **options}))
    return {
        "method": label,
        "paper": method.paper,
        "summary": summary,
        "networks": cost.networks,
        "trained": cost.trained,
        "forward": cost.forward,
        "units": cost.units,
        "published": [None if math.isnan(score) else score for score in published],
    }


def step_cost(config: MethodOptions) -> Cost:
    """Returns the cost of a step near the end of the training, counted on a tiny network and blank batches of two."""
    passes: list[bool] = []

    def build_network(backbone: str | None, levels: int) -> PoseNet:
        network = PoseNet(ModelConfig(backbone="test_resnet", weights="none", head_channels=8), len(LSP), levels)
        network.backbone.features.register_forward_hook(_PassCounter(passes))
        return network

    views = ViewSampler(ViewsConfig(), LSP, (SIZE, SIZE), 2.0, torch.Generator().manual_seed(0))
    context = MethodContext(views, LossConfig().build(), build_network, lambda _: build_network(None, 1))
    with torch.random.fork_rng(devices=[]):
        method = build_method(config, context)
        crops, to_input = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), torch.eye(3).repeat(2, 1, 1)
        joints, weights = torch.zeros(2, len(LSP), 2), torch.ones(2, len(LSP))
        labeled, unlabeled = LabeledBatch(crops, to_input, joints, weights), UnlabeledBatch(crops, to_input)
        late = StepInfo(step=99_999, steps=100_000)
        method.losses(labeled, None, late)
        on_labels = len(passes)
        method.losses(labeled, unlabeled, late)
    networks, found = sum(isinstance(module, PoseNet) for module in method.modules()), passes[on_labels:]
    return Cost(networks, on_labels, sum(found), len(found) - sum(found))


class _PassCounter:
    """A forward hook that records whether each pass computes gradients; copies of a network share the hook."""

    def __init__(self, passes: list[bool]) -> None:
        self.passes = passes

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: list[Tensor]) -> None:
        self.passes.append(torch.is_grad_enabled())

    def __deepcopy__(self, memo: dict[int, Any]) -> "_PassCounter":
        return self
