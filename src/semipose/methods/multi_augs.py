"""`multi_augs`: several hard views of one easy view in one step (Zhou et al., arXiv 2402.11566)."""

from typing import Literal

import torch
from pydantic import Field

from semipose.augment.masking import CutOcclude, CutoutPatches, JointCutout
from semipose.augment.mixing import CutMixPatches
from semipose.augment.registry import Augmentation
from semipose.methods.base import (
    ConsistencyConfig,
    ConsistencyMethod,
    ConsistencyTarget,
    Losses,
    MethodContext,
)
from semipose.models.pose_net import PoseNet
from semipose.structures.batches import LabeledView, View

PATHS: list[list[Augmentation]] = [
    [CutOcclude(), CutoutPatches()],
    [JointCutout(), CutMixPatches()],
    [JointCutout()],
    [CutOcclude()],
]
"""The paper's augmentations for 1K to 10K labels, with the patches of its released code. For all of COCO with WILD the
paper uses the first two paths only."""


class Config(ConsistencyConfig):
    """Options of `multi_augs`."""

    name: Literal["multi_augs"] = "multi_augs"
    networks: Literal[1, 2] = 1
    """One network that is its own teacher, or two networks that are each other's teacher."""
    paths: list[list[Augmentation]] = Field(PATHS, min_length=1)
    """The augmentations of each hard view."""
    backbones: dict[Literal["f1", "f2"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""

    def hard_view_augmentations(self) -> list[list[Augmentation]]:
        """Returns the paths."""
        return self.paths


class MultiAugs(ConsistencyMethod):
    """L = λ Σ_i L_s(f_i) + w Σ_i Σ_p |f_i(hard_p) - M teacher_i(easy)|² over paths p, with one M for all paths.

    A single network is its own teacher; two networks are each other's teacher. Hard views are augmented around the
    teacher's joints.
    """

    summary = "like single, with several hard views per step; multi_augs+dual has two networks"
    paper = "Zhou et al., arXiv 2402.11566"
    published = (45.5, 56.2, 59.9)
    config: Config

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__(config, context)
        self.f1 = context.build_network(config.backbones.get("f1"), 1)
        if config.networks == 2:
            self.f2 = context.build_network(config.backbones.get("f2"), 1)
        self.headline_networks = tuple(self.eval_networks())

    def supervised_networks(self) -> list[PoseNet]:
        """Returns the networks."""
        return list(self.eval_networks().values())

    def semi_supervised_losses(self, labeled: LabeledView, easy: View, weight: float) -> Losses:
        """Returns the supervised losses and each network's consistency loss with its teacher, summed over paths."""
        context, config = self.context, self.config
        networks = self.supervised_networks()
        heatmaps = [context.pseudo_heatmaps(network, easy, config) for network in networks]
        from_easy = context.views.second_affine(len(easy), easy.images.device)
        targets = [  # f1 takes the targets of the last network, f2 those of the first
            [ConsistencyTarget(context.hard_view(easy, maps, path, from_easy), [maps]) for path in config.paths]
            for maps in reversed(heatmaps)
        ]
        terms = {"supervised": self.supervised_loss(labeled)}
        for number, (student, student_targets) in enumerate(zip(networks, targets, strict=True), start=1):
            losses = [context.consistency_loss(student, target, config) for target in student_targets]
            terms[f"unlabeled_{number}"] = weight * torch.stack(losses).sum()
        return Losses.from_terms(**terms)

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the networks."""
        return {"f1": self.f1, "f2": self.f2} if self.config.networks == 2 else {"f1": self.f1}
