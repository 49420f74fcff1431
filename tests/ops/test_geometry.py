"""Geometry against slow NumPy float64 references, and properties of chained views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semipose.ops import geometry
from semipose.ops.heatmaps import decode, encode
from semipose.structures.skeletons import COCO, LSP

H, W, STRIDE = 256, 192, 4


def similarity(size, degrees, scale, flipped):
    """Flip, then rotation and scale about the image center, (3, 3) float64."""
    height, width = size
    angle = np.deg2rad(degrees)
    center = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    flip = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) if flipped else np.eye(3)
    return center @ rotation @ np.diag([scale, scale, 1]) @ np.linalg.inv(center) @ flip


def warp(image, matrix, size):
    """Bilinear resampling pixel by pixel, zero outside; image (C, H, W) float64."""
    inverse, out = np.linalg.inv(matrix), np.zeros((image.shape[0], *size))
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = inverse @ (column, row, 1)
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            for yy, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
                for xx, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
                    if 0 <= xx < image.shape[2] and 0 <= yy < image.shape[1]:
                        out[:, row, column] += wy * wx * image[:, yy, xx]
    return out


def one(value, dtype=torch.float32):
    return torch.tensor([value], dtype=dtype)


views = st.tuples(st.floats(-60, 60), st.floats(0.6, 1.4), st.booleans())


@given(views)
def test_similarity(view):
    degrees, scale, flipped = view
    found = geometry.similarity((H, W), one(degrees), one(scale), one(flipped, torch.bool))[0]
    np.testing.assert_allclose(found.numpy(), similarity((H, W), degrees, scale, flipped), atol=2e-4)


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        np.array([[1, 0, 3.0], [0, 1, -2], [0, 0, 1]]),
        np.array([[-1, 0, 10.0], [0, 1, 0], [0, 0, 1]]),
        similarity((9, 11), 33.0, 1.3, True),
        similarity((9, 11), -50.0, 0.6, False) @ np.diag([1.1, 0.9, 1]),
    ],
)
def test_warp(matrix):
    image = np.random.default_rng(0).random((2, 9, 11))
    found = geometry.warp(torch.from_numpy(image)[None], torch.from_numpy(matrix)[None], (7, 13))
    np.testing.assert_allclose(found[0].numpy(), warp(image, matrix, (7, 13)), atol=1e-9)


def test_identity_and_flip_do_not_blur():
    image = torch.rand(1, 3, 9, 11)
    assert torch.allclose(geometry.warp(image, torch.eye(3)[None], (9, 11)), image, atol=1e-5)
    flip = geometry.horizontal_flip(11, torch.tensor([True]))
    assert torch.allclose(geometry.warp(image, flip, (9, 11)), image.flip(-1), atol=1e-5)


@given(st.lists(views, min_size=1, max_size=4), st.integers(0, 2**31))
def test_chain_of_views_is_undone_by_its_inverse(chain, seed):
    joints = torch.from_numpy(np.random.default_rng(seed).uniform(-20, 220, (1, 17, 2))).float()
    moved, matrix = joints, torch.eye(3)[None]
    for degrees, scale, flipped in chain:
        step = geometry.similarity((H, W), one(degrees), one(scale), one(flipped, torch.bool))
        flag = one(flipped, torch.bool)
        moved = geometry.flip_joints(geometry.transform_points(step, moved), flag, COCO.flip_order)
        matrix = step @ matrix
    back = geometry.transform_points(torch.linalg.inv(matrix), moved)
    odd = torch.tensor([sum(f for *_, f in chain) % 2 == 1])
    torch.testing.assert_close(geometry.flip_joints(back, odd, COCO.flip_order), joints, atol=2e-2, rtol=0)


def test_flip_twice_is_identity():
    joints, weights, flag = torch.rand(5, 14, 2), torch.rand(5, 14), torch.tensor([1, 0, 1, 1, 0]).bool()
    twice = geometry.flip_joints(geometry.flip_joints(joints, flag, LSP.flip_order), flag, LSP.flip_order)
    assert torch.equal(twice, joints)
    swapped = geometry.flip_weights(weights, flag, LSP.flip_order)
    left, right = LSP.index("left_knee"), LSP.index("right_knee")
    assert swapped[0, left] == weights[0, right]
    assert torch.equal(swapped[1], weights[1])


@pytest.mark.parametrize("flip", [False, True])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_warped_heatmaps_decode_to_the_warped_joints(flip, seed):
    """Flips, ±60°, scales 0.6 to 1.4, not square: median error below 0.2 px away from the border."""
    draw = np.random.default_rng(seed)
    n = 8
    joints = torch.from_numpy(draw.uniform((24, 24), (W - 25, H - 25), (n, 17, 2))).float()
    maps, _ = encode(joints, torch.ones(n, 17), (H // STRIDE, W // STRIDE), 2.0, STRIDE)
    flipped = torch.full((n,), flip)
    degrees = torch.from_numpy(draw.uniform(-60, 60, n)).float()
    matrix = geometry.similarity((H, W), degrees, torch.from_numpy(draw.uniform(0.6, 1.4, n)).float(), flipped)
    warped, seen = geometry.warp_heatmaps(maps, matrix, STRIDE, flipped, COCO.flip_order)
    expected = geometry.flip_joints(geometry.transform_points(matrix, joints), flipped, COCO.flip_order)
    found, _ = decode(warped, STRIDE, "dark")
    inside = ((expected > 24) & (expected < torch.tensor([W - 25, H - 25]))).all(dim=2)
    error = (found - expected).norm(dim=2)[inside]
    assert error.median() < 0.2
    assert error.quantile(0.95) < 1.0
    assert seen.shape == (n, 1, H // STRIDE, W // STRIDE)


def test_seen_mask():
    """A cell is seen where its position in the first view lies within -0.5 … size - 0.5 cells."""
    matrix = similarity((32, 24), 30.0, 1.2, False)
    _, seen = geometry.warp_heatmaps(torch.rand(1, 2, 8, 6), torch.from_numpy(matrix).float()[None], STRIDE)
    to_cells = np.array([[1 / 4, 0, 0.5 / 4 - 0.5], [0, 1 / 4, 0.5 / 4 - 0.5], [0, 0, 1]])
    inverse = np.linalg.inv(to_cells @ matrix @ np.linalg.inv(to_cells))
    for row in range(8):
        for column in range(6):
            x, y, _ = inverse @ (column, row, 1)
            assert seen[0, 0, row, column] == (-0.5 <= x <= 5.5 and -0.5 <= y <= 7.5)


def test_warping_flipped_heatmaps_needs_the_flip_order():
    with pytest.raises(ValueError, match="flip_order"):
        geometry.warp_heatmaps(torch.rand(1, 2, 8, 6), torch.eye(3)[None], STRIDE, torch.tensor([True]))
