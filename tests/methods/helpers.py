"""Tiny networks, batches, and a method context that records its views."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from semipose.augment.base import HardViewAugmentation
from semipose.augment.views import ViewSampler, ViewsConfig
from semipose.losses import LossConfig
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, MethodContext
from semipose.structures.batches import HardView, LabeledBatch, LabeledView, Mixture, UnlabeledBatch, View
from semipose.structures.skeletons import LSP

JOINTS = len(LSP)
SIZE = (64, 48)
"""Input size for the tests of formulas: not square."""
STILL = ViewsConfig(scale=0, rotation=0, flip_probability=0)


class TinyPose(nn.Module):
    """A network with the interface of PoseNet: three feature levels of one small stack, one 3×3 head each."""

    def __init__(self, backbone: str | None, levels: int, joints: int = JOINTS) -> None:
        super().__init__()
        self.backbone_name, self.levels = backbone, levels
        width = {None: 16, "narrow": 8, "wide": 24}[backbone]
        self.stem = self._block(3, width, 4)
        self.middle = self._block(width, width, 1)
        self.last = self._block(width, width, 1)
        self.heads = nn.ModuleList(nn.Conv2d(width, joints, 3, padding=1) for _ in range(levels))
        for head in self.heads:  # peaks above zero, as those of a network that has learned a little
            nn.init.constant_(head.bias, 0.5)

    @staticmethod
    def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        # A 6×6 kernel of stride 4 or a 3×3 one of stride 1, both centered.
        convolution = nn.Conv2d(inputs, outputs, stride + 2, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, L, K, h, w), the deepest level first."""
        first = self.stem(images)
        second = self.middle(first)
        features = (self.last(second), second, first)
        return torch.stack([head(f) for head, f in zip(self.heads, features, strict=False)], dim=1)

    def forward_main(self, images: Tensor) -> Tensor:
        """Level z alone."""
        return self.heads[0](self.last(self.middle(self.stem(images))))


@dataclass
class Recording:
    """What a context made, in order; `consistency` has the students and their unlabeled losses."""

    easy: list[View] = field(default_factory=list)
    labeled: list[LabeledView] = field(default_factory=list)
    hard: list[HardView] = field(default_factory=list)
    augmented: list[Tensor] = field(default_factory=list)
    networks: list[tuple[str | None, int]] = field(default_factory=list)
    consistency: list[tuple[nn.Module, Tensor]] = field(default_factory=list)


class RecordingSampler(ViewSampler):
    """The real sampler; keeps what it returns, for references that start from the same random draws."""

    recording: Recording

    def easy(self, batch: LabeledBatch | UnlabeledBatch) -> View:
        view = super().easy(batch)
        if isinstance(batch, UnlabeledBatch):
            self.recording.easy.append(view)
        return view

    def labeled(self, batch: LabeledBatch) -> LabeledView:
        view = super().labeled(batch)
        self.recording.labeled.append(view)
        return view

    def hard(self, augmented: Tensor, from_easy: Tensor, mixtures: tuple[Mixture, ...] = ()) -> HardView:
        view = super().hard(augmented, from_easy, mixtures)
        self.recording.augmented.append(augmented)
        self.recording.hard.append(view)
        return view


class RecordingContext(MethodContext):
    """The real context; keeps each unlabeled loss with its gradient."""

    def consistency_loss(self, student: nn.Module, target: ConsistencyTarget, config: ConsistencyConfig) -> Tensor:
        loss = super().consistency_loss(student, target, config)
        self.views.recording.consistency.append((student, loss))
        return loss


class Spy(HardViewAugmentation):
    """Adds 0.5 times the number of calls to the whole image and keeps the joints and scores of each call."""

    kind: str = "spy"
    joints: list[Any] = []
    scores: list[Any] = []

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        self.joints.append(joints.clone())
        self.scores.append(scores.clone())
        return images + 0.5 * len(self.joints)


def make_context(
    size: tuple[int, int] = (32, 32),
    *,
    views: ViewsConfig | None = None,
    loss: str = "mse",
    seed: int = 0,
    learned_joints: tuple[int, ...] | None = None,
) -> MethodContext:
    """Returns a context with tiny networks; its sampler's `recording` keeps every view."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = LossConfig(kind=loss, sigma=1.0)
    sampler = RecordingSampler(views or ViewsConfig(), LSP, size, config.sigma, generator)
    sampler.recording = Recording()

    def network(backbone: str | None, levels: int) -> TinyPose:
        sampler.recording.networks.append((backbone, levels))
        return TinyPose(backbone, levels)

    return RecordingContext(sampler, config.build(), network, lambda path: TinyPose(None, 1), learned_joints)  # type: ignore[arg-type,return-value]


def make_labeled(size: tuple[int, int] = (32, 32), batch: int = 4, seed: int = 1) -> LabeledBatch:
    """Smooth random crops, joints mostly inside; one joint off the map, some unlabeled."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    joints = torch.rand(batch, JOINTS, 2, generator=generator) * torch.tensor([width - 1.0, height - 1.0])
    joints[0, 0] = torch.tensor([width * 3.0, height / 2])
    weights = (torch.rand(batch, JOINTS, generator=generator) > 0.2).float()
    weights[0, 0] = 1
    return LabeledBatch(_crops(size, batch, generator), torch.eye(3).repeat(batch, 1, 1), joints, weights)


def make_unlabeled(size: tuple[int, int] = (32, 32), batch: int = 4, seed: int = 2) -> UnlabeledBatch:
    """Smooth random crops."""
    return UnlabeledBatch(_crops(size, batch, torch.Generator().manual_seed(seed)), torch.eye(3).repeat(batch, 1, 1))


def _crops(size: tuple[int, int], batch: int, generator: torch.Generator) -> Tensor:
    coarse = torch.rand(batch, 3, size[0] // 4, size[1] // 4, generator=generator)
    fine = nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return (fine * 255).to(torch.uint8)


def doubles(method: nn.Module) -> dict[str, nn.Module]:
    """The networks of a method in float64, as they are now."""
    return {name: copy.deepcopy(network).double() for name, network in method.named_children()}


def state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights and buffers."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(network: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether weights and buffers are as they were."""
    return all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def without_joints(labeled: LabeledBatch) -> LabeledBatch:
    """The batch with joints of weight 0: the supervised loss and its gradient vanish."""
    return LabeledBatch(labeled.crops, labeled.to_input, labeled.joints, torch.zeros_like(labeled.weights))


def assert_close(value: Tensor, expected: Tensor) -> None:
    """Whether a float32 loss agrees with its float64 reference."""
    torch.testing.assert_close(value.detach().double(), expected.detach(), rtol=2e-4, atol=1e-6)


def move_statistics(method: nn.Module) -> None:
    """Gives all BatchNorm layers running averages away from their start."""
    torch.manual_seed(5)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 2)
