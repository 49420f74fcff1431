"""torch.compile for the networks of a method, used only in optimizer steps, where shapes never change."""

import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from semipose.models.pose_net import PoseNet


def compile_networks(method: nn.Module, *, cuda_graphs: bool = False) -> None:
    """Compiles backbone and heads of every network in place; equal networks share the compiled code.

    Args:
        method: The method with the networks.
        cuda_graphs: Whether a GPU replays each part as one graph; then `begin_step` must be called before each step.
    """
    _allow_recompilations(64)
    mode = "reduce-overhead" if cuda_graphs else None
    for network in method.modules():
        if isinstance(network, PoseNet):
            for part in (network.backbone, *network.heads):
                part.compile(dynamic=False, mode=mode)


def _allow_recompilations(count: int) -> None:
    """Raises torch's limit of 8 compiled variants per function, which all networks share.

    Each network needs several variants: with and without gradient, in training and evaluation mode. Beyond the limit
    torch falls back to uncompiled code. torch.compile has a parameter for the limit only in versions after 2.11.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, count)


def begin_step() -> None:
    """Marks the outputs of the previous step's CUDA graphs as no longer needed."""
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def uncompiled() -> AbstractContextManager[object]:
    """Returns a context in which compiled networks run uncompiled.

    It is for passes outside optimizer steps. Their last batches have other sizes; compiling each size would take a
    minute, and each would count toward the limit of variants.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and the import would take seconds
        return nullcontext()
    eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager
