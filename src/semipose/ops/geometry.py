"""3×3 pixel matrices, the one pixel convention, image warping and carrying heatmaps between views.

Convention, known to this file alone: a pixel's center has integer coordinates, so x spans [-0.5, W - 0.5]; a mirror is
x -> W - 1 - x; an input pixel maps to its heatmap cell by (x + 0.5) / stride - 0.5. Matrices act on column vectors
(x, y, 1) from the left, in pixels, so a rotation stays a rotation on images that are not square.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache, wraps
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

Matrices = Float[Tensor, "B 3 3"]

_Function = TypeVar("_Function", bound=Callable)


def in_float32(function: _Function) -> _Function:
    """Runs a function outside autocast: positions need float32, in bf16 one near 200 is known to a pixel only."""

    @wraps(function)
    def outside(*arguments: Any, **options: Any) -> Any:
        with ExitStack() as stack:
            for device in ("cpu", "cuda", "mps"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*arguments, **options)

    return outside  # type: ignore[return-value]


def translation(offset: Float[Tensor, "B 2"]) -> Matrices:
    """Moves by `offset` pixels."""
    matrix = torch.eye(3, device=offset.device, dtype=offset.dtype).repeat(len(offset), 1, 1)
    matrix[:, :2, 2] = offset
    return matrix


def scaling(factor: Float[Tensor, "B 2"]) -> Matrices:
    """Scales x and y about the origin."""
    return torch.diag_embed(torch.cat([factor, torch.ones_like(factor[:, :1])], dim=1))


def rotation(degrees: Float[Tensor, " B"]) -> Matrices:
    """Rotates about the origin; positive turns x toward y, which is clockwise on a screen."""
    radians = torch.deg2rad(degrees)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    rows = [cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def mirror(width: int, flipped: Bool[Tensor, " B"], dtype: torch.dtype = torch.float32) -> Matrices:
    """x -> width - 1 - x where `flipped`, the identity elsewhere."""
    matrix = torch.eye(3, device=flipped.device, dtype=dtype).repeat(len(flipped), 1, 1)
    matrix[:, 0, 0] = torch.where(flipped, -1.0, 1.0)
    matrix[:, 0, 2] = torch.where(flipped, width - 1.0, 0.0)
    return matrix


def about(center: Float[Tensor, "B 2"], matrix: Matrices) -> Matrices:
    """The same transform with `center` as its fixed point instead of the origin."""
    return translation(center) @ matrix @ translation(-center)


def image_center(size: Sequence[int], batch: int, device: torch.device | None = None) -> Float[Tensor, "B 2"]:
    """Center of an image of `size` = (height, width) in pixels, once per sample."""
    height, width = size
    return cached_tensor(((width - 1) / 2, (height - 1) / 2), device).repeat(batch, 1)


@lru_cache(maxsize=64)
def cached_tensor(values: tuple[int | float, ...], device: torch.device | None = None) -> Tensor:
    """`values` as a tensor that stays on `device`: copying them there at each step would make a GPU wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def inverse(matrices: Matrices) -> Matrices:
    """Inverse maps. Unlike `torch.linalg.inv` this does not ask a GPU whether there are any: these always have one."""
    return torch.linalg.inv_ex(matrices)[0]


@in_float32
def similarity(
    size: Sequence[int], degrees: Float[Tensor, " B"], scale: Float[Tensor, " B"], flipped: Bool[Tensor, " B"]
) -> Matrices:
    """Mirror, then rotate and scale about the center of an image of `size` = (height, width)."""
    center = image_center(size, len(degrees), degrees.device)
    turn = rotation(degrees) @ scaling(torch.stack([scale, scale], dim=1))
    return about(center, turn) @ mirror(size[1], flipped)


@in_float32
def box_to_input(box: Float[Tensor, "B 4"], size: Sequence[int], padding: float = 1.25) -> Matrices:
    """Source pixels -> input pixels: the box, grown to the input's aspect ratio and by `padding`, fills the input.

    `box` is [x, y, width, height] with edges on the span [-0.5, W - 0.5] of the pixel grid shifted by half a pixel, as
    COCO's boxes are: its center in pixel coordinates is (x + (width - 1) / 2, y + (height - 1) / 2).
    `size` = (height, width) of the input.
    """
    height, width = size
    center = box[:, :2] + (box[:, 2:] - 1) / 2
    scale = torch.minimum(width / box[:, 2], height / box[:, 3]) / padding
    target = image_center(size, len(box), box.device).to(box.dtype)
    return translation(target) @ scaling(torch.stack([scale, scale], dim=1)) @ translation(-center)


def input_to_heatmap(stride: int, batch: int, device: torch.device | None = None) -> Matrices:
    """Input pixels -> heatmap cells: (x + 0.5) / stride - 0.5."""
    factor = torch.full((batch, 2), 1 / stride, device=device)
    offset = torch.full((batch, 2), 0.5 / stride - 0.5, device=device)
    return translation(offset) @ scaling(factor)


@in_float32
def to_heatmap_grid(matrices: Matrices, stride: int) -> Matrices:
    """The same map between views, written for heatmap cells instead of input pixels."""
    shrink = input_to_heatmap(stride, len(matrices), matrices.device)
    return shrink @ matrices @ inverse(shrink)


@in_float32
def transform_points(matrices: Matrices, points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
    """Points (x, y) of each sample, mapped by its matrix."""
    return points @ matrices[:, :2, :2].transpose(1, 2) + matrices[:, None, :2, 2]


def source_positions(matrices: Matrices, size: Sequence[int]) -> Float[Tensor, "B h w 2"]:
    """For each pixel of a target of `size` = (h, w): where it comes from in the source, in source pixels."""
    height, width = size
    ys = torch.arange(height, device=matrices.device, dtype=matrices.dtype)
    xs = torch.arange(width, device=matrices.device, dtype=matrices.dtype)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).expand(len(matrices), -1, -1)
    return transform_points(inverse(matrices), grid).view(-1, height, width, 2)


@in_float32
def warp(images: Float[Tensor, "B C H W"], matrices: Matrices, size: Sequence[int]) -> Float[Tensor, "B C h w"]:
    """Bilinear resampling of each image by its matrix (source -> target pixels); zero outside the source.

    `size` = (h, w) of the target.
    """
    return _sample(images, source_positions(matrices, size))


def warp_bytes(
    images: UInt8[Tensor, "B C H W"], matrices: Matrices, size: Sequence[int], outside: Sequence[int]
) -> UInt8[Tensor, "B C h w"]:
    """`warp` of photographs on a CPU, where `grid_sample` is slow: the same to a gray level, `outside` the source too.

    The source is best stored pixel by pixel, as the loaders' crops are; the result is stored channel by channel.
    """
    height, width = size
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    moved = np.empty((len(images), height, width, images.shape[1]), np.uint8)
    for image, matrix, target in zip(pixels, matrices.double().numpy(), moved, strict=True):
        cv2.warpAffine(image, matrix[:2], (width, height), dst=target, flags=cv2.INTER_LINEAR, borderValue=outside)
    return torch.from_numpy(moved).permute(0, 3, 1, 2).contiguous()


def _sample(images: Tensor, positions: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    extent = cached_tensor((width, height), positions.device)
    grid = (2 * positions + 1) / extent - 1  # align_corners=False places -1 and 1 on the outer edges -0.5 and W - 0.5
    return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


@in_float32
def warp_heatmaps(
    heatmaps: Float[Tensor, "B K h w"],
    matrices: Matrices,
    stride: int,
    flipped: Bool[Tensor, " B"] | None = None,
    flip_order: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "B K h w"], Bool[Tensor, "B 1 h w"]]:
    """Heatmaps of one view resampled onto the grid of another, and which cells were `seen` by the first view.

    `matrices` map the first view's input pixels to the second's; both views have the same input size. Where a sample
    of `matrices` contains a mirror, say so in `flipped` and give the skeleton's `flip_order`: left and right joints
    change places. A cell is seen when its position lies on the first view's heatmap.
    """
    height, width = heatmaps.shape[-2:]
    if flipped is not None:
        if flip_order is None:
            raise ValueError("carry_heatmaps needs flip_order to mirror heatmaps")
        swapped = heatmaps[:, cached_tensor(tuple(flip_order), heatmaps.device)]
        heatmaps = torch.where(flipped[:, None, None, None], swapped, heatmaps)
    positions = source_positions(to_heatmap_grid(matrices, stride), (height, width))
    x, y = positions.unbind(-1)
    seen = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return _sample(heatmaps, positions), seen.unsqueeze(1)


def flip_joints(
    joints: Float[Tensor, "B K 2"], flipped: Bool[Tensor, " B"], flip_order: Sequence[int]
) -> Float[Tensor, "B K 2"]:
    """Left and right joints change places where `flipped`; positions stay (a mirror matrix moves them)."""
    return torch.where(flipped[:, None, None], joints[:, cached_tensor(tuple(flip_order), joints.device)], joints)


def flip_weights(
    weights: Float[Tensor, "B K"], flipped: Bool[Tensor, " B"], flip_order: Sequence[int]
) -> Float[Tensor, "B K"]:
    """Joint weights in the order of the mirrored sample where `flipped`."""
    return torch.where(flipped[:, None], weights[:, cached_tensor(tuple(flip_order), weights.device)], weights)
