"""Moving averages of weights and buffers, and frozen BatchNorm statistics."""

import numpy as np
import pytest
import torch
from torch import nn

from semipose.ops.ema import ema_update, frozen_bn_stats, frozen_copy, warmup_momentum


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_weights_and_statistics_are_averaged_and_counters_copied():
    torch.manual_seed(0)
    average, source = network(), network()
    source(torch.randn(2, 3, 8, 8))
    before = {n: t.clone().double().numpy() for n, t in average.state_dict().items()}
    ema_update(average, source, 0.9)
    for name, tensor in average.state_dict().items():
        theirs = source.state_dict()[name].double().numpy()
        if name.endswith("num_batches_tracked"):
            assert tensor == 1
        else:
            np.testing.assert_allclose(tensor.double().numpy(), 0.9 * before[name] + 0.1 * theirs, atol=1e-6)


def test_frozen_copy_takes_no_gradient_and_shares_nothing():
    source = network()
    copy = frozen_copy(source)
    assert not any(p.requires_grad for p in copy.parameters())
    with torch.no_grad():
        source[0].weight.zero_()
    assert copy[0].weight.abs().sum() > 0


def test_networks_of_different_architecture_raise():
    with pytest.raises(ValueError, match="architecture"):
        ema_update(network(), nn.Conv2d(3, 4, 3), 0.9)


def test_momentum_warms_up():
    assert warmup_momentum(0.99, 0) == pytest.approx(0.1)
    assert warmup_momentum(0.99, 90) == pytest.approx(0.91)
    assert warmup_momentum(0.99, 10**6) == 0.99


def test_frozen_bn_stats_keeps_running_averages_and_restores_momentum():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None))
    images = torch.randn(4, 3, 8, 8)
    network(images)
    before = {n: b.clone() for n, b in network.named_buffers() if b.is_floating_point()}
    plain = network(5 * images)
    assert not torch.equal(before["1.running_mean"], network[1].running_mean)
    network.load_state_dict(before, strict=False)
    with pytest.raises(RuntimeError, match="inside"), frozen_bn_stats(network):
        torch.testing.assert_close(network(5 * images), plain)  # normalized with the batch's statistics as before
        raise RuntimeError("inside")
    for name, buffer in network.named_buffers():
        if name in before:
            assert torch.equal(before[name], buffer)
    assert (network[1].momentum, network[2].momentum) == (0.1, None)
