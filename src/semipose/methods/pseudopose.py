"""`pseudopose`: a teacher trained on labels, then frozen, gives targets to a new network (Xie et al., ICCV 2021)."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from semipose.augment.registry import Augmentation
from semipose.methods.base import (
    ConsistencyConfig,
    ConsistencyTarget,
    Losses,
    MethodContext,
    StepInfo,
    TeacherMode,
    losses,
)
from semipose.ops.ema import frozen_copy
from semipose.structures.batches import LabeledBatch, UnlabeledBatch, View


class Config(ConsistencyConfig):
    """Options of `pseudopose`."""

    name: Literal["pseudopose"] = "pseudopose"
    teacher: str | None = None
    """Run folder or weights file of the teacher; without it, the first part of this run trains one."""
    burn_in: float = Field(0.3, ge=0, lt=1)
    """Share of the training that trains the teacher, with a learning-rate schedule of its own; 0 with `teacher`."""
    teacher_mode: TeacherMode = "eval"
    """BatchNorm of the frozen teacher: its own averages (`eval`), or the statistics of the batch (`train`)."""
    augmentations: list[Augmentation] = []

    @model_validator(mode="after")
    def _has_teacher(self) -> "Config":
        if self.teacher is not None:
            self.burn_in = 0.0
        elif self.burn_in == 0:
            raise ValueError("burn_in 0 leaves no time to train a teacher; give method.teacher or a share above 0")
        return self


class PseudoPose(nn.Module):
    """First L = L_s(teacher); then L = L_s(f) + weight * |f(hard) - M teacher(easy)|²."""

    paper = "Xie et al., ICCV 2021"
    published = (37.2, 50.9, 56.0)
    headline_networks = ("f",)
    schedule_restarts: tuple[float, ...] = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.f = context.build_network(None, 1)
        self.teacher = (
            context.build_network(None, 1)
            if config.teacher is None
            else frozen_copy(context.load_network(config.teacher))
        )
        self.schedule_restarts = () if config.teacher else (config.burn_in,)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """The teacher's supervised term while it is trained; from then on those of the student."""
        context, config = self.context, self.config
        view = context.views.labeled(labeled)
        teaching = unlabeled is not None and config.teacher is None and info.fraction < config.burn_in
        self.teacher.requires_grad_(teaching)
        if teaching:
            return losses(teacher=context.supervised(self.teacher, view))
        factor = config.unlabeled_factor(info)
        if unlabeled is None or factor == 0:
            return losses(supervised=context.supervised(self.f, view))
        easy = context.views.easy(unlabeled)
        heatmaps = self.pseudo_heatmaps(easy)
        hard = context.hard_view(easy, heatmaps, config.augmentations)
        supervised, learned = context.student_losses(self.f, view, [ConsistencyTarget(hard, [heatmaps])], config)
        return losses(supervised=supervised, unlabeled=factor * learned)

    def pseudo_heatmaps(self, easy: View) -> Tensor:
        """The frozen teacher's heatmaps on the easy view, (B, K, h, w)."""
        return self.context.pseudo_heatmaps(self.teacher, easy, self.config)

    def after_step(self, info: StepInfo) -> None:
        """Nothing follows: the teacher is frozen."""

    def eval_networks(self) -> dict[str, nn.Module]:
        """The student and its teacher."""
        return {"f": self.f, "teacher": self.teacher}
