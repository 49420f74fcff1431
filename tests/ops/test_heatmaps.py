"""Heatmaps against slow NumPy float64 references, and the error bounds stated for the decoders."""

import numpy as np
import pytest
import torch

from semipose.ops.heatmaps import decode, encode, local_maxima, peaks

SIZE, STRIDE = (32, 24), 4


def gaussian(x, y, sigma):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def test_encode():
    draw = np.random.default_rng(0)
    joints = draw.uniform(-10, 140, (3, 5, 2))
    weights = (draw.random((3, 5)) > 0.2).astype(float)
    maps, left = encode(torch.from_numpy(joints), torch.from_numpy(weights), SIZE, 1.7, STRIDE)
    for b in range(3):
        for k in range(5):
            x, y = (joints[b, k] + 0.5) / STRIDE - 0.5
            inside = -0.5 <= x <= SIZE[1] - 0.5 and -0.5 <= y <= SIZE[0] - 0.5
            assert left[b, k] == weights[b, k] * inside
            expected = gaussian(x, y, 1.7) if left[b, k] else np.zeros(SIZE)
            np.testing.assert_allclose(maps[b, k].numpy(), expected, atol=1e-12)


def random_joints(count, margin, seed=0):
    """Positions in input pixels at least `margin` cells inside the map."""
    draw = np.random.default_rng(seed).random((1, count, 2))
    cells = margin + draw * (np.array([SIZE[1], SIZE[0]]) - 1 - 2 * margin)
    return torch.from_numpy((cells + 0.5) * STRIDE - 0.5).float()


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_dark_is_exact_away_from_the_border(sigma):
    joints = random_joints(300, 2 * sigma + 2)
    maps, _ = encode(joints, torch.ones(1, 300), SIZE, sigma, STRIDE)
    found, scores = decode(maps, STRIDE, "dark", sigma)
    limit = 0.02 if sigma <= 2 else 0.2
    assert (found - joints).abs().max() / STRIDE < limit
    assert scores.min() > 0.75


def test_quarter_offset():
    joints = random_joints(300, 2)
    maps, _ = encode(joints, torch.ones(1, 300), SIZE, 2.0, STRIDE)
    found, scores = decode(maps, STRIDE, "quarter")
    assert (found - joints).abs().max() / STRIDE < 0.2501
    for k in range(300):
        grid = maps[0, k].double().numpy()
        y, x = np.unravel_index(grid.argmax(), grid.shape)
        x_shift = 0.25 * np.sign(grid[y, x + 1] - grid[y, x - 1])
        y_shift = 0.25 * np.sign(grid[y + 1, x] - grid[y - 1, x])
        expected = (np.array([x + x_shift, y + y_shift]) + 0.5) * STRIDE - 0.5
        np.testing.assert_allclose(found[0, k].numpy(), expected, atol=1e-4)
        assert scores[0, k] == pytest.approx(grid.max())


@pytest.mark.parametrize("decoder", ["quarter", "dark"])
def test_border_and_flat_maps(decoder):
    """No offset at the border or on a flat map, and never more than a cell."""
    maps = torch.zeros(1, 3, *SIZE)
    maps[0, 0, 0, 0] = maps[0, 1, SIZE[0] - 1, SIZE[1] - 1] = 1.0
    found, scores = decode(maps, STRIDE, decoder)
    corners = torch.tensor([[1.5, 1.5], [SIZE[1] * STRIDE - 2.5, SIZE[0] * STRIDE - 2.5], [1.5, 1.5]])
    assert torch.equal(found[0], corners)
    assert scores.tolist() == [[1.0, 1.0, 0.0]]
    noise = torch.rand(4, 5, *SIZE)
    cells, _ = peaks(noise)
    moved, _ = decode(noise, STRIDE, decoder)
    assert ((moved + 0.5) / STRIDE - 0.5 - cells).abs().max() <= 1.0001


def test_peaks():
    maps = torch.rand(2, 3, *SIZE)
    cells, values = peaks(maps)
    for b in range(2):
        for k in range(3):
            y, x = np.unravel_index(maps[b, k].numpy().argmax(), SIZE)
            assert cells[b, k].tolist() == [x, y]
            assert values[b, k] == maps[b, k].max()


def test_local_maxima_are_those_of_loops():
    maps = torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points, values = local_maxima(maps, 40, 4)
    for b, grid in enumerate(maps.numpy()):
        expected = []
        for y in range(7):
            for x in range(9):
                if grid[y, x] < grid[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max():
                    continue
                inside = 0 < x < 8 and 0 < y < 6
                dx = 0.25 * np.sign(grid[y, x + 1] - grid[y, x - 1]) if inside else 0
                dy = 0.25 * np.sign(grid[y + 1, x] - grid[y - 1, x]) if inside else 0
                expected.append((grid[y, x], 4 * (x + dx + 0.5) - 0.5, 4 * (y + dy + 0.5) - 0.5))
        expected.sort(reverse=True)
        n = len(expected)
        np.testing.assert_allclose(values[b, :n], [e[0] for e in expected])
        np.testing.assert_allclose(points[b, :n], [e[1:] for e in expected])
        assert not values[b, n:].any()


def test_local_maxima_keep_values_that_are_not_finite():
    """A network that overflows in 16 bit is found out by them."""
    assert local_maxima(torch.full((1, 4, 4), torch.nan), 2, 4)[1].isnan().all()
