"""DeconvHead: shapes, layers and initialization."""

import numpy as np
import pytest
import torch
from torch import nn

from semipose.models.heads import HEADS, STRIDE, DeconvHead, SimpleHead


@pytest.mark.parametrize(("reduction", "count"), [(4, 0), (8, 1), (16, 2), (32, 3), (64, 4)])
def test_output_is_a_quarter_of_the_input(reduction, count):
    head = DeconvHead(6, reduction, joints=5, channels=7)
    deconvolutions = [m for m in head.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(deconvolutions) == count
    assert sum(isinstance(m, nn.BatchNorm2d) for m in head.modules()) == count
    assert sum(isinstance(m, nn.ReLU) for m in head.modules()) == count
    height, width = 128, 64
    features = torch.randn(2, 6, height // reduction, width // reduction)
    assert head(features).shape == (2, 5, height // STRIDE, width // STRIDE)


def test_layers_are_those_of_the_paper():
    head = DeconvHead(512, 32, joints=17)
    for i, layer in enumerate(m for m in head.modules() if isinstance(m, nn.ConvTranspose2d)):
        assert (layer.in_channels, layer.out_channels) == (512 if i == 0 else 256, 256)
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
        assert layer.bias is None
    assert (head.final.in_channels, head.final.out_channels, head.final.kernel_size) == (256, 17, (1, 1))
    parameters = 16 * 256 * (512 + 256 + 256) + 3 * 2 * 256 + 256 * 17 + 17
    assert sum(p.numel() for p in head.parameters()) == parameters


def test_initial_weights_are_small():
    torch.manual_seed(0)
    head = DeconvHead(64, 32, joints=17)
    for module in head.modules():
        if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
            assert float(module.weight.detach().std()) == pytest.approx(1e-3, rel=0.05)
    assert torch.count_nonzero(head.final.bias) == 0
    assert head(torch.randn(2, 64, 4, 4)).abs().max() < 0.2


def test_one_deconvolution_against_loops():
    """y[2i + a - 1] sums x[i] w[a] for a in 0..3 on both axes; BatchNorm over the batch, ReLU, 1×1 convolution."""
    torch.manual_seed(0)
    head = DeconvHead(2, 8, joints=3, channels=4).double()
    nn.init.normal_(head.deconvolutions[0].weight)
    nn.init.normal_(head.final.weight)
    nn.init.normal_(head.final.bias)
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64)
    w, final = head.deconvolutions[0].weight.detach().numpy(), head.final.weight.detach().numpy()[:, :, 0, 0]
    y = np.zeros((2, 4, 6 + 2, 4 + 2))  # one cell of padding on each side, cut off below
    for i in range(3):
        for j in range(2):
            for a in range(4):
                for b in range(4):
                    y[:, :, 2 * i + a, 2 * j + b] += x.numpy()[:, :, i, j] @ w[:, :, a, b]
    y = y[:, :, 1:-1, 1:-1]
    mean, variance = y.mean(axis=(0, 2, 3), keepdims=True), y.var(axis=(0, 2, 3), keepdims=True)
    y = np.maximum((y - mean) / np.sqrt(variance + 1e-5), 0)
    expected = np.einsum("kc,bchw->bkhw", final, y) + head.final.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(head(x).detach().numpy(), expected, atol=1e-10)


def bilinear(image, factor):
    """Enlarges (h, w) by an integer factor; pixel i of the result lies at (i + .5) / factor - .5 of the image."""
    for axis in (0, 1):
        length = image.shape[axis]
        at = np.clip((np.arange(length * factor) + 0.5) / factor - 0.5, 0, length - 1)
        low = np.minimum(at.astype(int), length - 1)
        high, share = np.minimum(low + 1, length - 1), at - low
        shape = (-1, 1) if axis == 0 else (1, -1)
        share = share.reshape(shape)
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image


@pytest.mark.parametrize("reduction", [4, 16, 32])
def test_the_simple_head_against_loops(reduction):
    """ReLU, bilinear enlargement to stride 4, 3×3 convolution (Xu et al., section 3.2)."""
    torch.manual_seed(0)
    head, factor = SimpleHead(2, reduction, joints=3).double(), reduction // 4
    nn.init.normal_(head.final.weight)
    nn.init.normal_(head.final.bias)
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64)
    large = np.stack([bilinear(np.maximum(channel, 0), factor) for channel in x[0].numpy()])
    padded = np.pad(large, ((0, 0), (1, 1), (1, 1)))
    weight, bias = head.final.weight.detach().numpy(), head.final.bias.detach().numpy()
    expected = np.zeros((3, 3 * factor, 2 * factor))
    for i in range(3 * factor):
        for j in range(2 * factor):
            expected[:, i, j] = np.einsum("kcab,cab->k", weight, padded[:, i : i + 3, j : j + 3]) + bias
    np.testing.assert_allclose(head(x)[0].detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("head", HEADS.values())
@pytest.mark.parametrize("reduction", [1, 2, 3, 12, 24])
def test_other_strides_raise(reduction, head):
    with pytest.raises(ValueError, match=f"not {reduction}"):
        head(8, reduction, joints=5)
