"""`pseudopose`: a teacher trained on labels, then frozen, gives targets to a new network (Xie et al., ICCV 2021)."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from semipose.augment.registry import Alteration
from semipose.methods.base import ConsistencyConfig, Lesson, Losses, Progress, TeacherMode, Workbench, losses
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
    hard: list[Alteration] = []

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
    reported = ("f",)
    restarts: tuple[float, ...] = ()

    def __init__(self, config: Config, bench: Workbench) -> None:
        super().__init__()
        self.config, self.bench = config, bench
        self.f = bench.network(None, 1)
        self.teacher = bench.network(None, 1) if config.teacher is None else frozen_copy(bench.trained(config.teacher))
        self.restarts = () if config.teacher else (config.burn_in,)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: Progress) -> Losses:
        """The teacher's supervised term while it is trained; from then on those of the student."""
        bench, config = self.bench, self.config
        view = bench.views.labeled(labeled)
        teaching = unlabeled is not None and config.teacher is None and progress.fraction < config.burn_in
        self.teacher.requires_grad_(teaching)
        if teaching:
            return losses(teacher=bench.supervised(self.teacher, view))
        factor = config.unlabeled_factor(progress)
        if unlabeled is None or factor == 0:
            return losses(supervised=bench.supervised(self.f, view))
        easy = bench.views.easy(unlabeled)
        heatmaps = self.teach(easy)
        hard = bench.make_hard(easy, heatmaps, config.hard)
        supervised, learned = bench.learn(self.f, view, [Lesson(hard, [heatmaps])], config)
        return losses(supervised=supervised, unlabeled=factor * learned)

    def teach(self, easy: View) -> Tensor:
        """The frozen teacher's heatmaps on the easy view, (B, K, h, w)."""
        return self.bench.teach(self.teacher, easy, self.config)

    def after_step(self, progress: Progress) -> None:
        """Nothing follows: the teacher is frozen."""

    def candidates(self) -> dict[str, nn.Module]:
        """The student and its teacher."""
        return {"f": self.f, "teacher": self.teacher}
