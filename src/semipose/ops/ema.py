"""Exponential moving averages of networks, and contexts for networks that produce targets."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """Returns a copy of the network, buffers included, that takes no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def ema_update(average: nn.Module, source: nn.Module, momentum: float) -> None:
    """Updates average ← momentum * average + (1 - momentum) * source in place.

    Floating-point buffers (BatchNorm's running mean and variance) are averaged like weights, so that they match
    the averaged weights; other buffers (counters) are copied.

    Args:
        average: The network that is updated.
        source: A network of the same architecture.
        momentum: Weight of the old average, in [0, 1].

    Raises:
        ValueError: If the two networks differ in architecture.

    Reference: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017; TRS, eq. 7.
    """
    averages, sources = _named_tensors(average), _named_tensors(source)
    if averages.keys() != sources.keys():
        raise ValueError("ema_update: `average` and `source` differ in architecture")
    floating = [name for name, tensor in averages.items() if tensor.is_floating_point()]
    counters = [name for name, tensor in averages.items() if not tensor.is_floating_point()]
    get_ema_multi_avg_fn(momentum)([averages[n] for n in floating], [sources[n] for n in floating], 0)
    if counters:
        # One GPU kernel instead of one per BatchNorm layer (300 in an HRNet). PyTorch has no public function for this.
        torch._foreach_copy_([averages[n] for n in counters], [sources[n] for n in counters])


def _named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Returns weights and buffers by name."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


@contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Sets the network to training or evaluation mode within the block."""
    before = network.training
    if before != training:  # `train` visits every layer, which takes a millisecond
        network.train(training)
    try:
        yield
    finally:
        if before != training:
            network.train(before)


@contextmanager
def frozen_bn_stats(network: nn.Module) -> Iterator[None]:
    """Keeps BatchNorm's running averages unchanged within the block, in training and evaluation mode."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def warmup_momentum(momentum: float, step: int) -> float:
    """Returns min(momentum, (1 + step) / (10 + step)): early averages forget the initial weights quickly."""
    return min(momentum, (1 + step) / (10 + step))
