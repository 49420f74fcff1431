"""torch.compile for the networks of a method: in steps, whose shapes stay the same, and nowhere else."""

import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from semipose.models.pose_net import PoseNet


def compile_networks(method: nn.Module, *, cuda_graphs: bool = False) -> None:
    """Compiles the parts of every network; networks of one architecture share the compiled code.

    With `cuda_graphs` a GPU replays each part as one graph; whoever takes steps calls `begin_step` before each.
    """
    # Counted for all networks together, and each adds passes with and without gradient, in both modes.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    mode = "reduce-overhead" if cuda_graphs else None
    for network in method.modules():
        if isinstance(network, PoseNet):
            for part in (network.backbone, *network.heads):
                part.compile(dynamic=False, mode=mode)


def begin_step() -> None:
    """What CUDA graphs gave in the step before is no longer needed; their memory serves this step."""
    torch.compiler.cudagraph_mark_step_begin()


def uncompiled() -> AbstractContextManager[object]:
    """Within it, compiled networks run as they were written.

    For passes outside of steps, whose last batches have sizes of their own: each size would be compiled for a minute,
    and after eight torch compiles nothing new for these networks, what steps need later included.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
