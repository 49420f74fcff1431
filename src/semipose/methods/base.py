"""What every method is made of: its three duties, and the parts it composes (teach, make hard, learn)."""

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
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

TeacherMode = Literal["train", "eval"]

NOT_PUBLISHED = (math.nan, math.nan, math.nan)
"""In place of figures where the papers give none."""


@dataclass(frozen=True)
class StepInfo:
    """Where training stands: `step` of `steps` (both count optimizer steps, the first is 0), and the `epoch`.

    `ends_epoch` says that this step is the last of its epoch.
    """

    step: int
    steps: int
    epoch: int
    ends_epoch: bool = False

    @property
    def fraction(self) -> float:
        """Share of the training that lies behind."""
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Losses:
    """Named terms for the log (detached scalars) and the total that is minimized."""

    total: Tensor
    terms: dict[str, Tensor]


class Method(Protocol):
    """A way of training. Every method is an nn.Module, so that its state is one state_dict."""

    paper: str
    """Where the method was published."""
    published: tuple[float, float, float]
    """COCO val AP with ResNet-18 and 1K, 5K, 10K labels as the paper gives it (METHODS, section 3); nan = not given."""
    headline_networks: tuple[str, ...]
    """Candidates whose mean score is the method's figure in the tables."""
    schedule_restarts: tuple[float, ...]
    """Moments, as shares of the training, at which the learning-rate schedule begins anew; () for most methods."""

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Losses of one step."""
        ...

    def after_step(self, info: StepInfo) -> None:
        """Called after the optimizer has stepped: teachers follow."""
        ...

    def eval_networks(self) -> dict[str, nn.Module]:
        """Networks that are evaluated and exported, by name."""
        ...


class ConsistencyConfig(Section):
    """What the methods that learn from unlabeled images share."""

    unlabeled_weight: float = Field(1.0, ge=0)
    """Weight of the unlabeled loss."""
    burn_in: float = Field(0.0, ge=0, lt=1)
    """Share of the training, at its beginning, that uses labeled data only; 0 in the papers."""
    ramp_up: float = Field(0.0, ge=0, lt=1)
    """Share of the training over which the unlabeled weight then rises to its full value; 0 in the papers."""
    cool_down: float = Field(0.0, ge=0, lt=1)
    """Share of the training, at its end, that uses labeled data only: what unlabeled images taught at a high learning
    rate is made precise by labels at a low one; 0 in the papers."""
    min_peak: float = Field(0.0, ge=0)
    """Joints whose teacher peak is lower carry no unlabeled loss; 0 = all count, as in the papers."""
    target: Literal["heatmap", "gaussian"] = "heatmap"
    """`heatmap`: the teacher's map, resampled, as in the papers. `gaussian`: a fresh Gaussian at the joint it shows."""
    teacher_mode: TeacherMode = "train"
    """BatchNorm of a teaching network: `train` = statistics of the batch, as the peers; `eval` = running averages."""
    teacher_scales: tuple[float, ...] = Field((1.0,), min_length=1)
    """Scales about the center at which a teacher looks at the easy view; its targets are the mean over them."""
    teacher_flip: bool = False
    """The teacher looks at the mirror image of each scale as well."""
    bn_stats_from_hard_views: bool = True
    """BatchNorm's running averages follow the hard views too, as in the peers; false = they do not, and fit the images
    that networks are used on better. With `teacher_mode: train` they follow a teacher's easy views all the same."""
    merge_passes: bool = False
    """Each student looks at its labeled and hard views in one pass. Faster where batches or inputs are small, and not
    the same: BatchNorm normalizes by the statistics of both together, and its running averages follow both."""
    augmentations: list[Augmentation] = []
    """Alterations of the hard view, applied one after the other."""

    @model_validator(mode="after")
    def _one_pass_has_one_statistic(self) -> "ConsistencyConfig":
        if self.merge_passes and not self.bn_stats_from_hard_views:
            raise ValueError(
                "merge_passes takes one statistic of labeled and hard views; set bn_stats_from_hard_views to true"
            )
        return self

    def hard_view_augmentations(self) -> list[list[Augmentation]]:
        """Returns the augmentations of each hard view that a student gets in one step."""
        return [self.augmentations]

    def statistics(self, student: nn.Module) -> AbstractContextManager[None]:
        """Wraps a student's pass over a hard view."""
        return nullcontext() if self.bn_stats_from_hard_views else frozen_bn_stats(student)

    def unlabeled_factor(self, info: StepInfo) -> float:
        """Weight of the unlabeled loss at this moment: 0 during burn-in and cool-down, rising linearly in the ramp."""
        since = info.fraction - self.burn_in
        if since < 0 or info.fraction >= 1 - self.cool_down:
            return 0.0
        return self.unlabeled_weight * min(1.0, since / self.ramp_up if self.ramp_up else 1.0)


@dataclass(frozen=True)
class ConsistencyTarget:
    """A hard view, and the easy-view heatmaps (B, K, h, w) of each teacher that a student learns from on it.

    `joint_weights` (B, K) multiplies the weights of the joints.
    """

    hard: HardView
    teachers: list[Tensor]
    joint_weights: Tensor | None = None


@dataclass(frozen=True)
class MethodContext:
    """The parts a method works with: views, the loss, and new networks.

    `network(backbone, levels)` builds a PoseNet; None takes the configured backbone. `trained(path)` loads one that a
    run or a weights file holds.
    """

    views: ViewSampler
    loss: HeatmapLoss
    build_network: Callable[[str | None, int], PoseNet]
    load_network: Callable[[str], PoseNet]

    def supervised(self, network: nn.Module, labeled: LabeledView) -> Float[Tensor, ""]:
        """Loss of a network on labeled views, added over its levels."""
        return self.loss(network(labeled.view.images), labeled.targets, labeled.weights)

    def pseudo_heatmaps(self, teacher: nn.Module, easy: View, config: ConsistencyConfig) -> Float[Tensor, "B K h w"]:
        """The teacher's heatmaps of level z on the easy view; no gradient.

        With several `teacher_scales` or `teacher_flip` the mean over these looks, each brought back to the easy view
        first (data distillation, Radosavovic et al. 2018); a cell counts where the look shows it.
        """
        scales, flips = config.teacher_scales, (False, True)[: 1 + config.teacher_flip]
        with torch.no_grad(), in_mode(teacher, training=config.teacher_mode == "train"):
            if scales == (1.0,) and not config.teacher_flip:
                heatmaps = self._heatmaps(teacher, easy.images)
            else:
                total = shown = torch.zeros((), device=easy.images.device)
                for scale, flip in itertools.product(scales, flips):
                    carried, seen = self._look(teacher, easy, scale, flip)
                    total, shown = total + carried * seen, shown + seen
                heatmaps = total / shown.clamp_min(1)
        return heatmaps

    def _heatmaps(self, teacher: nn.Module, images: Tensor) -> Tensor:
        return self.loss.heatmaps(teacher.forward_main(images))  # type: ignore[operator]

    def _look(self, teacher: nn.Module, easy: View, scale: float, flip: bool) -> tuple[Tensor, Tensor]:
        """Heatmaps of the scaled and mirrored easy view carried back to it, and the cells that the look shows."""
        batch, device, size = len(easy), easy.images.device, self.views.input_size
        mirrored = torch.full((batch,), flip, device=device)
        still, scales = torch.zeros(batch, device=device), torch.full((batch,), scale, device=device)
        matrix = geometry.similarity(size, still, scales, mirrored)
        heatmaps = self._heatmaps(teacher, geometry.warp(easy.images, matrix, size))
        order = self.views.skeleton.flip_order
        return geometry.warp_heatmaps(heatmaps, geometry.inverse(matrix), STRIDE, mirrored, order)

    def hard_view(
        self,
        easy: View,
        heatmaps: Float[Tensor, "B K h w"],
        augmentations: list[Augmentation],
        from_easy: Float[Tensor, "B 3 3"] | None = None,
    ) -> HardView:
        """Alters the easy view around the joints that `heatmaps` show, then moves it by the second affine.

        The affine is drawn anew unless `from_easy` gives it.
        """
        joints, scores = decode(heatmaps, STRIDE, "quarter")
        images = apply_augmentations(easy.images, joints, scores, augmentations, self.views.generator)
        if from_easy is None:
            from_easy = self.views.second_affine(len(easy), images.device)
        return self.views.hard(images, from_easy)

    def student_losses(
        self, student: nn.Module, labeled: LabeledView, lessons: list[ConsistencyTarget], config: ConsistencyConfig
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The student's supervised loss, and its loss over all lessons; with `merge_passes` from a single pass."""
        if config.merge_passes:
            images = [labeled.view.images, *(lesson.hard.images for lesson in lessons)]
            own, *outputs = student(torch.cat(images)).split([len(i) for i in images])
            supervised = self.loss(own, labeled.targets, labeled.weights)
            learned = [self._target_loss(o, lesson, config) for o, lesson in zip(outputs, lessons, strict=True)]
        else:
            supervised = self.supervised(student, labeled)
            learned = [self.consistency_loss(student, lesson, config) for lesson in lessons]
        return supervised, torch.stack(learned).sum()

    def consistency_loss(
        self, student: nn.Module, lesson: ConsistencyTarget, config: ConsistencyConfig
    ) -> Float[Tensor, ""]:
        """Loss of the student on one lesson, from a pass of its own."""
        with config.statistics(student):
            outputs = student(lesson.hard.images)
        return self._target_loss(outputs, lesson, config)

    def _target_loss(self, outputs: Tensor, lesson: ConsistencyTarget, config: ConsistencyConfig) -> Tensor:
        """Loss of outputs on a hard view against each teacher's easy-view heatmaps, added over teachers."""
        total = outputs.new_zeros((), dtype=torch.float32)
        for heatmaps in lesson.teachers:
            targets, weights, seen = self.targets(heatmaps, lesson.hard, config)
            weights = weights if lesson.joint_weights is None else weights * lesson.joint_weights
            total = total + self.loss(outputs, targets, weights, seen)
        return total

    def targets(
        self, heatmaps: Float[Tensor, "B K h w"], hard: HardView, config: ConsistencyConfig
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What a teacher's easy-view heatmaps ask of a student on the hard view: targets, joint weights, seen cells."""
        carried, seen = self.views.warp_heatmaps(heatmaps, hard)
        found = peaks(heatmaps)[1]
        weights = (found >= config.min_peak).float() if config.min_peak else torch.ones_like(found)
        if config.target == "heatmap":
            return carried, weights, seen
        joints, _ = decode(heatmaps, STRIDE, "dark", self.views.sigma)
        moved = geometry.apply(hard.from_easy, joints)
        drawn, weights = encode(moved, weights, self.views.heatmap_size, self.views.sigma, STRIDE)
        return drawn, weights, seen


def losses(**terms: Tensor) -> Losses:
    """Adds the terms and keeps each for the log."""
    return Losses(torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()})
