"""Training in several processes, which torchrun starts and torch.distributed connects."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from semipose.errors import ConfigError, RunError
from semipose.training.signals import InterruptedTrainingError
from semipose.utils.device import resolve_device

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)
"""Longest time that a process waits for another one before it ends with an error."""


class LostProcessError(RunError):
    """Raised when another process of this training ended; the run can be resumed from its last checkpoint."""

    def __init__(self) -> None:
        super().__init__("another process of this training ended; resume the run from its last checkpoint")


@dataclass(frozen=True)
class Launch:
    """The rank of this process and the number of processes, on all machines and on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


def launch() -> Launch:
    """Returns the launch that torchrun's environment variables describe; without them, that of a single process.

    Raises:
        ConfigError: If some of the variables are missing.
    """
    if "LOCAL_RANK" not in os.environ:
        return Launch()
    try:
        return Launch(*(int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    except (KeyError, ValueError) as error:
        raise ConfigError(f"LOCAL_RANK is set, but not as torchrun sets it ({error}); start with torchrun") from None


def rank() -> int:
    """Returns the rank of this process."""
    return launch().rank


def world_size() -> int:
    """Returns the number of processes."""
    return launch().world_size


def is_main_process() -> bool:
    """Returns whether this process writes files and messages."""
    return rank() == 0


def requested_processes(device: str, devices: int) -> int:
    """Returns the number of processes on this machine that `train.device` and `train.devices` request.

    Raises:
        ConfigError: If there are fewer GPUs.
    """
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    processes = devices or max(1, gpus)
    if processes > 1 and ":" in device:
        raise ConfigError(f"`train.device`: {device} is one GPU, `train.devices` asks for {processes}; write cuda")
    if processes > 1 and (device == "cuda" or gpus) and processes > gpus:
        raise ConfigError(f"`train.devices`: {processes} requested, this machine has {gpus} GPUs; 0 uses all")
    return processes


def process_device(device: str, devices: int) -> torch.device:
    """Returns the device of this process; under torchrun each process of a machine has its own GPU.

    Raises:
        ConfigError: If the device does not exist, or the number of processes is not the requested one.
    """
    here = launch()
    if devices not in (0, 1, here.local_world_size):
        raise ConfigError(
            f"`train.devices`: {devices} processes requested, {here.local_world_size} started; start with torchrun"
        )
    place = resolve_device(device, "train.device")
    if place.type != "cuda" or here.world_size == 1:
        return place
    requested_processes(device, here.local_world_size)
    return torch.device("cuda", here.local_rank)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connects the processes within the block: by gloo for tensors on CPUs, by NCCL for tensors on GPUs.

    Raises:
        LostProcessError: If the connection to another process breaks.
    """
    if world_size() == 1:
        yield
        return
    try:
        _connect("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "NCCL")):
            raise LostProcessError from None
        raise
    finally:
        # After a failure NCCL would wait for processes that never answer. A signal ends all processes at the same step.
        failed = sys.exception() is not None and not isinstance(sys.exception(), InterruptedTrainingError)
        if dist.is_initialized() and not (failed and device.type == "cuda"):
            dist.destroy_process_group()


def _connect(backend: str) -> None:
    """Joins the default process group.

    torchrun's store outlives a group and keeps the addresses of its processes. Each group therefore uses its own key
    prefix, numbered by a counter in the store, so that a second training in the same processes does not read the
    addresses of the first.
    """
    store, number, count = next(rendezvous("env://", timeout=TIMEOUT))
    groups = store.add(f"semipose/{number}", 1)
    store = dist.PrefixStore(f"semipose/group {groups}", store)  # type: ignore[attr-defined, unused-ignore]
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)


def all_mean(value: Tensor) -> Tensor:
    """Returns the mean of a tensor over all processes."""
    if world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world_size()


def all_max(number: int) -> int:
    """Returns the maximum over all processes; it is exchanged between CPUs and never waits for a GPU."""
    if world_size() == 1:
        return number
    largest = torch.tensor([number])
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def all_gather(value: Value) -> list[Value]:
    """Returns the object of every process, by rank."""
    values: list[Value] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Waits for all processes."""
    all_max(0)
