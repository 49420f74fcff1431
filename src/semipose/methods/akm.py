"""`akm`: adaptive keypoint masking, with or without a Mixup branch (Meng, Li, Jiang)."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from semipose.augment.masking import AdaptiveJointCutout
from semipose.augment.mixing import mixing_share
from semipose.augment.registry import Augmentation
from semipose.methods import single
from semipose.models.feature_mixing import Place, mixed_forward
from semipose.structures.batches import HardView, View
from semipose.utils.section import Section


class MixupConfig(Section):
    """The Mixup branch."""

    enabled: bool = False
    """Adds the branch; this is `akm+mixup` in the tables."""
    places: list[Place] = Field(["image", "layer3"], min_length=1)
    """Where samples are mixed. With several places each has a pass of its own in every step, and the loss is their
    mean. The default is the paper's best setting; in the paper features are mixed in addition to images."""
    beta: float = Field(1.0, ge=0.01)
    """Both parameters of the Beta distribution of the mixing weight. Not published."""
    weight: float = Field(1.0, ge=0)
    """λ_m as a multiple of `unlabeled_weight`. Not published."""


class Config(single.Config):
    """Options of `akm`."""

    name: Literal["akm"] = "akm"  # type: ignore[assignment]
    mixup: MixupConfig = MixupConfig()
    """The Mixup branch."""
    augmentations: list[Augmentation] = [AdaptiveJointCutout()]


class AdaptiveKeypointMasking(single.Single):
    """L = L_s(f) + λ_u |f(hard) - M f(easy)|² + λ_m L_m, where L_m is eq. 4.

    The method is `single` with more masks on samples that have more easy joints (section 3.2). The Mixup branch has a
    hard view of its own, without masks.
    """

    summary = "like single, with more masks on easier samples; the variant akm+mixup adds a Mixup branch"
    paper = "Meng, Li, Jiang: adaptive keypoint masking"
    published = (42.9, 53.1, 57.8)
    config: Config

    def unlabeled_losses(self, easy: View, heatmaps: Tensor, weight: float) -> dict[str, Tensor]:
        """Returns the distance to the network's own heatmaps and, if there is a Mixup branch, that of mixed views."""
        terms = super().unlabeled_losses(easy, heatmaps, weight)
        config = self.config
        if config.mixup.enabled:
            unmasked = self.context.hard_view(easy, heatmaps, [])
            losses = [self.mixed_loss(unmasked, heatmaps, place) for place in config.mixup.places]
            terms["mixed"] = weight * config.mixup.weight * torch.stack(losses).mean()
        return terms

    def mixed_loss(self, hard: HardView, heatmaps: Tensor, place: Place) -> Float[Tensor, ""]:
        """Returns a |f(X_m) - H_i|² + (1 - a) |f(X_m) - H_j|² for X_m = a X_i + (1 - a) X_j (eq. 4).

        X are the hard views or their features at `place`, H the heatmaps of the easy views, warped to the hard views, j
        permutes the batch, and a is drawn once per batch.
        """
        context = self.context
        generator, device = context.views.generator, hard.images.device
        a = mixing_share(self.config.mixup.beta, (), generator, device)
        j = torch.randperm(len(hard.images), generator=generator, device=device)
        targets, weights, seen = context.targets(heatmaps, hard, self.config)
        with self.config.hard_view_statistics(self.f):
            outputs = mixed_forward(self.f, hard.images, lambda x: a * x + (1 - a) * x[j], place)
        loss_i = context.loss(outputs, targets, weights, seen)
        loss_j = context.loss(outputs, targets[j], weights[j], None if seen is None else seen[j])
        return a * loss_i + (1 - a) * loss_j
