"""`mean_teacher`: the teacher is a moving average of the student (Tarvainen and Valpola, NeurIPS 2017)."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.methods.base import NOT_PUBLISHED, HardViewConfig, MethodContext, SingleStudentMethod, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.ops.ema import ema_update, frozen_copy, warmup_momentum
from semipose.structures.batches import View


class Config(HardViewConfig):
    """Options of `mean_teacher`."""

    name: Literal["mean_teacher"] = "mean_teacher"
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum m of the teacher after its warm-up."""
    augmentations: list[Augmentation] = [JointCutout()]


class MeanTeacher(SingleStudentMethod):
    """L = L_s(f) + w |f(hard) - M teacher(easy)|²; after each step teacher ← m teacher + (1 - m) f."""

    summary = "a student learns from an exponential moving average of its own weights"
    paper = "Tarvainen and Valpola, NeurIPS 2017"
    published = NOT_PUBLISHED
    headline_networks = ("teacher",)
    config: Config

    def __init__(self, config: Config, context: MethodContext, levels: int = 1) -> None:
        super().__init__(config, context, levels)
        self.teacher = frozen_copy(self.f)

    def teacher_heatmaps(self, easy: View) -> Tensor:
        """Returns the heatmaps of the moving average."""
        return self.context.pseudo_heatmaps(self.teacher, easy, self.config)

    def after_step(self, info: StepInfo) -> None:
        """Updates the moving average."""
        ema_update(self.teacher, self.f, warmup_momentum(self.config.momentum, info.step))

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the teacher and the student."""
        return {"teacher": self.teacher, "student": self.f}
