"""`mean_teacher`: the student learns from the moving average of itself (Tarvainen and Valpola, NeurIPS 2017)."""

from typing import Literal

from pydantic import Field
from torch import nn

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Alteration
from semipose.methods.base import NOT_PUBLISHED, ConsistencyConfig, Lesson, Losses, Progress, Workbench, losses
from semipose.ops.ema import ema_update, frozen_copy, warmed_momentum
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(ConsistencyConfig):
    """Options of `mean_teacher`."""

    name: Literal["mean_teacher"] = "mean_teacher"
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the teacher keeps at each step, once warmed up."""
    hard: list[Alteration] = [JointCutout()]


class MeanTeacher(nn.Module):
    """L = L_s(f) + weight * |f(hard) - M f_ema(easy)|²."""

    paper = "Tarvainen and Valpola, NeurIPS 2017"
    published = NOT_PUBLISHED
    reported = ("teacher",)
    restarts = ()

    def __init__(self, config: Config, bench: Workbench) -> None:
        super().__init__()
        self.config, self.bench = config, bench
        self.f = bench.network(None, 1)
        self.teacher = frozen_copy(self.f)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: Progress) -> Losses:
        """Supervised term, and the student's distance to its average."""
        bench, config = self.bench, self.config
        view, factor = bench.views.labeled(labeled), config.unlabeled_factor(progress)
        if unlabeled is None or factor == 0:
            return losses(supervised=bench.supervised(self.f, view))
        easy = bench.views.easy(unlabeled)
        heatmaps = bench.teach(self.teacher, easy, config)
        hard = bench.make_hard(easy, heatmaps, config.hard)
        supervised, learned = bench.learn(self.f, view, [Lesson(hard, [heatmaps])], config)
        return losses(supervised=supervised, unlabeled=factor * learned)

    def after_step(self, progress: Progress) -> None:
        """The teacher moves toward the student."""
        ema_update(self.teacher, self.f, warmed_momentum(self.config.momentum, progress.step))

    def candidates(self) -> dict[str, nn.Module]:
        """The average and the network itself."""
        return {"teacher": self.teacher, "student": self.f}
