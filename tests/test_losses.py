"""Losses against slow NumPy float64 references."""

import numpy as np
import pytest
import torch

from semipose.losses import LOSSES, HeatmapMSE, LossConfig, SpatialCrossEntropy
from semipose.ops import geometry

SHAPE = (3, 2, 4, 8, 6)


@pytest.fixture
def numbers():
    draw = np.random.default_rng(0)
    outputs, targets = draw.normal(size=SHAPE), draw.random((3, 4, 8, 6))
    return outputs, targets, draw.random((3, 4)), draw.random((3, 1, 8, 6)) > 0.3


def tensors(numbers):
    return [torch.from_numpy(n) for n in numbers]


@pytest.mark.parametrize("masked", [False, True])
def test_mse(numbers, masked):
    outputs, targets, weights, seen = numbers
    total = 0.0
    for level in range(2):
        terms = []
        for b in range(3):
            for k in range(4):
                for y in range(8):
                    for x in range(6):
                        counts = seen[b, 0, y, x] if masked else True
                        terms.append(counts * weights[b, k] * (outputs[b, level, k, y, x] - targets[b, k, y, x]) ** 2)
        total += 0.5 * np.mean(terms)
    o, t, w, s = tensors(numbers)
    assert HeatmapMSE(2.0)(o, t, w, s if masked else None).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_cross_entropy(numbers, masked):
    outputs, targets, weights, seen = numbers
    sigma, total = 1.3, 0.0
    for level in range(2):
        terms = []
        for b in range(3):
            for k in range(4):
                keep = seen[b, 0] if masked else np.ones((8, 6), bool)
                logits = outputs[b, level, k][keep]
                log_p = logits - np.log(np.exp(logits).sum())
                terms.append(-weights[b, k] * (targets[b, k][keep] / (2 * np.pi * sigma**2) * log_p).sum())
        total += np.mean(terms)
    o, t, w, s = tensors(numbers)
    found = SpatialCrossEntropy(sigma)(o, t, w, s if masked else None)
    assert found.item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("kind", LOSSES)
def test_no_gradient_in_unseen_cells_and_for_joints_of_weight_zero(numbers, kind):
    o, t, w, s = tensors(numbers)
    w[1, 2] = 0
    o.requires_grad_()
    LossConfig(kind=kind).build()(o, t, w, s).backward()
    assert (o.grad[(~s).unsqueeze(1).expand(SHAPE)] == 0).all()
    assert (o.grad[1, :, 2] == 0).all()
    assert (o.grad[0] != 0).any()


def test_heatmaps_of_a_certain_network_have_peak_one():
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(24.0), indexing="ij")
    target = torch.exp(-((rows - 15) ** 2 + (columns - 11) ** 2) / (2 * 2.0**2))[None, None]
    maps = SpatialCrossEntropy(2.0).heatmaps(target.clamp_min(1e-30).log())
    torch.testing.assert_close(maps, target, atol=2e-3, rtol=0)
    assert torch.equal(HeatmapMSE(2.0).heatmaps(target), target)


@pytest.mark.parametrize(("kind", "power"), [("mse", 2), ("cross_entropy", 0)])
def test_mass_of_warped_targets(kind, power):
    """Cross-entropy needs targets of the same mass at every zoom; regression keeps their height."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    target = torch.exp(-((rows - 23.5) ** 2 + (columns - 23.5) ** 2) / (2 * 2.0**2))[None, None].expand(3, -1, -1, -1)
    zoom = torch.tensor([0.8, 1.0, 1.3])
    matrices = geometry.similarity(
        (192, 192), torch.tensor([0.0, 30.0, 70.0]), zoom, torch.tensor([False, True, False])
    )
    warped, _ = geometry.warp_heatmaps(target, matrices, 4)
    mass = LossConfig(kind=kind).build().warped_targets(warped, matrices).sum(dim=(1, 2, 3))
    torch.testing.assert_close(mass, zoom**power * 2 * torch.pi * 2.0**2, rtol=0.01, atol=0)


def test_unknown_loss_raises():
    with pytest.raises(ValueError, match="cross_entropy"):
        LossConfig(kind="l1")
