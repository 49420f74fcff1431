"""torch.compile for the networks of a method, used only in optimizer steps, where shapes never change."""

import math
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from semipose.models.pose_net import PoseNet

COMPILATION_SECONDS = 60
"""Duration of the compilation, twice that of a Dual step of ResNet-18 on an H200 (docs/research/speed.md)."""
SAVED_SECONDS = (32 / 955 - 32 / 1528) / 7
"""What compiled CUDA graphs save of a step per pass of its cost (`Cost.units`): a step of `pseudopose` with ResNet-18
and 32 + 32 persons, which costs 7, on an H200 (docs/research/speed.md). Of the methods whose two kinds of steps were
measured in turns it saves least."""


@dataclass(frozen=True)
class CompilationPlan:
    """Whether the networks of a training are compiled.

    Attributes:
        compiled: Whether they are compiled.
        cuda_graphs: Whether a GPU replays them as CUDA graphs.
        reason: The decision in one line; empty if there was nothing to decide.
    """

    compiled: bool
    cuda_graphs: bool = False
    reason: str = ""


def plan_compilation(
    option: bool | Literal["auto"], device: torch.device, *, steps: int, units: int, parts: int, processes: int
) -> CompilationPlan:
    """Returns whether the networks of a training are compiled.

    Args:
        option: `train.compile`.
        device: The device of the training.
        steps: Number of its steps.
        units: Cost of a step in forward passes (`Cost.units`).
        parts: Number of parts in which a step computes its batch.
        processes: Number of processes.
    """
    if device.type != "cuda" or not option:
        return CompilationPlan(option is True)
    missing = "one process" if processes > 1 else "`train.accumulate` 1" if parts > 1 else ""
    if option is True:
        without = f", without CUDA graphs, which need {missing}" if missing else " to CUDA graphs"
        return CompilationPlan(True, not missing, f"networks are compiled{without}")
    if missing:
        return CompilationPlan(False, False, f"networks are not compiled: CUDA graphs need {missing}")
    enough = math.ceil(COMPILATION_SECONDS / (SAVED_SECONDS * units))
    if steps < enough:
        reason = f"networks are not compiled: {steps} steps would save less time than that takes ({enough} would not)"
        return CompilationPlan(False, False, reason)
    return CompilationPlan(True, True, f"networks are compiled to CUDA graphs: {steps} steps save more than that takes")


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


def uncompile_networks(method: nn.Module) -> None:
    """Undoes `compile_networks`, and frees what torch has compiled."""
    for network in method.modules():
        if isinstance(network, PoseNet):
            for part in (network.backbone, *network.heads):
                part._compiled_call_impl = None  # torch has no public function for this
    torch.compiler.reset()


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
