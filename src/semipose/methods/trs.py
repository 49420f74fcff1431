"""`trs`: Teacher-Reviewer-Student with multi-level features and Keypoint-Mix (Yun et al., arXiv 2501.09565)."""

import copy
from typing import Literal

from pydantic import Field

from semipose.augment.mixing import KeypointMix
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyMethod, ConsistencyTarget, HardViewConfig, Losses, MethodContext, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.ops.ema import ema_update, frozen_copy, warmup_momentum
from semipose.structures.batches import LabeledView, View
from semipose.utils.section import Section


class ReviewersConfig(Section):
    """The reviewers R1 (of G) and R2 (of F)."""

    enabled: bool = True
    """Whether there are reviewers; without them G and F are each other's only teachers, as in the ablation."""
    supervised: bool = True
    """Whether reviewers are also trained with the supervised loss (eq. 9); otherwise they are pure moving averages."""
    alpha: float = Field(0.99, ge=0, le=1)
    """Momentum of R1 after its warm-up (eq. 7). Not published."""
    beta: float = Field(0.99, ge=0, le=1)
    """Momentum of R2 after its warm-up (eq. 7). Not published."""


class Config(HardViewConfig):
    """Options of `trs`."""

    name: Literal["trs"] = "trs"
    supervised_weight: float = Field(0.5, ge=0)
    """λ of eq. 12."""
    levels: int = Field(2, ge=1, le=3)
    """Number of heatmap levels L of multi-level feature learning (eq. 8); 1 disables it, 2 is the paper's best."""
    reviewers: ReviewersConfig = ReviewersConfig()
    """The reviewers."""
    backbones: dict[Literal["G", "F"], str] = {}
    """Backbones that differ from `model.backbone`, by network; a reviewer has the same as its network."""
    augmentations: list[Augmentation] = [KeypointMix()]


class TeacherReviewerStudent(ConsistencyMethod):
    """L = λ L_sup + w (L_un1 + L_un2) (eq. 12), where G and F are both teacher and student in every step.

    L_sup = Σ over W in {G, F, R1, R2} of L_s(W) (eq. 3, 9)
    L_un1 = Σ over W in {G, R1} of |F(hard_G) - M W(easy)|² (eq. 5, 10)
    L_un2 = Σ over W in {F, R2} of |G(hard_F) - M W(easy)|² (eq. 6, 11)

    All losses of a student are summed over its levels (eq. 8); targets are the teachers' level z. hard_W is augmented
    around the joints that W predicts. After each step R1 ← α R1 + (1 - α) G and R2 ← β R2 + (1 - β) F (eq. 7).
    """

    summary = "two networks learn from each other and from the moving averages (reviewers) of both"
    paper = "Yun et al., arXiv 2501.09565"
    published = (50.9, 60.4, 62.9)
    headline_networks = ("G", "F")
    config: Config

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context)
        self.G = context.build_network(config.backbones.get("G"), config.levels)
        self.F = context.build_network(config.backbones.get("F"), config.levels)
        if config.reviewers.enabled:
            make_reviewer = copy.deepcopy if config.reviewers.supervised else frozen_copy
            self.R1, self.R2 = make_reviewer(self.G), make_reviewer(self.F)

    def supervised_networks(self) -> list[PoseNet]:
        """Returns G, F and, if they are supervised, the reviewers."""
        reviewers = self.config.reviewers
        return [self.G, self.F, self.R1, self.R2] if reviewers.enabled and reviewers.supervised else [self.G, self.F]

    def semi_supervised_losses(self, labeled: LabeledView, easy: View, weight: float) -> Losses:
        """Returns the three terms of eq. 12."""
        context, config = self.context, self.config
        reviewed = config.reviewers.enabled
        teachers_of_f, teachers_of_g = ([self.G, self.R1], [self.F, self.R2]) if reviewed else ([self.G], [self.F])
        heatmaps_g = [context.pseudo_heatmaps(teacher, easy, config) for teacher in teachers_of_f]
        heatmaps_f = [context.pseudo_heatmaps(teacher, easy, config) for teacher in teachers_of_g]
        hard_g = context.hard_view(easy, heatmaps_g[0], config.augmentations)
        hard_f = context.hard_view(easy, heatmaps_f[0], config.augmentations)
        return Losses.from_terms(
            supervised=self.supervised_loss(labeled),
            unlabeled_1=weight * context.consistency_loss(self.F, ConsistencyTarget(hard_g, heatmaps_g), config),
            unlabeled_2=weight * context.consistency_loss(self.G, ConsistencyTarget(hard_f, heatmaps_f), config),
        )

    def after_step(self, info: StepInfo) -> None:
        """Updates the reviewers, buffers included, as moving averages of G and F (eq. 7)."""
        reviewers = self.config.reviewers
        if reviewers.enabled:
            ema_update(self.R1, self.G, warmup_momentum(reviewers.alpha, info.step))
            ema_update(self.R2, self.F, warmup_momentum(reviewers.beta, info.step))

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns both networks and their reviewers."""
        networks = {"G": self.G, "F": self.F}
        return {**networks, "R1": self.R1, "R2": self.R2} if self.config.reviewers.enabled else networks
