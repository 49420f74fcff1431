"""`akm`: adaptive keypoint masking, with a Mixup branch where asked (Meng, Li, Jiang)."""

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from semipose.augment.masking import AdaptiveJointCutout
from semipose.augment.mixing import mixing_share
from semipose.augment.registry import Alteration
from semipose.methods.base import ConsistencyConfig, Lesson, Losses, Progress, Workbench, losses
from semipose.models.feature_mixing import Place, mixed_forward
from semipose.structures.batches import HardView, LabeledBatch, UnlabeledBatch


class MixupConfig(BaseModel):
    """The second branch: two hard views become one, and one output answers to both targets."""

    model_config = ConfigDict(extra="forbid")

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
    hard: list[Alteration] = [AdaptiveJointCutout()]


class AdaptiveKeypointMasking(nn.Module):
    """L = L_s + lambda_u L_u + lambda_m L_m; L_u is that of `single` with an adaptive number of masks."""

    paper = "Meng, Li, Jiang: adaptive keypoint masking"
    published = (42.9, 53.1, 57.8)
    reported = ("f",)
    restarts = ()

    def __init__(self, config: Config, bench: Workbench) -> None:
        super().__init__()
        self.config, self.bench = config, bench
        self.f = bench.network(None, 1)

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: Progress) -> Losses:
        """Supervised term, consistency with itself, and the mixed branch."""
        bench, config = self.bench, self.config
        view, factor = bench.views.labeled(labeled), config.unlabeled_factor(progress)
        if unlabeled is None or factor == 0:
            return losses(supervised=bench.supervised(self.f, view))
        easy = bench.views.easy(unlabeled)
        heatmaps = bench.teach(self.f, easy, config)
        hard = bench.make_hard(easy, heatmaps, config.hard)
        supervised, learned = bench.learn(self.f, view, [Lesson(hard, [heatmaps])], config)
        terms = {"unlabeled": factor * learned}
        if config.mixup.enabled:
            terms["mixed"] = factor * config.mixup.weight * self.mixed_loss(hard, heatmaps, self.place(progress))
        return losses(supervised=supervised, **terms)

    def place(self, progress: Progress) -> Place:
        """One of the places, drawn from the run's seed and the step: never from the device, which would wait."""
        places = self.config.mixup.places
        seed = self.bench.views.generator.initial_seed()
        return places[np.random.default_rng([seed, progress.step]).integers(len(places))]

    def mixed_loss(self, hard: HardView, heatmaps: Tensor, place: Place) -> Tensor:
        """Eq. 4: a * loss(f(X_m), H_i) + (1 - a) * loss(f(X_m), H_j) for X_m = a X_i + (1 - a) X_j.

        X are hard views, or their features at `place`; j runs over a permutation of the batch, a is one draw a batch.
        """
        bench = self.bench
        generator, device = bench.views.generator, hard.images.device
        share = mixing_share(self.config.mixup.beta, (), generator, device)
        partner = torch.randperm(len(hard.images), generator=generator, device=device)
        targets, weights, seen = bench.targets(heatmaps, hard, self.config)
        with self.config.statistics(self.f):
            outputs = mixed_forward(self.f, hard.images, lambda x: share * x + (1 - share) * x[partner], place)
        theirs = None if seen is None else seen[partner]
        return share * bench.loss(outputs, targets, weights, seen) + (1 - share) * bench.loss(
            outputs, targets[partner], weights[partner], theirs
        )

    def after_step(self, progress: Progress) -> None:
        """Nothing follows: teacher and student are one network."""

    def candidates(self) -> dict[str, nn.Module]:
        """The network."""
        return {"f": self.f}
