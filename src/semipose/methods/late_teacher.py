"""`late_teacher`: labels alone first, then a mean teacher; it keeps the network that the labels alone gave."""

from typing import Annotated, Literal

from pydantic import Field

from semipose.augment.color import RandAugment
from semipose.augment.masking import JointCutout
from semipose.augment.registry import Augmentation
from semipose.augment.views import eval_view
from semipose.methods import mean_teacher
from semipose.methods.base import (
    NOT_PUBLISHED,
    ConsistencyTarget,
    Losses,
    MethodContext,
    StepInfo,
    TeacherMode,
)
from semipose.models.pose_net import PoseNet
from semipose.ops.ema import ema_update, frozen_copy, in_mode
from semipose.structures.batches import LabeledBatch, UnlabeledBatch


class Config(mean_teacher.Config):
    """Options of `late_teacher`."""

    name: Literal["late_teacher"] = "late_teacher"  # type: ignore[assignment]
    levels: int = Field(2, ge=1, le=3)
    """Number of heatmap levels L of multi-level feature learning (TRS, eq. 8); 1 disables it."""
    burn_in: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    min_peak: float = Field(0.5, ge=0)
    target: Literal["heatmap", "gaussian"] = "gaussian"
    teacher_mode: TeacherMode = "eval"
    bn_stats_from_hard_views: bool = False
    augmentations: list[Augmentation] = [RandAugment(), JointCutout()]


class LateTeacher(mean_teacher.MeanTeacher):
    """L = L_s(f) + w |f(hard) - M teacher(easy)|² after burn-in; after each step teacher ← m teacher + (1 - m) f.

    Both terms are summed over the heatmap levels of f; targets are the teacher's level z (TRS, eq. 8).

    `labels_alone` is the teacher at the end of burn-in: the network that the labels gave without unlabeled images.
    Further steps on the labels with a lower rate do not improve it (docs/research/late-teacher.md).

    Without labels L = w |f(hard) - M start(plain)|²: the network at the start, which `labels_alone` stays, makes all
    targets on the view of the evaluation, and the moving average is the result. If the average made the targets,
    nothing would hold them in place, and they would drift away (docs/research/adaptation.md). f keeps BatchNorm's
    averages of the start.

    Reference: the teacher is that of Tarvainen and Valpola, NeurIPS 2017; burn-in as in Liu et al., ICLR 2021.
    """

    summary = "labels alone for 1,000 steps or 20 passes, then a mean teacher; tells the gain over labels alone"
    paper = "semipose"
    published = NOT_PUBLISHED
    baseline_network = "labels_alone"
    recommended_drops = ()  # the average loses by a drop (docs/research/late-teacher.md)
    needs_labels = False
    config: Config

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context, config.levels)
        self.labels_alone = frozen_copy(self.f)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the losses of a step; without labels that of the student on hard views alone."""
        if len(labeled) or unlabeled is None:
            return super().losses(labeled, unlabeled, info)
        easy = eval_view(unlabeled, self.context.views.input_size)
        heatmaps = self.context.pseudo_heatmaps(self.labels_alone, easy, self.config)
        hard = self.context.hard_view(easy, heatmaps, self.config.augmentations)
        with in_mode(self.f, training=False):
            loss = self.context.consistency_loss(self.f, ConsistencyTarget(hard, [heatmaps]), self.config)
        return Losses.from_terms(unlabeled=self.unlabeled_weight(info) * loss)

    def after_step(self, info: StepInfo) -> None:
        """Updates the moving average; until the end of burn-in the labels-alone network is the same network."""
        super().after_step(info)
        if info.step < self.burn_in_steps(info):
            ema_update(self.labels_alone, self.teacher, 0.0)

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the teacher, which is the result of the training, and the labels-alone network."""
        return {"teacher": self.teacher, "labels_alone": self.labels_alone}
