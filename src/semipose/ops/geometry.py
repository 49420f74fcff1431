"""Similarity transforms as 3×3 matrices, and warping of images and heatmaps.

This module alone implements the pixel convention of the package: the center of a pixel has integer coordinates, so x
spans [-0.5, W - 0.5]; a horizontal flip is x -> W - 1 - x; an input pixel maps to its heatmap cell by
(x + 0.5) / stride - 0.5. Matrices act on column vectors (x, y, 1) from the left, in pixels, so that a rotation stays a
rotation on images that are not square.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

Matrices = Float[Tensor, "B 3 3"]

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Disables autocast within a function, because bfloat16 rounds coordinates near 200 to whole pixels."""

    @wraps(function)
    def without_autocast(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as stack:
            for device in ("cpu", "cuda", "mps"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return without_autocast


def translation(offset: Float[Tensor, "B 2"]) -> Matrices:
    """Returns matrices that move points by `offset` pixels."""
    matrix = torch.eye(3, device=offset.device, dtype=offset.dtype).repeat(len(offset), 1, 1)
    matrix[:, :2, 2] = offset
    return matrix


def scaling(factor: Float[Tensor, "B 2"]) -> Matrices:
    """Returns matrices that scale x and y about the origin."""
    return torch.diag_embed(torch.cat([factor, torch.ones_like(factor[:, :1])], dim=1))


def rotation(degrees: Float[Tensor, " B"]) -> Matrices:
    """Returns matrices that rotate about the origin from x toward y, which is clockwise in an image."""
    radians = torch.deg2rad(degrees)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    rows = [cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def horizontal_flip(width: int, flipped: Bool[Tensor, " B"], dtype: torch.dtype = torch.float32) -> Matrices:
    """Returns matrices of x -> width - 1 - x for `flipped` samples and the identity for others."""
    matrix = torch.eye(3, device=flipped.device, dtype=dtype).repeat(len(flipped), 1, 1)
    matrix[:, 0, 0] = torch.where(flipped, -1.0, 1.0)
    matrix[:, 0, 2] = torch.where(flipped, width - 1.0, 0.0)
    return matrix


def image_center(size: Sequence[int], batch: int, device: torch.device | None = None) -> Float[Tensor, "B 2"]:
    """Returns the center, in pixels, of an image of `size` = (height, width), repeated for each sample."""
    height, width = size
    return cached_tensor(((width - 1) / 2, (height - 1) / 2), device).repeat(batch, 1)


@lru_cache(maxsize=64)
def cached_tensor(values: tuple[int | float, ...], device: torch.device | None = None) -> Tensor:
    """Returns `values` as a tensor that stays on `device`; copying it in each step would make a GPU wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def inverse(matrices: Matrices) -> Matrices:
    """Returns inverse matrices without the check of `torch.linalg.inv`, which makes the CPU wait for a GPU."""
    return torch.linalg.inv_ex(matrices)[0]


@in_float32
def similarity(
    size: Sequence[int], degrees: Float[Tensor, " B"], scale: Float[Tensor, " B"], flipped: Bool[Tensor, " B"]
) -> Matrices:
    """Returns matrices that flip, then rotate and scale about the center of an image of `size` = (height, width)."""
    center = image_center(size, len(degrees), degrees.device)
    rotation_and_scale = rotation(degrees) @ scaling(torch.stack([scale, scale], dim=1))
    centered = translation(center) @ rotation_and_scale @ translation(-center)
    return centered @ horizontal_flip(size[1], flipped)


def input_to_heatmap(stride: int, batch: int, device: torch.device | None = None) -> Matrices:
    """Returns matrices from input pixels to heatmap cells: x -> (x + 0.5) / stride - 0.5."""
    factor = torch.full((batch, 2), 1 / stride, device=device)
    offset = torch.full((batch, 2), 0.5 / stride - 0.5, device=device)
    return translation(offset) @ scaling(factor)


@in_float32
def to_heatmap_grid(matrices: Matrices, stride: int) -> Matrices:
    """Converts matrices between the input pixels of two views to matrices between their heatmap cells."""
    to_cells = input_to_heatmap(stride, len(matrices), matrices.device)
    return to_cells @ matrices @ inverse(to_cells)


@in_float32
def transform_points(matrices: Matrices, points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
    """Transforms the points (x, y) of each sample by the matrix of the sample."""
    return points @ matrices[:, :2, :2].transpose(1, 2) + matrices[:, None, :2, 2]


def source_positions(matrices: Matrices, size: Sequence[int]) -> Float[Tensor, "B h w 2"]:
    """Returns the source position, in pixels, of each pixel of a target of `size` = (h, w)."""
    height, width = size
    ys = torch.arange(height, device=matrices.device, dtype=matrices.dtype)
    xs = torch.arange(width, device=matrices.device, dtype=matrices.dtype)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).expand(len(matrices), -1, -1)
    return transform_points(inverse(matrices), grid).view(-1, height, width, 2)


@in_float32
def warp(images: Float[Tensor, "B C H W"], matrices: Matrices, size: Sequence[int]) -> Float[Tensor, "B C h w"]:
    """Resamples each image bilinearly by its matrix.

    Args:
        images: Source images.
        matrices: From source to target pixels.
        size: (h, w) of the target.

    Returns:
        Target images, zero outside the source.
    """
    return _sample(images, source_positions(matrices, size))


def warp_uint8(
    images: UInt8[Tensor, "B C H W"], matrices: Matrices, size: Sequence[int], fill: Sequence[int]
) -> UInt8[Tensor, "B C h w"]:
    """Resamples images on a CPU, where `grid_sample` is slow; equals `warp` to within one gray level.

    Args:
        images: Source images; channels-last images need no copy.
        matrices: From source to target pixels.
        size: (h, w) of the target.
        fill: Color outside the source.

    Returns:
        Target images, contiguous.
    """
    height, width = size
    sources = images.permute(0, 2, 3, 1).contiguous().numpy()
    targets = np.empty((len(images), height, width, images.shape[1]), np.uint8)
    for source, matrix, target in zip(sources, matrices.double().numpy(), targets, strict=True):
        cv2.warpAffine(source, matrix[:2], (width, height), dst=target, flags=cv2.INTER_LINEAR, borderValue=fill)
    return torch.from_numpy(targets).permute(0, 3, 1, 2).contiguous()


def _sample(images: Tensor, positions: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    extent = cached_tensor((width, height), positions.device)
    grid = (2 * positions + 1) / extent - 1  # with align_corners=False, -1 and 1 are the outer edges -0.5 and W - 0.5
    return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


@in_float32
def warp_heatmaps(
    heatmaps: Float[Tensor, "B K h w"],
    matrices: Matrices,
    stride: int,
    flipped: Bool[Tensor, " B"] | None = None,
    flip_order: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "B K h w"], Bool[Tensor, "B 1 h w"]]:
    """Resamples heatmaps of one view onto the grid of another view with the same input size.

    Args:
        heatmaps: Heatmaps of the first view.
        matrices: From the first view's input pixels to the second's.
        stride: Input pixels per heatmap cell.
        flipped: Which matrices contain a flip; left and right joints of these samples are exchanged.
        flip_order: Joint order of the flipped image (`Skeleton.flip_order`); needed with `flipped`.

    Returns:
        The heatmaps of the second view, zero outside the first view, and the mask `seen` of the cells that lie inside
        the first view's heatmap.
    """
    height, width = heatmaps.shape[-2:]
    if flipped is not None:
        if flip_order is None:
            raise ValueError("warp_heatmaps: `flipped` needs `flip_order`")
        swapped = heatmaps[:, cached_tensor(tuple(flip_order), heatmaps.device)]
        heatmaps = torch.where(flipped[:, None, None, None], swapped, heatmaps)
    positions = source_positions(to_heatmap_grid(matrices, stride), (height, width))
    x, y = positions.unbind(-1)
    seen = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return _sample(heatmaps, positions), seen.unsqueeze(1)


def flip_joints(
    joints: Float[Tensor, "B K 2"], flipped: Bool[Tensor, " B"], flip_order: Sequence[int]
) -> Float[Tensor, "B K 2"]:
    """Exchanges left and right joints of `flipped` samples; positions do not move (`horizontal_flip` moves them)."""
    return torch.where(flipped[:, None, None], joints[:, cached_tensor(tuple(flip_order), joints.device)], joints)


def flip_weights(
    weights: Float[Tensor, "B K"], flipped: Bool[Tensor, " B"], flip_order: Sequence[int]
) -> Float[Tensor, "B K"]:
    """Exchanges the weights of left and right joints of `flipped` samples."""
    return torch.where(flipped[:, None], weights[:, cached_tensor(tuple(flip_order), weights.device)], weights)
