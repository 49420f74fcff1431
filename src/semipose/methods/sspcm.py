"""`sspcm`: two teachers and their lagged copies agree on pseudo labels for a student (Huang et al., CVPR 2023)."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from semipose.augment.masking import CutOcclude
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, Losses, MethodContext, StepInfo, losses
from semipose.ops.ema import frozen_copy
from semipose.ops.heatmaps import peaks
from semipose.structures.batches import LabeledBatch, UnlabeledBatch, View
from semipose.utils.section import Section


class OutlierConfig(Section):
    """Which joints of a pseudo label are left out."""

    criterion: Literal["peak", "distance", "both", "none"] = "peak"
    """`peak`: the released configuration; `distance`: the paper's text; either alone, both, or none."""
    min_peak: float = Field(0.1, ge=0)
    """tau_s: a joint is out when the mean of the two teachers' peaks is at or below it."""
    max_distance: float = Field(0.6, gt=0)
    """tau_d: a joint is out when the teachers' arg-max cells lie this share of the map's diagonal apart, or more."""


class Config(ConsistencyConfig):
    """Options of `sspcm`."""

    name: Literal["sspcm"] = "sspcm"
    supervised_weight: float = Field(0.5, ge=0)
    """Weight of each network's supervised term."""
    lagged: bool = True
    """Copies of the teachers at the end of the previous epoch take part in the choice of the pair."""
    outliers: OutlierConfig = OutlierConfig()
    """Outlier removal."""
    backbones: dict[Literal["T1", "T2", "S"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""
    augmentations: list[Augmentation] = [CutOcclude()]


class Sspcm(nn.Module):
    """L = ½ sum L_s + weight * (the two terms of `dual` for T1, T2 + |S(hard) - M pseudo(easy)|²)."""

    paper = "Huang et al., CVPR 2023"
    published = (46.9, 57.5, 60.7)
    headline_networks = ("S",)
    schedule_restarts = ()
    copied: Tensor

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.T1 = context.build_network(config.backbones.get("T1"), 1)
        self.T2 = context.build_network(config.backbones.get("T2"), 1)
        self.S = context.build_network(config.backbones.get("S"), 1)
        self.T1_before, self.T2_before = frozen_copy(self.T1), frozen_copy(self.T2)
        self.register_buffer("copied", torch.zeros((), dtype=torch.bool))

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Supervised terms; T1 and T2 teach each other; S learns from the pair that agrees best, joint by joint."""
        context, config = self.context, self.config
        view, factor = context.views.labeled(labeled), config.unlabeled_factor(info)
        if unlabeled is None or factor == 0:
            one, two, student = (context.supervised(network, view) for network in (self.T1, self.T2, self.S))
            return losses(supervised=config.supervised_weight * (one + two + student))
        easy = context.views.easy(unlabeled)
        maps1 = context.pseudo_heatmaps(self.T1, easy, config)
        maps2 = context.pseudo_heatmaps(self.T2, easy, config)
        hard1 = context.hard_view(easy, maps1, config.augmentations)
        hard2 = context.hard_view(easy, maps2, config.augmentations)
        pseudo = self.pseudo_label(easy, maps1, maps2)
        hard = context.hard_view(easy, pseudo, config.augmentations)
        joint_weights = inliers(maps1, maps2, config.outliers)
        one, by_two = context.student_losses(self.T1, view, [ConsistencyTarget(hard2, [maps2])], config)
        two, by_one = context.student_losses(self.T2, view, [ConsistencyTarget(hard1, [maps1])], config)
        student, by_both = context.student_losses(
            self.S, view, [ConsistencyTarget(hard, [pseudo], joint_weights)], config
        )
        return losses(
            supervised=config.supervised_weight * (one + two + student),
            unlabeled_1=factor * by_two,
            unlabeled_2=factor * by_one,
            unlabeled_s=factor * by_both,
        )

    def pseudo_label(self, easy: View, maps1: Tensor, maps2: Tensor) -> Tensor:
        """Mean heatmap of the most consistent pair, (B, K, h, w); in the first epoch that of (T1, T2)."""
        if not self.config.lagged:
            return (maps1 + maps2) / 2
        before1, before2 = (
            self.context.pseudo_heatmaps(t, easy, self.config) for t in (self.T1_before, self.T2_before)
        )
        chosen = most_consistent([(maps1, maps2), (before1, maps2), (maps1, before2), (before1, before2)])
        return torch.where(self.copied, chosen, (maps1 + maps2) / 2)

    def after_step(self, info: StepInfo) -> None:
        """At the end of an epoch the copies take over the teachers' weights and buffers."""
        if self.config.lagged and info.ends_epoch:
            self.T1_before.load_state_dict(self.T1.state_dict())
            self.T2_before.load_state_dict(self.T2.state_dict())
            self.copied.fill_(True)

    def eval_networks(self) -> dict[str, nn.Module]:
        """The student, and the two that teach it."""
        return {"S": self.S, "T1": self.T1, "T2": self.T2}


def most_consistent(pairs: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "B K h w"]:
    """Position-inconsistency correction: joint by joint the mean of the pair whose arg-max cells lie nearest.

    Of pairs at equal distance the first counts.
    """
    distances = torch.stack([inconsistency(a, b) for a, b in pairs])
    means = torch.stack([(a + b) / 2 for a, b in pairs])
    best = distances.argmin(dim=0)
    return means.gather(0, best[None, ..., None, None].expand_as(means[:1]))[0]


def inconsistency(a: Float[Tensor, "B K h w"], b: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K"]:
    """Distance in cells between the arg-max positions."""
    return torch.linalg.vector_norm(peaks(a)[0] - peaks(b)[0], dim=-1)


def inliers(a: Tensor, b: Tensor, config: OutlierConfig) -> Float[Tensor, "B K"]:
    """1 where a joint of the pseudo label counts, 0 where it is an outlier."""
    height, width = a.shape[-2:]
    far = inconsistency(a, b) / (height**2 + width**2) ** 0.5 >= config.max_distance
    weak = (peaks(a)[1] + peaks(b)[1]) / 2 <= config.min_peak
    out = {"peak": weak, "distance": far, "both": weak | far, "none": torch.zeros_like(weak)}[config.criterion]
    return (~out).float()
