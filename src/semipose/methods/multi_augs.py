"""`multi_augs`: several hard views of one easy view in one step (Zhou et al., arXiv 2402.11566)."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from semipose.augment.masking import CutOcclude, Cutout, JointCutout
from semipose.augment.mixing import CutMix
from semipose.augment.registry import Augmentation
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, Losses, MethodContext, StepInfo, losses
from semipose.structures.batches import LabeledBatch, UnlabeledBatch

PATHS: list[list[Any]] = [[CutOcclude(), Cutout()], [JointCutout(), CutMix()], [JointCutout()], [CutOcclude()]]
"""The paper's for 1K to 10K labels; with all of COCO and WILD it takes the first two alone."""


class Config(ConsistencyConfig):
    """Options of `multi_augs`."""

    name: Literal["multi_augs"] = "multi_augs"
    networks: Literal[1, 2] = 1
    """One network that teaches itself, or two that teach each other."""
    paths: list[list[Augmentation]] = Field(PATHS, min_length=1)
    """One list of alterations for each hard view."""
    supervised_weight: float = Field(1.0, ge=0)
    """Weight of each network's supervised term."""
    backbones: dict[Literal["f1", "f2"], str] = {}
    """Backbones that differ from `model.backbone`, by network."""
    augmentations: list[Augmentation] = Field([], max_length=0)
    """Not used here: `paths` takes its place."""

    def hard_view_augmentations(self) -> list[list[Augmentation]]:
        """Returns the paths."""
        return self.paths


class MultiAugs(nn.Module):
    """L = L_s + weight * sum over paths p of |f(hard_p) - M f(easy)|², one M for all paths.

    With two networks each learns from the other's heatmaps, on hard views cut around the other's joints.
    """

    paper = "Zhou et al., arXiv 2402.11566"
    published = (45.5, 56.2, 59.9)
    headline_networks: tuple[str, ...] = ("f1",)
    schedule_restarts = ()

    def __init__(self, config: Config, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.f1 = context.build_network(config.backbones.get("f1"), 1)
        if config.networks == 2:
            self.f2 = context.build_network(config.backbones.get("f2"), 1)
        self.headline_networks = tuple(self.eval_networks())

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Supervised terms, and each network's distance to its teacher's view of the easy image on every path."""
        context, config = self.context, self.config
        networks = list(self.eval_networks().values())
        view, factor = context.views.labeled(labeled), config.unlabeled_factor(info)
        if unlabeled is None or factor == 0:
            supervised = [context.supervised(network, view) for network in networks]
            return losses(supervised=config.supervised_weight * torch.stack(supervised).sum())
        easy = context.views.easy(unlabeled)
        maps = [context.pseudo_heatmaps(network, easy, config) for network in networks]
        from_easy = context.views.second_affine(len(easy), easy.images.device)
        terms, supervised = {}, []
        # The other network teaches; a single one is its own teacher.
        for number, (student, taught) in enumerate(zip(networks, maps[::-1], strict=True), start=1):
            lessons = [
                ConsistencyTarget(context.hard_view(easy, taught, path, from_easy), [taught]) for path in config.paths
            ]
            own, learned = context.student_losses(student, view, lessons, config)
            supervised.append(own)
            terms[f"unlabeled_{number}"] = factor * learned
        return losses(supervised=config.supervised_weight * torch.stack(supervised).sum(), **terms)

    def after_step(self, info: StepInfo) -> None:
        """Nothing follows."""

    def eval_networks(self) -> dict[str, nn.Module]:
        """The networks."""
        return {name: getattr(self, name) for name in ("f1", "f2")[: self.config.networks]}
