"""Networks that teach: frozen copies and exponential moving averages, buffers included."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A copy of the same weights and buffers that takes no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def ema_update(average: nn.Module, source: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * source (TRS eq. 7), in place.

    Floating-point buffers (BatchNorm's running mean and variance) are averaged like weights, so that the average's
    statistics belong to its weights; counters are copied. Raises ValueError when the two networks differ.
    """
    names, into = zip(*_tensors(average), strict=True)
    others, of = zip(*_tensors(source), strict=True)
    if names != others:
        raise ValueError("ema_update needs two networks of the same architecture")
    pairs = list(zip(into, of, strict=True))
    floating = [pair for pair in pairs if pair[0].is_floating_point()]
    counters = [pair for pair in pairs if not pair[0].is_floating_point()]
    torch._foreach_lerp_([into for into, _ in floating], [of for _, of in floating], 1 - momentum)
    if counters:
        torch._foreach_copy_([into for into, _ in counters], [of for _, of in counters])


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers with the names they have in their layers: much faster than a state_dict."""
    for part in network.modules():
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                yield name, tensor


@contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Within the block the network is in training mode, or in evaluation mode."""
    before = network.training
    if before != training:  # going through all layers takes a millisecond
        network.train(training)
    try:
        yield
    finally:
        if before != training:
            network.train(before)


@contextmanager
def frozen_bn_stats(network: nn.Module) -> Iterator[None]:
    """Within the block, passes in training mode leave BatchNorm's running averages as they are."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def warmup_momentum(momentum: float, step: int) -> float:
    """Momentum that starts low, so that an average forgets its blank beginning: min(m, (1 + t) / (10 + t))."""
    return min(momentum, (1 + step) / (10 + step))
