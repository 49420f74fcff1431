"""`akm`: adaptive keypoint masking, with a Mixup branch where asked (Meng, Li, Jiang)."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from semipose.augment.masking import AdaptiveJointCutout
from semipose.augment.mixing import mixing_share
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, Losses, MethodContext, StepInfo, losses
from semipose.models.feature_mixing import Place, mixed_forward
from semipose.structures.batches import HardView, LabeledBatch, UnlabeledBatch
from semipose.utils.section import Section


class MixupConfig(Section):
    """The second branch: two hard views become one, and one output answers to both targets."""

    enabled: bool = False
    """Add the branch: `akm+mixup` of the tables."""
    places: list[Place] = Field(["image", "layer3"], min_length=1)
    """Where samples are mixed; of several one is drawn each step. The paper's best: the image and before layer 3."""
    beta: float = Field(1.0, ge=0.01)
    """Both parameters of the Beta distribution of the mixing share. Not published; see docs/methods.md."""
    weight: float = Field(1.0, ge=0)
    """lambda_m, as a multiple of `unlabeled_weight`. Not published; see docs/methods.md."""


class Config(ConsistencyConfig):
    """Options of `akm`."""

    name: Literal["akm"] = "akm"
    mixup: MixupConfig = MixupConfig()
    """The Mixup branch."""
    augmentations: list[Augmentation] = [AdaptiveJointCutout()]


class AdaptiveKeypointMasking(nn.Module):
    """L = L_s + lambda_u L_u + lambda_m L_m; L_u is that of `single` with an adaptive number of masks."""

    paper = "Meng, Li, Jiang: adaptive keypoint masking"
    published = (42.9, 53.1, 57.8)
    headline_networks = ("f",)
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.f = context.build_network(None, 1)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Supervised term, consistency with itself, and the mixed branch."""
        context, config = self.context, self.config
        view, factor = context.views.labeled(labeled), config.unlabeled_factor(info)
        if unlabeled is None or factor == 0:
            return losses(supervised=context.supervised(self.f, view))
        easy = context.views.easy(unlabeled)
        heatmaps = context.pseudo_heatmaps(self.f, easy, config)
        hard = context.hard_view(easy, heatmaps, config.augmentations)
        supervised, learned = context.student_losses(self.f, view, [ConsistencyTarget(hard, [heatmaps])], config)
        terms = {"unlabeled": factor * learned}
        if config.mixup.enabled:
            terms["mixed"] = factor * config.mixup.weight * self.mixed_loss(hard, heatmaps, self.place(info))
        return losses(supervised=supervised, **terms)

    def place(self, info: StepInfo) -> Place:
        """One of the places, drawn from the run's seed and the step: never from the device, which would wait."""
        places = self.config.mixup.places
        seed = self.context.views.generator.initial_seed()
        return places[np.random.default_rng([seed, info.step]).integers(len(places))]

    def mixed_loss(self, hard: HardView, heatmaps: Tensor, place: Place) -> Tensor:
        """Eq. 4: a * loss(f(X_m), H_i) + (1 - a) * loss(f(X_m), H_j) for X_m = a X_i + (1 - a) X_j.

        X are hard views, or their features at `place`; j runs over a permutation of the batch, a is one draw a batch.
        """
        context = self.context
        generator, device = context.views.generator, hard.images.device
        share = mixing_share(self.config.mixup.beta, (), generator, device)
        partner = torch.randperm(len(hard.images), generator=generator, device=device)
        targets, weights, seen = context.targets(heatmaps, hard, self.config)
        with self.config.statistics(self.f):
            outputs = mixed_forward(self.f, hard.images, lambda x: share * x + (1 - share) * x[partner], place)
        theirs = None if seen is None else seen[partner]
        return share * context.loss(outputs, targets, weights, seen) + (1 - share) * context.loss(
            outputs, targets[partner], weights[partner], theirs
        )

    def after_step(self, info: StepInfo) -> None:
        """Nothing follows: teacher and student are one network."""

    def eval_networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"f": self.f}
