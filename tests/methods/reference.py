"""Slow float64 references: loops or plain array code, nothing of the package but the joints of a skeleton."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semipose.structures.batches import LabeledBatch, View
from semipose.structures.skeletons import LSP

JOINTS = len(LSP)
STRIDE = 4


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


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Every target pixel p takes the image at M⁻¹ p; float64, same size."""
    warped = []
    for image, matrix in zip(_array(images), _array(matrices), strict=True):
        rows, columns = np.mgrid[: image.shape[1], : image.shape[2]].astype(float)
        inverse = np.linalg.inv(matrix)
        x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
        y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
        warped.append(bilinear(image, x, y))
    return torch.from_numpy(np.stack(warped))


def warp_heatmaps(heatmaps: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
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
    carried = warp(heatmaps, torch.from_numpy(on_grid))
    return carried, torch.from_numpy(np.stack(seen))[:, None].double()


def targets(batch: LabeledBatch, view: View, size: tuple[int, int], sigma: float = 1.0) -> tuple[Tensor, Tensor]:
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


def mse(outputs: Tensor, targets: Tensor, weights: Tensor | None = None, seen: Any = 1.0) -> Tensor:
    """Sum over levels of 0.5 * mean over (B, K, h, w) of w_bk (prediction - target)²; outputs (B, L, K, h, w)."""
    weights = torch.ones(targets.shape[:2], dtype=torch.float64) if weights is None else weights
    total = torch.zeros((), dtype=torch.float64)
    for level in range(outputs.shape[1]):
        squares = (outputs[:, level].double() - targets) ** 2 * weights[:, :, None, None] * seen
        total = total + 0.5 * squares.sum() / squares.numel()
    return total


def decode(heatmaps: Tensor) -> tuple[np.ndarray, np.ndarray]:
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


def supervised_loss(network: nn.Module, recording: Any, labeled: LabeledBatch) -> Tensor:
    """L_s of a float64 network on the first labeled view of a recording."""
    view = recording.labeled[0].view
    height, width = view.images.shape[-2:]
    expected, weights = targets(labeled, view, (height, width))
    return mse(network(view.images.double()), expected, weights)


def consistency_loss(
    student: nn.Module, heatmaps: Tensor, recording: Any, which: int, added: float | None = None, weights: Any = None
) -> Tensor:
    """|student(hard_which) - M heatmaps|² on the easy view to which the spy of the tests has added a constant."""
    easy, matrix = recording.easy[0].images.double(), recording.hard[which].from_easy
    outputs = student(warp(easy + (0.5 * (which + 1) if added is None else added), matrix))
    warped, seen = warp_heatmaps(heatmaps, matrix)
    return mse(outputs, warped.detach(), weights, seen)
