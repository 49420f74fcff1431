"""`mean_teacher`: the student learns from the moving average of itself (Tarvainen and Valpola, NeurIPS 2017)."""

from typing import Literal

from pydantic import Field
from torch import nn

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.methods.base import (
    NOT_PUBLISHED,
    ConsistencyConfig,
    ConsistencyTarget,
    Losses,
    MethodContext,
    StepInfo,
    losses,
)
from semipose.ops.ema import ema_update, frozen_copy, warmup_momentum
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(ConsistencyConfig):
    """Options of `mean_teacher`."""

    name: Literal["mean_teacher"] = "mean_teacher"
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the teacher keeps at each step, once warmed up."""
    augmentations: list[Augmentation] = [JointCutout()]


class MeanTeacher(nn.Module):
    """L = L_s(f) + weight * |f(hard) - M f_ema(easy)|²."""

    paper = "Tarvainen and Valpola, NeurIPS 2017"
    published = NOT_PUBLISHED
    headline_networks = ("teacher",)
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.f = context.build_network(None, 1)
        self.teacher = frozen_copy(self.f)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Supervised term, and the student's distance to its average."""
        context, config = self.context, self.config
        view, factor = context.views.labeled(labeled), config.unlabeled_factor(info)
        if unlabeled is None or factor == 0:
            return losses(supervised=context.supervised(self.f, view))
        easy = context.views.easy(unlabeled)
        heatmaps = context.pseudo_heatmaps(self.teacher, easy, config)
        hard = context.hard_view(easy, heatmaps, config.augmentations)
        supervised, learned = context.student_losses(self.f, view, [ConsistencyTarget(hard, [heatmaps])], config)
        return losses(supervised=supervised, unlabeled=factor * learned)

    def after_step(self, info: StepInfo) -> None:
        """The teacher moves toward the student."""
        ema_update(self.teacher, self.f, warmup_momentum(self.config.momentum, info.step))

    def eval_networks(self) -> dict[str, nn.Module]:
        """The average and the network itself."""
        return {"teacher": self.teacher, "student": self.f}
