"""BatchNorm over the batches of all processes, for any BatchNorm layer of a network and on any device."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronize(network: nn.Module) -> None:
    """Every BatchNorm of `network` takes mean and variance over the batches of all processes when in training mode.

    Names, weights and averages stay. All processes must pass batches of one size, in one order. PyTorch's own
    SyncBatchNorm needs GPUs and drops the activation inside timm's layers.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = type(f"Synchronized{type(module).__name__}", (_Synchronized, type(module)), {})


class _Synchronized:
    """The forward pass that a synchronized BatchNorm has in place of its class's own."""

    def forward(self: Any, images: Tensor) -> Tensor:
        """(B, C, …) normalized; timm's layers then apply what they hold besides the norm."""
        if not self.training:
            return super().forward(images)  # type: ignore[misc]
        axes, shape = (0, *range(2, images.dim())), (1, -1, *[1] * (images.dim() - 2))
        values = images.float()
        variance, mean = torch.var_mean(values, axes, correction=0)
        # The variance of all is the mean of the variances and the variance of the means; the latter is taken about a
        # point near them, which all processes share, so that large means do not cancel it.
        center = self.running_mean.clone()
        shared = _over_processes(torch.stack([mean - center, variance + (mean - center).square()]))
        shift, variance = shared[0], (shared[1] - shared[0].square()).clamp_min(0)
        count = distributed.get_world_size() * values.numel() // len(mean)
        _follow(self, (center + shift).detach(), variance.detach() * count / max(1, count - 1))
        normalized = (values - (center + shift).view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalized = normalized * self.weight.float().view(shape) + self.bias.float().view(shape)
        normalized = normalized.to(images.dtype)
        for part in ("drop", "act"):
            normalized = getattr(self, part, nn.Identity())(normalized)
        return normalized


@torch.no_grad()
def _follow(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """The running averages take a step toward the batch's statistics, as in BatchNorm."""
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


@torch.compiler.disable
def _over_processes(values: Tensor) -> Tensor:
    """Mean over processes, whose gradient is the mean of their gradients."""
    return _Sum.apply(values) / distributed.get_world_size()


class _Sum(torch.autograd.Function):
    """Sum over processes; every process's result depends on all inputs, so gradients are added up as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
