"""`sspcm`: two teachers and their earlier copies select pseudo labels for a student (Huang et al., CVPR 2023)."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from semipose.augment.masking import CutOcclude
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyMethod, ConsistencyTarget, HardViewConfig, Losses, MethodContext, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.ops.ema import frozen_copy
from semipose.ops.heatmaps import peaks
from semipose.structures.batches import LabeledView, View
from semipose.utils.section import Section


class OutlierConfig(Section):
    """The rule by which joints of a pseudo label are left out."""

    criterion: Literal["peak", "distance", "both", "none"] = "peak"
    """`peak`, as in the released configuration; `distance`, as in the paper; `both`: a joint is an outlier by either
    criterion; `none`."""
    min_peak: float = Field(0.1, ge=0)
    """τ_s: a joint is an outlier when the mean of the two teachers' peaks is at or below it. It then has no loss in any
    of the three unlabeled terms."""
    max_distance: float = Field(0.6, gt=0)
    """τ_d: a joint is an outlier when the distance between the teachers' arg-max cells, as a fraction of the heatmap's
    diagonal, is at or above it. It then has no loss in the student's unlabeled term."""


class Config(HardViewConfig):
    """Options of `sspcm`."""

    name: Literal["sspcm"] = "sspcm"
    supervised_weight: float = Field(0.5, ge=0)
    lagged: bool = True
    """Whether copies of the teachers from the end of the previous epoch take part in the choice of the pair."""
    outliers: OutlierConfig = OutlierConfig()
    """Outlier removal."""
    backbones: dict[Literal["T1", "T2", "S"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""
    augmentations: list[Augmentation] = [CutOcclude()]


class Sspcm(ConsistencyMethod):
    """L = ½ Σ L_s + w (|T1(hard2) - M T2(easy)|² + |T2(hard1) - M T1(easy)|² + |S(hard) - M pseudo(easy)|²).

    For each joint, pseudo is the mean heatmap of the pair of teachers (or their earlier copies) that agrees best.
    Outlier joints have weight 0: by their peaks in all three terms, by their distance in the student's. M is the same
    for all hard views.
    """

    summary = "two teachers and their copies from the previous epoch select pseudo labels for a student"
    paper = "Huang et al., CVPR 2023"
    published = (46.9, 57.5, 60.7)
    headline_networks = ("S",)
    config: Config
    copied: Tensor

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context)
        self.T1 = context.build_network(config.backbones.get("T1"), 1)
        self.T2 = context.build_network(config.backbones.get("T2"), 1)
        self.S = context.build_network(config.backbones.get("S"), 1)
        self.T1_before, self.T2_before = frozen_copy(self.T1), frozen_copy(self.T2)
        self.register_buffer("copied", torch.zeros((), dtype=torch.bool))

    def supervised_networks(self) -> list[PoseNet]:
        """Returns the teachers and the student."""
        return [self.T1, self.T2, self.S]

    def semi_supervised_losses(self, labeled: LabeledView, easy: View, weight: float) -> Losses:
        """Returns the supervised losses, the consistency losses between the teachers, and that of the student."""
        context, config = self.context, self.config
        heatmaps1 = context.pseudo_heatmaps(self.T1, easy, config)
        heatmaps2 = context.pseudo_heatmaps(self.T2, easy, config)
        pseudo = self.pseudo_label(easy, heatmaps1, heatmaps2)
        for_teachers, for_student = inliers(heatmaps1, heatmaps2, config.outliers)
        from_easy = context.views.second_affine(len(easy), easy.images.device)
        target1, target2, target = (
            ConsistencyTarget(context.hard_view(easy, heatmaps, config.augmentations, from_easy), [heatmaps], weights)
            for heatmaps, weights in ((heatmaps1, for_teachers), (heatmaps2, for_teachers), (pseudo, for_student))
        )
        return Losses.from_terms(
            supervised=self.supervised_loss(labeled),
            unlabeled_1=weight * context.consistency_loss(self.T1, target2, config),
            unlabeled_2=weight * context.consistency_loss(self.T2, target1, config),
            unlabeled_s=weight * context.consistency_loss(self.S, target, config),
        )

    def pseudo_label(self, easy: View, heatmaps1: Tensor, heatmaps2: Tensor) -> Float[Tensor, "B K h w"]:
        """Returns the mean heatmaps of the most consistent pair of each joint; of (T1, T2) in the first epoch."""
        mean = (heatmaps1 + heatmaps2) / 2
        if not self.config.lagged:
            return mean
        before1 = self.context.pseudo_heatmaps(self.T1_before, easy, self.config)
        before2 = self.context.pseudo_heatmaps(self.T2_before, easy, self.config)
        pairs = [(heatmaps1, heatmaps2), (before1, heatmaps2), (heatmaps1, before2), (before1, before2)]
        return torch.where(self.copied, most_consistent(pairs), mean)

    def after_step(self, info: StepInfo) -> None:
        """Copies the teachers' weights and buffers at the end of an epoch."""
        if self.config.lagged and info.ends_epoch:
            self.T1_before.load_state_dict(self.T1.state_dict())
            self.T2_before.load_state_dict(self.T2.state_dict())
            self.copied.fill_(True)

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the student and its teachers."""
        return {"S": self.S, "T1": self.T1, "T2": self.T2}


def most_consistent(pairs: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "B K h w"]:
    """Returns for each joint the mean heatmap of the pair with the nearest arg-max cells.

    Among pairs with equal distance the first one is taken. The paper calls this position-inconsistency pseudo label
    correction.
    """
    distances = torch.stack([inconsistency(a, b) for a, b in pairs])
    means = torch.stack([(a + b) / 2 for a, b in pairs])
    best = distances.argmin(dim=0)
    return means.gather(0, best[None, ..., None, None].expand_as(means[:1]))[0]


def inconsistency(a: Float[Tensor, "B K h w"], b: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K"]:
    """Returns the distance between the arg-max positions, in heatmap cells."""
    distance: Tensor = torch.linalg.vector_norm(peaks(a)[0] - peaks(b)[0], dim=-1)
    return distance


def inliers(
    a: Float[Tensor, "B K h w"], b: Float[Tensor, "B K h w"], config: OutlierConfig
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
    """Returns the joint weights of the teachers' terms and of the student's: 1, or 0 for an outlier.

    The peaks decide about all terms, the distance about the student's alone, as in the released code.
    """
    height, width = a.shape[-2:]
    weak = (peaks(a)[1] + peaks(b)[1]) / 2 <= config.min_peak
    far = inconsistency(a, b) / (height**2 + width**2) ** 0.5 >= config.max_distance
    none = torch.zeros_like(weak)
    by_peak = weak if config.criterion in ("peak", "both") else none
    by_distance = far if config.criterion in ("distance", "both") else none
    return (~by_peak).float(), (~(by_peak | by_distance)).float()
