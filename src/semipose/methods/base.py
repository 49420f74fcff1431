"""The abstract class of training methods, and the parts that consistency methods share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from semipose.augment.registry import Augmentation, apply_augmentations
from semipose.augment.views import ViewSampler
from semipose.losses import HeatmapLoss
from semipose.models.heads import STRIDE
from semipose.models.pose_net import PoseNet
from semipose.ops import geometry
from semipose.ops.ema import frozen_bn_stats, in_mode
from semipose.ops.heatmaps import decode, encode, peaks
from semipose.structures.batches import HardView, LabeledBatch, LabeledView, UnlabeledBatch, View
from semipose.utils.section import Section
from semipose.utils.text import plural

TeacherMode = Literal["train", "eval"]

ParameterGroups = list[dict[str, Any]]
"""Parameter groups of a torch optimizer."""

BURN_IN_STEPS = 1000
"""Smallest number of steps of an automatic burn-in."""
BURN_IN_PASSES = 20
"""Smallest number of passes over the labeled persons in an automatic burn-in."""

NOT_PUBLISHED = (math.nan, math.nan, math.nan)
"""The `published` scores of a method whose paper gives none."""


@dataclass(frozen=True)
class StepInfo:
    """The position of a step in the training.

    `step` counts optimizer steps from 0, out of `steps`. `ends_epoch` is true in the last step of an epoch.
    `passes_per_step` is the fraction of the labeled persons that a step uses.
    """

    step: int
    steps: int
    ends_epoch: bool = False
    passes_per_step: float = 0.0

    @property
    def fraction(self) -> float:
        """Finished fraction of the training."""
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Losses:
    """The loss of a step: the total that is minimized, and its terms, detached, for the log."""

    total: Tensor
    terms: dict[str, Tensor]

    @classmethod
    def from_terms(cls, **terms: Tensor) -> "Losses":
        """Returns the sum of scalar terms and each of them by its name."""
        return cls(torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()})


class MethodOptions(Section):
    """The base of every method's options."""

    weights_options: ClassVar[tuple[str, ...]] = ()
    """Names of the options whose value is a run folder or a weights file."""
    name: str
    """Name of the method."""


class ConsistencyConfig(MethodOptions):
    """Options of every consistency method."""

    supervised_weight: float = Field(1.0, ge=0)
    """Weight of each network's supervised loss."""
    unlabeled_weight: float = Field(1.0, ge=0)
    """Weight of the unlabeled loss."""
    burn_in: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.0
    """Fraction of the training, at its beginning, that uses labeled data only; 0 in the papers. `auto`:
    `BURN_IN_STEPS` steps or `BURN_IN_PASSES` passes over the labeled persons, whichever is longer."""
    ramp_up: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training, after burn-in, over which the unlabeled weight rises from 0; 0 in the papers."""
    min_peak: float = Field(0.0, ge=0)
    """Joints whose peak in the teacher's heatmap is lower than this have no unlabeled loss; 0, as in the papers, keeps
    all joints."""
    target: Literal["heatmap", "gaussian"] = "heatmap"
    """`heatmap`: the teacher's heatmap, resampled, as in the papers. `gaussian`: a new Gaussian at the joint."""
    teacher_mode: TeacherMode = "train"
    """BatchNorm mode of a teacher: `train` uses batch statistics, as in the papers; `eval` uses running averages."""
    bn_stats_from_hard_views: bool = True
    """Whether a student's BatchNorm running averages include hard views, as in the papers. Otherwise they include only
    the labeled views, which resemble the images of the evaluation. With `teacher_mode: train` the running averages of
    a teacher always include its easy views."""

    def hard_view_augmentations(self) -> list[list[Augmentation]]:
        """Returns the augmentations of each hard view that a student gets in one step."""
        return [[]]

    def hard_view_statistics(self, student: nn.Module) -> AbstractContextManager[None]:
        """Returns the context for a student's pass over a hard view; it implements `bn_stats_from_hard_views`."""
        return nullcontext() if self.bn_stats_from_hard_views else frozen_bn_stats(student)


class HardViewConfig(ConsistencyConfig):
    """Options of the methods that make every hard view with the same augmentations."""

    augmentations: list[Augmentation] = []
    """Augmentations of the hard view, applied in this order."""

    def hard_view_augmentations(self) -> list[list[Augmentation]]:
        """Returns the augmentations of the one hard view of a student."""
        return [self.augmentations]


@dataclass(frozen=True)
class ConsistencyTarget:
    """The input and the targets of a student in one unlabeled loss term.

    Attributes:
        hard_view: The input of the student.
        teacher_heatmaps: Heatmaps (B, K, h, w) of each teacher on the easy view; the losses are added over teachers.
        joint_weights: Factors (B, K) of the joint weights; None for 1 everywhere.
    """

    hard_view: HardView
    teacher_heatmaps: list[Tensor]
    joint_weights: Tensor | None = None


@dataclass(frozen=True)
class MethodContext:
    """The parts that every method is built from.

    Attributes:
        views: Draws the labeled, easy and hard views.
        loss: Compares outputs with target heatmaps.
        build_network: Builds a PoseNet from a backbone name (None for the configured one) and a number of levels.
        load_network: Loads the PoseNet of a run folder or a weights file.
        learned_joints: Indices of the joints that are learned from labels; None for all. The others have no unlabeled
            loss, and augmentations neither choose nor count them.
    """

    views: ViewSampler
    loss: HeatmapLoss
    build_network: Callable[[str | None, int], PoseNet]
    load_network: Callable[[str], PoseNet]
    learned_joints: tuple[int, ...] | None = None

    def supervised_loss(self, network: PoseNet, labeled: LabeledView) -> Float[Tensor, ""]:
        """Returns the loss of a network on labeled views, summed over its levels."""
        return self.loss(network(labeled.view.images), labeled.targets, labeled.weights)

    def pseudo_heatmaps(self, teacher: PoseNet, easy: View, config: ConsistencyConfig) -> Float[Tensor, "B K h w"]:
        """Returns the teacher's level-z heatmaps on the easy view, without gradient."""
        with torch.no_grad(), in_mode(teacher, training=config.teacher_mode == "train"):
            return self.loss.heatmaps(teacher.forward_main(easy.images))

    def hard_view(
        self,
        easy: View,
        heatmaps: Float[Tensor, "B K h w"],
        augmentations: list[Augmentation],
        from_easy: Float[Tensor, "B 3 3"] | None = None,
    ) -> HardView:
        """Returns the easy view augmented around the joints of `heatmaps`, then warped by the second affine.

        Args:
            easy: The easy view.
            heatmaps: Heatmaps on the easy view.
            augmentations: Augmentations of the image, applied in this order.
            from_easy: The second affine in input pixels; None draws one.
        """
        joints, scores = decode(heatmaps, STRIDE, "quarter")
        if self.learned_joints is not None:
            chosen = geometry.cached_tensor(self.learned_joints, joints.device)
            joints, scores = joints[:, chosen], scores[:, chosen]
        images, mixtures = apply_augmentations(easy.images, joints, scores, augmentations, self.views.generator)
        if from_easy is None:
            from_easy = self.views.second_affine(len(easy), images.device)
        return self.views.hard(images, from_easy, mixtures)

    def consistency_loss(
        self, student: PoseNet, target: ConsistencyTarget, config: ConsistencyConfig
    ) -> Float[Tensor, ""]:
        """Returns |student(hard) - M teacher(easy)|², summed over teachers and over the student's levels."""
        with config.hard_view_statistics(student):
            outputs = student(target.hard_view.images)
        total: Tensor = outputs.new_zeros((), dtype=torch.float32)
        for heatmaps in target.teacher_heatmaps:
            targets, weights, seen = self.targets(heatmaps, target.hard_view, config, target.joint_weights)
            total = total + self.loss(outputs, targets, weights, seen)
        return total

    def targets(
        self,
        heatmaps: Float[Tensor, "B K h w"],
        hard: HardView,
        config: ConsistencyConfig,
        joint_weights: Float[Tensor, "B K"] | None = None,
    ) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"], Bool[Tensor, "B 1 h w"] | None]:
        """Converts a teacher's heatmaps on the easy view to targets on the hard view.

        A mixed target needs the joint in both samples: its weight is the smaller one.

        Returns:
            Target heatmaps, joint weights, and the mask of cells that the easy view covers (None for no mask).
        """
        weights = self._unlabeled_weights(heatmaps, config)
        if joint_weights is not None:
            weights = weights * joint_weights
        maps, redrawn = heatmaps, config.target == "gaussian" and not hard.mixtures
        if config.target == "gaussian":
            joints, _ = decode(heatmaps, STRIDE, "dark", self.views.sigma)
            if redrawn:  # on the grid of the hard view; Gaussians that are mixed stay on that of the easy view
                joints = geometry.transform_points(hard.from_easy, joints)
            maps, weights = encode(joints, weights, self.views.heatmap_size, self.views.sigma, STRIDE)
        for mixture in hard.mixtures:
            maps, weights = mixture(maps), torch.minimum(weights, weights[mixture.partners])
        warped, seen = self.views.warp_heatmaps(maps, hard)
        return maps if redrawn else self.loss.warped_targets(warped, hard.from_easy), weights, seen

    def _unlabeled_weights(self, heatmaps: Tensor, config: ConsistencyConfig) -> Float[Tensor, "B K"]:
        """Returns 1 for the joints that have an unlabeled loss, 0 for the others."""
        heights = peaks(heatmaps)[1]
        weights = (heights >= config.min_peak).float() if config.min_peak else torch.ones_like(heights)
        if self.learned_joints is None:
            return weights
        labeled = tuple(float(k in self.learned_joints) for k in range(heatmaps.shape[1]))
        return weights * geometry.cached_tensor(labeled, weights.device)


class Method(nn.Module, ABC):
    """A training method: its networks, the losses of a step, and the updates after the optimizer step.

    A method is an nn.Module, so its complete state is one state_dict. Every random draw of a step comes from
    `context.views.generator`.
    """

    summary: str
    """One-line description of the method."""
    paper: str
    """Authors and venue of the publication."""
    published: tuple[float, float, float]
    """The paper's COCO val AP (ResNet-18) with 1K, 5K and 10K labels; nan where the paper gives none."""
    headline_networks: tuple[str, ...]
    """Names of the networks whose mean score is the method's score in the papers' tables."""
    schedule_restarts: tuple[float, ...] = ()
    """Points, as fractions of the training, at which the learning-rate schedule starts again."""
    recommended_drops: tuple[float, ...] | None = None
    """`train.drops` with unlabeled images, if measured; None for those of most methods (`semipose.auto.LATE_DROP`)."""
    uses_unlabeled: bool = True
    """Whether the method trains on unlabeled images."""
    needs_labels: bool = True
    """Whether the method can't train without labeled images; otherwise its `losses` take empty labeled batches."""
    baseline_network: str | None = None
    """Name of a network that learns from the labels alone, to measure the gain from unlabeled images; None if there is
    no such network."""

    def __init__(self, config: MethodOptions, context: MethodContext) -> None:
        super().__init__()
        self.config, self.context = config, context

    @abstractmethod
    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the losses of one step."""

    @abstractmethod
    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the networks that are evaluated and exported, by name."""

    def after_step(self, info: StepInfo) -> None:
        """Updates teachers after the optimizer step; does nothing by default."""

    def parameter_groups(self) -> ParameterGroups:
        """Returns the trainable parameters in the groups of the optimizer.

        A group's `lr_scale` multiplies the learning rate, as in timm.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def unlabeled_weight(self, info: StepInfo) -> float:
        """Returns the weight of the unlabeled loss in a step; 0 for a method that uses labels only."""
        return 0.0

    def describe_baseline(self, info: StepInfo) -> str:
        """Returns in words what `baseline_network` has learned from; `info` is any step of the training."""
        return "labels alone"


def automatic_burn_in(passes_per_step: float) -> int:
    """Returns the steps of an automatic burn-in.

    Args:
        passes_per_step: The fraction of the labeled persons that a step uses; 0 if it is unknown.
    """
    return max(BURN_IN_STEPS, math.ceil(BURN_IN_PASSES / passes_per_step) if passes_per_step else 0)


class ConsistencyMethod(Method):
    """A method that trains students to predict on hard views what teachers predict on the easy view.

    L = λ Σ L_s + w L_u. λ is `supervised_weight`, the sum runs over `supervised_networks`, and w is `unlabeled_weight`,
    which is 0 during burn-in. While w is 0, and without unlabeled images, the loss is λ Σ L_s.
    """

    config: ConsistencyConfig

    @abstractmethod
    def supervised_networks(self) -> list[PoseNet]:
        """Returns the networks that are trained with the supervised loss."""

    @abstractmethod
    def semi_supervised_losses(self, labeled: LabeledView, easy: View, weight: float) -> Losses:
        """Returns the losses of a step with unlabeled images; `weight` multiplies the unlabeled terms.

        In train mode BatchNorm's running averages depend on the order of the passes. The order is therefore part of the
        method: teachers on the easy view, then students on labeled views, then students on hard views.
        """

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the supervised losses of one step, and the unlabeled ones unless their weight is 0."""
        view, weight = self.context.views.labeled(labeled), self.unlabeled_weight(info)
        if unlabeled is None or weight == 0:
            return Losses.from_terms(supervised=self.supervised_loss(view))
        return self.semi_supervised_losses(view, self.context.views.easy(unlabeled), weight)

    def unlabeled_weight(self, info: StepInfo) -> float:
        """Returns 0 during burn-in, then a weight that rises linearly over `ramp_up`."""
        config, since = self.config, info.step - self.burn_in_steps(info)
        if since < 0:
            return 0.0
        ramp_up = config.ramp_up * info.steps
        return config.unlabeled_weight * min(1.0, since / ramp_up if ramp_up else 1.0)

    def burn_in_steps(self, info: StepInfo) -> int:
        """Returns the number of steps with labels only; it is the same in every step of a training."""
        if self.config.burn_in == "auto":
            return automatic_burn_in(info.passes_per_step)
        return math.ceil(self.config.burn_in * info.steps - 1e-9)  # .07 of 100 steps are 7

    def describe_baseline(self, info: StepInfo) -> str:
        """Returns in words what the network at the end of burn-in has learned from, and whether its steps were few."""
        steps, needed = self.burn_in_steps(info), automatic_burn_in(info.passes_per_step)
        if steps == 0:
            return "the network at the start"
        short = f"labels alone after {plural(steps, 'step')}, where a fair comparison needs about {needed}"
        return "labels alone" if steps >= needed else short

    def supervised_loss(self, labeled: LabeledView) -> Float[Tensor, ""]:
        """Returns λ Σ L_s over the supervised networks."""
        losses = [self.context.supervised_loss(network, labeled) for network in self.supervised_networks()]
        return self.config.supervised_weight * torch.stack(losses).sum()


class SingleStudentMethod(ConsistencyMethod):
    """A consistency method with one student f and one teacher: L = λ L_s(f) + w |f(hard) - M teacher(easy)|².

    The hard view is augmented around the teacher's joints. The student has `levels` heatmap levels.
    """

    config: HardViewConfig
    headline_networks = ("f",)

    def __init__(self, config: HardViewConfig, context: MethodContext, levels: int = 1) -> None:
        super().__init__(config, context)
        self.f = context.build_network(None, levels)

    @abstractmethod
    def teacher_heatmaps(self, easy: View) -> Float[Tensor, "B K h w"]:
        """Returns the teacher's heatmaps on the easy view, without gradient."""

    def supervised_networks(self) -> list[PoseNet]:
        """Returns the student."""
        return [self.f]

    def semi_supervised_losses(self, labeled: LabeledView, easy: View, weight: float) -> Losses:
        """Returns the student's supervised loss and its losses on unlabeled images."""
        heatmaps = self.teacher_heatmaps(easy)
        supervised = self.supervised_loss(labeled)
        return Losses.from_terms(supervised=supervised, **self.unlabeled_losses(easy, heatmaps, weight))

    def unlabeled_losses(self, easy: View, heatmaps: Float[Tensor, "B K h w"], weight: float) -> dict[str, Tensor]:
        """Returns the terms of the loss on unlabeled images: the distance to the teacher's `heatmaps`."""
        target = ConsistencyTarget(self.context.hard_view(easy, heatmaps, self.config.augmentations), [heatmaps])
        return {"unlabeled": weight * self.context.consistency_loss(self.f, target, self.config)}

    def eval_networks(self) -> dict[str, PoseNet]:
        """Returns the student."""
        return {"f": self.f}
