"""Encoding of joints as Gaussian heatmaps and decoding by arg-max with quarter offset or DARK.

Cell centers have integer coordinates, like pixel centers.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from semipose.ops.geometry import in_float32

Decoder = Literal["quarter", "dark"]


def encode(
    joints: Float[Tensor, "B K 2"], weights: Float[Tensor, "B K"], size: tuple[int, int], sigma: float, stride: int
) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"]]:
    """Draws Gaussian heatmaps exp(-|p - p_k|² / 2 sigma²), centered at the exact positions of the joints.

    Args:
        joints: Positions in input pixels.
        weights: Joint weights; joints with weight 0 get a heatmap of zeros.
        size: (h, w) of the heatmaps in cells.
        sigma: Standard deviation of the Gaussian in cells.
        stride: Input pixels per heatmap cell.

    Returns:
        The heatmaps, with peak 1, and the weights, set to 0 for joints outside the heatmap.

    Reference: Xiao et al., ECCV 2018; Zhang et al., "Distribution-Aware Coordinate Representation",
    CVPR 2020, section 3.2.
    """
    height, width = size
    cells = (joints + 0.5) / stride - 0.5
    x, y = cells.unbind(-1)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    weights = weights * inside
    dx = torch.arange(width, device=joints.device, dtype=joints.dtype) - x.unsqueeze(-1)
    dy = torch.arange(height, device=joints.device, dtype=joints.dtype) - y.unsqueeze(-1)
    gx, gy = torch.exp(-(dx**2) / (2 * sigma**2)), torch.exp(-(dy**2) / (2 * sigma**2))
    maps = gy.unsqueeze(-1) * gx.unsqueeze(-2)
    return maps * (weights > 0)[..., None, None], weights


def peaks(heatmaps: Float[Tensor, "B K h w"]) -> tuple[Float[Tensor, "B K 2"], Float[Tensor, "B K"]]:
    """Returns the cell (x, y) and the value of each heatmap's maximum."""
    width = heatmaps.shape[-1]
    values, index = heatmaps.flatten(2).max(dim=2)
    return torch.stack([index % width, index // width], dim=-1).to(heatmaps.dtype), values


@in_float32
def local_maxima(
    heatmaps: Float[Tensor, "B h w"], count: int, stride: int
) -> tuple[Float[Tensor, "B count 2"], Float[Tensor, "B count"]]:
    """Returns the positions in input pixels and the values of the highest local maxima of each heatmap.

    A local maximum is the highest of its 3×3 cells; it is moved a quarter cell toward the higher neighbors.

    Args:
        heatmaps: Heatmaps with several peaks.
        count: Number of maxima; those that do not exist have the value 0, and values that are not finite come first.
        stride: Input pixels per heatmap cell.
    """
    highest = F.max_pool2d(heatmaps.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    found = torch.where(heatmaps < highest, torch.zeros_like(heatmaps), heatmaps).clamp_min(0)
    values, index = found.flatten(1).topk(min(count, found[0].numel()), dim=1)
    width = heatmaps.shape[-1]
    cells = torch.stack([index % width, index // width], dim=-1).to(heatmaps.dtype)
    maps = heatmaps.unsqueeze(1).expand(-1, cells.shape[1], -1, -1)
    return (cells + _quarter_offset(maps, cells, 0.0) + 0.5) * stride - 0.5, values


@in_float32
def decode(
    heatmaps: Float[Tensor, "B K h w"], stride: int, decoder: Decoder = "dark", sigma: float = 2.0
) -> tuple[Float[Tensor, "B K 2"], Float[Tensor, "B K"]]:
    """Returns the position and the score of the joint of each heatmap.

    Args:
        heatmaps: Heatmaps with a peak near 1 where the network is certain.
        stride: Input pixels per heatmap cell.
        decoder: `quarter` moves the maximum a quarter cell toward the higher neighbor; the error for an exact Gaussian
            is at most 0.25 cells. `dark` takes a Newton step on the logarithm of the smoothed heatmap; the error for a
            Gaussian at least two sigma from the border is at most 0.02 cells.
        sigma: Standard deviation of the target Gaussians in cells; only `dark` uses it.

    Returns:
        Joints in input pixels, and their scores (the peak values).

    Reference: Xiao et al., ECCV 2018 (quarter); Zhang et al., CVPR 2020, section 3.1 (DARK).
    """
    cells, scores = peaks(heatmaps)
    cells = cells + DECODERS[decoder](heatmaps, cells, sigma)
    return (cells + 0.5) * stride - 0.5, scores


def _quarter_offset(heatmaps: Tensor, cells: Tensor, sigma: float) -> Tensor:
    """Returns an offset of a quarter cell toward the higher neighbor on each axis; 0 at the border."""
    patch, inner = _neighbors(heatmaps, cells, 1)
    dx = patch[..., 1, 2] - patch[..., 1, 0]
    dy = patch[..., 2, 1] - patch[..., 0, 1]
    return 0.25 * torch.stack([dx, dy], dim=-1).sign() * inner


def _dark_offset(heatmaps: Tensor, cells: Tensor, sigma: float) -> Tensor:
    """Returns a Newton step from the maximum on the logarithm of the smoothed heatmap, at most one cell per axis."""
    log_maps = _blur(heatmaps, sigma).clamp_min(1e-10).log()
    p, inner = _neighbors(log_maps, cells, 2)
    dx = 0.5 * (p[..., 2, 3] - p[..., 2, 1])
    dy = 0.5 * (p[..., 3, 2] - p[..., 1, 2])
    dxx = 0.25 * (p[..., 2, 4] - 2 * p[..., 2, 2] + p[..., 2, 0])
    dyy = 0.25 * (p[..., 4, 2] - 2 * p[..., 2, 2] + p[..., 0, 2])
    dxy = 0.25 * (p[..., 3, 3] - p[..., 1, 3] - p[..., 3, 1] + p[..., 1, 1])
    determinant = dxx * dyy - dxy * dxy
    # The Hessian at a maximum is negative definite; flat and noisy heatmaps get no step.
    peaked = (determinant > 1e-12) & (dxx < 0)
    safe = torch.where(peaked, determinant, torch.ones_like(determinant))
    step = torch.stack([-(dyy * dx - dxy * dy) / safe, -(dxx * dy - dxy * dx) / safe], dim=-1)
    return (step * peaked.unsqueeze(-1)).clamp(-1, 1) * inner


def _neighbors(maps: Tensor, cells: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Returns the window around each cell, (B, K, 2r+1, 2r+1), and whether it lies inside the map, (B, K, 1)."""
    height, width = maps.shape[-2:]
    x, y = cells.long().unbind(-1)
    inner = (x >= radius) & (x < width - radius) & (y >= radius) & (y < height - radius)
    span = torch.arange(-radius, radius + 1, device=maps.device)
    rows = (y[..., None, None] + span[:, None]).clamp(0, height - 1)
    columns = (x[..., None, None] + span[None, :]).clamp(0, width - 1)
    window = maps.flatten(2).gather(2, (rows * width + columns).flatten(2))
    return window.view(*cells.shape[:2], 2 * radius + 1, 2 * radius + 1), inner.unsqueeze(-1)


def _blur(heatmaps: Tensor, sigma: float) -> Tensor:
    """Smooths with a separable Gaussian kernel."""
    radius = max(1, round(2.5 * sigma))
    span = torch.arange(-radius, radius + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    kernel = torch.exp(-(span**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    maps = heatmaps.flatten(0, 1).unsqueeze(1)
    maps = F.conv2d(maps, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return F.conv2d(maps, kernel.view(1, 1, -1, 1), padding=(radius, 0)).view_as(heatmaps)


DECODERS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"quarter": _quarter_offset, "dark": _dark_offset}
"""Functions of (heatmaps, cells, sigma) that return the offset from the maximum in cells, by name of the decoder."""
