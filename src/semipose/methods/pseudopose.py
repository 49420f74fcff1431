"""`pseudopose`: a teacher trained on labels, then frozen, gives targets to a new network (Xie et al., ICCV 2021)."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from semipose.augment.registry import Augmentation
from semipose.methods.base import HardViewConfig, Losses, MethodContext, SingleStudentMethod, StepInfo, TeacherMode
from semipose.models.pose_net import PoseNet
from semipose.ops.ema import frozen_copy
from semipose.structures.batches import LabeledBatch, UnlabeledBatch, View


class Config(HardViewConfig):
    """Options of `pseudopose`."""

    name: Literal["pseudopose"] = "pseudopose"
    weights_options = ("teacher",)
    teacher: str | None = None
    """Run folder or weights file of the teacher; if not given, the first part of this run trains a teacher."""
    burn_in: float = Field(0.3, ge=0, lt=1)
    """Fraction of the training that trains the teacher, on its own learning-rate schedule; 0 with `teacher`."""
    teacher_mode: TeacherMode = "eval"
    """BatchNorm mode of the frozen teacher: `eval` uses its running averages, `train` batch statistics."""
    augmentations: list[Augmentation] = []

    @model_validator(mode="after")
    def _has_teacher(self) -> "Config":
        if self.teacher is not None:
            self.burn_in = 0.0
        elif self.burn_in == 0:
            raise ValueError("burn_in 0 leaves no time to train a teacher; give method.teacher or a fraction above 0")
        return self


class PseudoPose(SingleStudentMethod):
    """L = L_s(teacher) during `burn_in`, then L = L_s(f) + w |f(hard) - M teacher(easy)|²."""

    summary = "a teacher trained on labels, then frozen, gives targets to a new network"
    paper = "Xie et al., ICCV 2021"
    published = (37.2, 50.9, 56.0)
    config: Config

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context)
        if config.teacher is None:
            self.teacher = context.build_network(None, 1)
            self.schedule_restarts = (config.burn_in,)
        else:
            self.teacher = frozen_copy(context.load_network(config.teacher))
        self._teacher_parameters = [p for p in self.teacher.parameters() if p.requires_grad]

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the supervised loss of the teacher while the teacher is trained, then the losses of the student."""
        training_teacher = (
            unlabeled is not None and self.config.teacher is None and info.step < self.burn_in_steps(info)
        )
        for parameter in self._teacher_parameters:
            parameter.requires_grad_(training_teacher)
        if training_teacher:
            view = self.context.views.labeled(labeled)
            return Losses.from_terms(teacher=self.context.supervised_loss(self.teacher, view))
        return super().losses(labeled, unlabeled, info)

    def teacher_heatmaps(self, easy: View) -> Tensor:
        """Returns the frozen teacher's heatmaps."""
        return self.context.pseudo_heatmaps(self.teacher, easy, self.config)

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the student and its teacher."""
        return {"f": self.f, "teacher": self.teacher}
