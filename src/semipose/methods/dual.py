"""`dual` (PoseDual): two networks teach each other from easy to hard views (Xie et al., ICCV 2021)."""

from typing import Literal

from pydantic import Field
from torch import nn

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, Losses, MethodContext, StepInfo, losses
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(ConsistencyConfig):
    """Options of `dual`."""

    name: Literal["dual"] = "dual"
    supervised_weight: float = Field(0.5, ge=0)
    """Weight of each network's supervised term."""
    backbones: dict[Literal["f1", "f2"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""
    augmentations: list[Augmentation] = [JointCutout()]


class Dual(nn.Module):
    """L = ½ L_s(f1) + ½ L_s(f2) + weight * (|f1(hard2) - M f2(easy)|² + |f2(hard1) - M f1(easy)|²).

    hard_i is cut around the joints that f_i sees.
    """

    paper = "Xie et al., ICCV 2021"
    published = (44.6, 55.6, 59.6)
    headline_networks = ("f1", "f2")
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.f1 = context.build_network(config.backbones.get("f1"), 1)
        self.f2 = context.build_network(config.backbones.get("f2"), 1)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Supervised terms, and each network's distance to the other's view of the easy image."""
        context, config = self.context, self.config
        view, factor, weight = context.views.labeled(labeled), config.unlabeled_factor(info), config.supervised_weight
        if unlabeled is None or factor == 0:
            return losses(supervised=weight * (context.supervised(self.f1, view) + context.supervised(self.f2, view)))
        easy = context.views.easy(unlabeled)
        maps1 = context.pseudo_heatmaps(self.f1, easy, config)
        maps2 = context.pseudo_heatmaps(self.f2, easy, config)
        hard1 = context.hard_view(easy, maps1, config.augmentations)
        hard2 = context.hard_view(easy, maps2, config.augmentations)
        one, by_two = context.student_losses(self.f1, view, [ConsistencyTarget(hard2, [maps2])], config)
        two, by_one = context.student_losses(self.f2, view, [ConsistencyTarget(hard1, [maps1])], config)
        return losses(supervised=weight * (one + two), unlabeled_1=factor * by_two, unlabeled_2=factor * by_one)

    def after_step(self, info: StepInfo) -> None:
        """Nothing follows."""

    def eval_networks(self) -> dict[str, nn.Module]:
        """Both networks."""
        return {"f1": self.f1, "f2": self.f2}
