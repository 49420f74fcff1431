"""Tiny networks, batches, a recording workbench, and slow float64 references for the methods' tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semipose.augment.views import ViewSampler, ViewsConfig
from semipose.losses import LossConfig
from semipose.methods.base import MethodContext, StepInfo
from semipose.structures.batches import HardView, LabeledBatch, LabeledView, UnlabeledBatch, View
from semipose.structures.skeletons import LSP

JOINTS = len(LSP)
STRIDE = 4
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
    """What the sampler made, in order."""

    easy: list[View] = field(default_factory=list)
    labeled: list[LabeledView] = field(default_factory=list)
    hard: list[HardView] = field(default_factory=list)
    altered: list[Tensor] = field(default_factory=list)
    networks: list[tuple[str | None, int]] = field(default_factory=list)


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

    def hard(self, altered: Tensor, from_easy: Tensor) -> HardView:
        view = super().hard(altered, from_easy)
        self.recording.altered.append(altered)
        self.recording.hard.append(view)
        return view


class SpyAlteration:
    """Adds .5 per call so far to the whole image and keeps the joints it was given."""

    def __init__(self) -> None:
        self.joints: list[Tensor] = []
        self.scores: list[Tensor] = []

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        self.joints.append(joints.clone())
        self.scores.append(scores.clone())
        return images + 0.5 * len(self.joints)


def make_workbench(
    size: tuple[int, int] = (32, 32), *, views: ViewsConfig | None = None, loss: str = "mse", seed: int = 0
) -> MethodContext:
    """A workbench with tiny networks; its sampler's `recording` keeps every view."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = LossConfig(kind=loss, sigma=1.0)
    sampler = RecordingSampler(views or ViewsConfig(), LSP, size, config.sigma, generator)
    sampler.recording = Recording()

    def network(backbone: str | None, levels: int) -> TinyPose:
        sampler.recording.networks.append((backbone, levels))
        return TinyPose(backbone, levels)

    return MethodContext(sampler, config.build(), network, lambda path: TinyPose(None, 1))  # type: ignore[arg-type,return-value]


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


# ---- references: float64, loops or plain array code, nothing of the package


def bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Image (C, H, W) at positions (h, w) in pixels; zero beyond the border."""
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    height, width = image.shape[1:]
    x, y = np.clip(x, -1.5, width + 0.5) + 2, np.clip(y, -1.5, height + 0.5) + 2
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - left, y - top
    upper = padded[:, top, left] * (1 - fx) + padded[:, top, left + 1] * fx
    lower = padded[:, top + 1, left] * (1 - fx) + padded[:, top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy


def reference_warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Every target pixel p takes the image at M⁻¹ p; float64, same size."""
    warped = []
    for image, matrix in zip(_array(images), _array(matrices), strict=True):
        rows, columns = np.mgrid[: image.shape[1], : image.shape[2]].astype(float)
        inverse = np.linalg.inv(matrix)
        x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
        y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
        warped.append(bilinear(image, x, y))
    return torch.from_numpy(np.stack(warped))


def reference_warp_heatmaps(heatmaps: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Easy-view heatmaps on the hard grid, and the cells whose source lies on the easy view's map, (B, 1, h, w)."""
    to_cells = np.array([[1 / STRIDE, 0, 0.5 / STRIDE - 0.5], [0, 1 / STRIDE, 0.5 / STRIDE - 0.5], [0, 0, 1]])
    on_grid = np.stack([to_cells @ m @ np.linalg.inv(to_cells) for m in _array(matrices)])
    height, width = heatmaps.shape[-2:]
    seen = []
    for matrix in on_grid:
        rows, columns = np.mgrid[:height, :width].astype(float)
        inverse = np.linalg.inv(matrix)
        x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
        y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
        seen.append((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))
    carried = reference_warp(heatmaps, torch.from_numpy(on_grid))
    return carried, torch.from_numpy(np.stack(seen))[:, None].double()


def reference_targets(
    batch: LabeledBatch, view: View, size: tuple[int, int], sigma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Gaussian targets (B, K, h, w) and weights (B, K): joints moved, mirrored names exchanged, off-map joints out."""
    height, width = size[0] // STRIDE, size[1] // STRIDE
    targets = np.zeros((len(batch), JOINTS, height, width))
    weights = np.zeros((len(batch), JOINTS))
    rows, columns = np.mgrid[:height, :width]
    mirrored = {name: name for name in LSP.joints}
    mirrored |= {n: n.replace("left", "right") for n in LSP.joints if "left" in n}
    mirrored |= {n: n.replace("right", "left") for n in LSP.joints if "right" in n}
    for b in range(len(batch)):
        matrix = _array(view.from_crop)[b]
        for k, name in enumerate(LSP.joints):
            source = LSP.joints.index(mirrored[name]) if view.flipped[b] else k
            x, y, _ = matrix @ np.array([*_array(batch.joints)[b, source], 1])
            cx, cy = (x + 0.5) / STRIDE - 0.5, (y + 0.5) / STRIDE - 0.5
            if batch.weights[b, source] > 0 and -0.5 <= cx <= width - 0.5 and -0.5 <= cy <= height - 0.5:
                weights[b, k] = float(batch.weights[b, source])
                targets[b, k] = np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / (2 * sigma**2))
    return torch.from_numpy(targets), torch.from_numpy(weights)


def reference_mse(outputs: Tensor, targets: Tensor, weights: Tensor | None = None, seen: Any = 1.0) -> Tensor:
    """Sum over levels of 0.5 * mean over (B, K, h, w) of w_bk (prediction - target)²; outputs (B, L, K, h, w)."""
    weights = torch.ones(targets.shape[:2], dtype=torch.float64) if weights is None else weights
    total = torch.zeros((), dtype=torch.float64)
    for level in range(outputs.shape[1]):
        squares = (outputs[:, level].double() - targets) ** 2 * weights[:, :, None, None] * seen
        total = total + 0.5 * squares.sum() / squares.numel()
    return total


def reference_decode(heatmaps: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Arg-max in input pixels with the quarter offset, and the peak value."""
    maps = _array(heatmaps)
    joints, scores = np.zeros((*maps.shape[:2], 2)), np.zeros(maps.shape[:2])
    height, width = maps.shape[-2:]
    for b in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            one = maps[b, k]
            row, column = np.unravel_index(one.argmax(), one.shape)
            x, y = float(column), float(row)
            if 0 < row < height - 1 and 0 < column < width - 1:
                x += 0.25 * np.sign(one[row, column + 1] - one[row, column - 1])
                y += 0.25 * np.sign(one[row + 1, column] - one[row - 1, column])
            joints[b, k] = (x + 0.5) * STRIDE - 0.5, (y + 0.5) * STRIDE - 0.5
            scores[b, k] = one[row, column]
    return joints, scores


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.fixture
def workbench() -> Callable[..., MethodContext]:
    """Makes a workbench; see make_workbench."""
    return make_workbench


@pytest.fixture
def labeled() -> LabeledBatch:
    """Four labeled crops of 32×32."""
    return make_labeled()


@pytest.fixture
def unlabeled() -> UnlabeledBatch:
    """Four unlabeled crops of 32×32."""
    return make_unlabeled()


@pytest.fixture
def batches() -> tuple[LabeledBatch, UnlabeledBatch]:
    """Four labeled and four unlabeled crops of 64×48: not square, for the methods' formulas."""
    return make_labeled((64, 48)), make_unlabeled((64, 48))


@pytest.fixture
def start() -> StepInfo:
    """The first of ten steps."""
    return StepInfo(0, 10, 0)


@pytest.fixture
def tiny() -> SimpleNamespace:
    """The tiny parts by name."""
    return SimpleNamespace(
        labeled=make_labeled, unlabeled=make_unlabeled, Spy=SpyAlteration, Network=TinyPose, STILL=STILL
    )


@pytest.fixture
def reference() -> SimpleNamespace:
    """The slow float64 references by name."""
    return SimpleNamespace(
        warp=reference_warp,
        warp_heatmaps=reference_warp_heatmaps,
        targets=reference_targets,
        mse=reference_mse,
        decode=reference_decode,
    )
