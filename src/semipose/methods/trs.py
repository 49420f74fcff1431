"""`trs`: Teacher-Reviewer-Student with multi-level features and Keypoint-Mix (Yun et al., arXiv 2501.09565)."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from semipose.augment.mixing import KeypointMix
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, Losses, MethodContext, StepInfo, losses
from semipose.ops.ema import ema_update, frozen_copy, warmup_momentum
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.utils.section import Section


class ReviewersConfig(Section):
    """The reviewers R1 (of G) and R2 (of F)."""

    enabled: bool = True
    """Without them G and F alone teach each other: the ablation's base."""
    supervised: bool = True
    """Reviewers also take the supervised loss (eq. 9); false = pure moving averages."""
    alpha: float = Field(0.99, ge=0, le=1)
    """Share of itself that R1 keeps at each step (eq. 7). Not published; see docs/results."""
    beta: float = Field(0.99, ge=0, le=1)
    """Share of itself that R2 keeps at each step (eq. 7). Not published; see docs/results."""
    teach_alone: bool = False
    """Students learn from reviewers only; false = from teacher and reviewer (eq. 10 and 11)."""
    warm_up: bool = True
    """Momentum rises from .1 over the first steps, so that reviewers do not stay with the initial weights."""


class Config(ConsistencyConfig):
    """Options of `trs`."""

    name: Literal["trs"] = "trs"
    supervised_weight: float = Field(0.5, ge=0)
    """lambda of eq. 12."""
    levels: int = Field(2, ge=1, le=3)
    """Heatmap levels L of multi-level feature learning (eq. 8); 1 switches it off, 2 is the paper's best."""
    reviewers: ReviewersConfig = ReviewersConfig()
    """The reviewers."""
    backbones: dict[Literal["G", "F"], str] = {}
    """Backbones that differ from `model.backbone`, by network; reviewers follow theirs."""
    augmentations: list[Augmentation] = [KeypointMix()]


class TeacherReviewerStudent(nn.Module):
    """L = lambda * L_sup + L_un1 + L_un2 (eq. 12): G and F are teacher and student by turns within each step."""

    paper = "Yun et al., arXiv 2501.09565"
    published = (50.9, 60.4, 62.9)
    headline_networks = ("G", "F")
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.G = context.build_network(config.backbones.get("G"), config.levels)
        self.F = context.build_network(config.backbones.get("F"), config.levels)
        if config.reviewers.enabled:
            self.R1, self.R2 = frozen_copy(self.G), frozen_copy(self.F)
            if config.reviewers.supervised:
                for reviewer, teacher in ((self.R1, self.G), (self.R2, self.F)):
                    for own, theirs in zip(reviewer.parameters(), teacher.parameters(), strict=True):
                        own.requires_grad_(theirs.requires_grad)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Eq. 12; during burn-in its supervised part alone."""
        context, config = self.context, self.config
        view, factor = context.views.labeled(labeled), config.unlabeled_factor(info)
        reviewers = self._supervised_reviewers()
        if unlabeled is None or factor == 0:
            supervised = [context.supervised(network, view) for network in (self.G, self.F, *reviewers)]
            return losses(supervised=config.supervised_weight * torch.stack(supervised).sum())
        for_f, for_g = self.lessons(unlabeled)
        own_f, unlabeled_1 = context.student_losses(self.F, view, [for_f], config)
        own_g, unlabeled_2 = context.student_losses(self.G, view, [for_g], config)
        # Eq. 3 and 9: all trained networks, all levels.
        supervised = [own_g, own_f, *(context.supervised(reviewer, view) for reviewer in reviewers)]
        return losses(
            supervised=config.supervised_weight * torch.stack(supervised).sum(),
            unlabeled_1=factor * unlabeled_1,
            unlabeled_2=factor * unlabeled_2,
        )

    def lessons(self, unlabeled: UnlabeledBatch) -> tuple[ConsistencyTarget, ConsistencyTarget]:
        """Eq. 5/10, where G and R1 teach F, and eq. 6/11, where F and R2 teach G."""
        context, config = self.context, self.config
        easy = context.views.easy(unlabeled)
        by_g = [context.pseudo_heatmaps(teacher, easy, config) for teacher in self._teachers("G", "R1")]
        by_f = [context.pseudo_heatmaps(teacher, easy, config) for teacher in self._teachers("F", "R2")]
        for_f = context.hard_view(easy, by_g[0], config.augmentations)
        for_g = context.hard_view(easy, by_f[0], config.augmentations)
        return ConsistencyTarget(for_f, by_g), ConsistencyTarget(for_g, by_f)

    def after_step(self, info: StepInfo) -> None:
        """Eq. 7: reviewers follow their teachers, buffers included."""
        reviewers = self.config.reviewers
        if reviewers.enabled:
            ema_update(self.R1, self.G, warmup_momentum(reviewers.alpha, info.step, reviewers.warm_up))
            ema_update(self.R2, self.F, warmup_momentum(reviewers.beta, info.step, reviewers.warm_up))

    def eval_networks(self) -> dict[str, nn.Module]:
        """Both teachers and, where there are some, their reviewers."""
        return {name: getattr(self, name) for name in self._names("G", "F", "R1", "R2")}

    def _supervised_reviewers(self) -> list[nn.Module]:
        """The reviewers that learn from labels as well."""
        reviewers = self.config.reviewers
        return [self.R1, self.R2] if reviewers.enabled and reviewers.supervised else []

    def _teachers(self, teacher: str, reviewer: str) -> list[nn.Module]:
        """Who teaches, the one whose joints place the alteration first."""
        alone = self.config.reviewers.enabled and self.config.reviewers.teach_alone
        return [getattr(self, name) for name in self._names(teacher, reviewer)[alone:]]

    def _names(self, *names: str) -> list[str]:
        return [name for name in names if self.config.reviewers.enabled or name in self.headline_networks]
