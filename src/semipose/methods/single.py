"""`single` (PoseCons): one network teaches itself from easy to hard views (Xie et al., ICCV 2021)."""

from typing import Literal

from torch import nn

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, Losses, MethodContext, StepInfo, losses
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(ConsistencyConfig):
    """Options of `single`."""

    name: Literal["single"] = "single"
    augmentations: list[Augmentation] = [JointCutout()]


class Single(nn.Module):
    """L = L_s(f) + weight * |f(hard) - M f(easy)|², the easy side without gradient."""

    paper = "Xie et al., ICCV 2021"
    published = (42.1, 52.3, 57.3)
    headline_networks = ("f",)
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.f = context.build_network(None, 1)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Supervised term, and the consistency of the network with itself."""
        context, config = self.context, self.config
        view, factor = context.views.labeled(labeled), config.unlabeled_factor(info)
        if unlabeled is None or factor == 0:
            return losses(supervised=context.supervised(self.f, view))
        easy = context.views.easy(unlabeled)
        heatmaps = context.pseudo_heatmaps(self.f, easy, config)
        hard = context.hard_view(easy, heatmaps, config.augmentations)
        supervised, learned = context.student_losses(self.f, view, [ConsistencyTarget(hard, [heatmaps])], config)
        return losses(supervised=supervised, unlabeled=factor * learned)

    def after_step(self, info: StepInfo) -> None:
        """Nothing follows: teacher and student are one network."""

    def eval_networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"f": self.f}
