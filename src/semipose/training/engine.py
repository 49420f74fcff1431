"""The only file that imports the distribution engine: devices, precision, processes."""

import atexit
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities import distributed as fabric_distributed
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from semipose.errors import ConfigError
from semipose.models.synchronized import synchronize
from semipose.training.compile import begin_step, uncompiled
from semipose.training.distributed import Plan
from semipose.training.precision import gpu_precision

__all__ = ["Engine", "Fabric", "make_engine", "start_fabric"]

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # a run says itself where it runs

LONGEST_STALL = timedelta(minutes=5)
"""GPUs that wait longer for each other than this within a step end the run; hosts wait for each other half an hour."""


@dataclass
class Engine:
    """A method and its optimizer, placed on devices, with everything its processes do together.

    `forward` computes the method's losses and shares gradients; `hosts` joins the processes without their devices, so
    that agreeing on something never waits for a GPU. With `synchronized` BatchNorm there are no averages to share. With
    `cuda_graphs` the networks' passes are replayed by the GPU.
    """

    fabric: Fabric
    method: Any
    optimizer: Any
    forward: nn.Module
    hosts: Any = None
    synchronized: bool = False
    cuda_graphs: bool = False

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.fabric.global_rank

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.fabric.world_size

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.fabric.is_global_zero

    def losses(self, *arguments: Any) -> Any:
        """The method's losses, under the precision's autocast and with gradients shared between processes."""
        if self.cuda_graphs:
            begin_step()
        with self.fabric.autocast():
            return self.forward(*arguments)

    def step(self, total: Tensor, clip: float | None) -> Tensor:
        """Backward, clipping and one optimizer step, which is left out where loss or gradient are not finite.

        Returns whether the step was taken, as a tensor on the device: nothing waits for it, and all processes decide
        alike. A fused optimizer decides on the device, any other makes this process wait.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        parameters = [p for group in inner.param_groups for p in group["params"] if p.grad is not None]
        if clip:
            if self.scaler:
                self.scaler.unscale_(inner)
            norm = nn.utils.clip_grad_norm_(parameters, clip)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters])
        taken = torch.isfinite(norm) & self._agreed(torch.isfinite(total.detach()))
        if self.scaler:
            self.optimizer.step()  # the scaler looks itself
        elif inner.defaults.get("fused"):
            inner.grad_scale, inner.found_inf = None, (~taken).float()
            self.optimizer.step()
        elif bool(taken):
            self.optimizer.step()
        return taken

    def _agreed(self, finite: Tensor) -> Tensor:
        """Whether every process found its loss finite; in the same message BatchNorm's averages become everybody's.

        Moving averages that follow afterwards are then the same in all processes.
        """
        if self.world == 1:
            return finite
        averages = [] if self.synchronized else [b for b in self.method.buffers() if b.is_floating_point()]
        shared = torch.cat([finite.float().view(1), *(b.float().flatten() for b in averages)])
        distributed.all_reduce(shared)
        shared /= self.world
        agreed, *parts = shared.split([1, *(b.numel() for b in averages)])
        if averages:
            torch._foreach_copy_(averages, [part.view_as(b) for part, b in zip(parts, averages, strict=True)])
        return agreed[0] == 1

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What scales gradients in fp16 (16-mixed), with a state of its own; None in every other precision."""
        return getattr(self.fabric._precision, "scaler", None)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """For passes outside of steps: the precision of training, networks as they were written."""
        with uncompiled(), self.fabric.autocast():
            yield

    def mean(self, value: Tensor) -> Tensor:
        """Mean over processes."""
        if self.world == 1:
            return value
        shared = value.clone()
        distributed.all_reduce(shared)
        return shared / self.world

    def highest(self, number: int) -> int:
        """The highest `number` of all processes; whoever calls it waits for the others."""
        if self.world == 1:
            return number
        shared = torch.tensor([number])
        distributed.all_reduce(shared, distributed.ReduceOp.MAX, group=self.hosts)
        return int(shared)

    def gather(self, value: Any) -> list[Any]:
        """The `value` of every process, in their order."""
        found: list[Any] = [value] * self.world
        if self.world > 1:
            distributed.all_gather_object(found, value, group=self.hosts)
        return found

    def barrier(self) -> None:
        """Waits for all processes."""
        self.highest(0)


class _Losses(nn.Module):
    """A method whose forward pass is its losses: what gradient sharing wraps."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method: Any = method

    def forward(self, *arguments: Any) -> Any:
        return self.method.losses(*arguments)


class _Place(LightningEnvironment):
    """Where a plan puts this process, for Fabric, which is to start none itself."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.plan.address

    @property
    def main_port(self) -> int:
        return self.plan.port

    def local_rank(self) -> int:
        return self.plan.local_rank

    def node_rank(self) -> int:
        return self.plan.node_rank


def start_fabric(device: str, precision: str, plan: Plan | None = None) -> Fabric:
    """Fabric on `device` (auto, cpu, cuda, cuda:0, …); `precision` auto is bf16 on GPUs that have it, fp32 elsewhere.

    With a `plan` of several processes it waits for all of them: gloo joins CPUs, NCCL joins GPUs, one a process.
    Raises ConfigError for a device that is not there.
    """
    plan = plan or Plan()
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"train.device: {device!r} is none of auto, cpu, cuda, cuda:N, mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and max(int(index or 0), plan.per_node - 1) >= torch.cuda.device_count():
        wanted = f"{device!r}" + (f" for {plan.per_node} processes" if plan.per_node > 1 else "")
        raise ConfigError(f"train.device: {wanted} is not there ({torch.cuda.device_count()} GPUs); use cpu or auto")
    devices: Any = [int(index)] if index else plan.per_node
    if precision == "auto":
        precision = gpu_precision() if kind == "cuda" else "32-true"
    options: dict[str, Any] = {"accelerator": kind, "devices": devices, "precision": precision}
    if plan.world > 1:
        strategy = DDPStrategy(timeout=LONGEST_STALL) if kind == "cuda" else DDPStrategy()
        options |= {"strategy": strategy, "num_nodes": plan.nodes, "plugins": [_Place(plan)]}
    fabric = Fabric(**options)
    fabric.launch()
    # At the end of a process that lost the others it would wait for NCCL; `together` closes what can be closed.
    atexit.unregister(getattr(fabric_distributed, "_destroy_dist_connection", None))  # type: ignore[arg-type]
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes within steps stay the same
    return fabric


def make_engine(
    fabric: Fabric,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    sync_batch_norm: bool = False,
    cuda_graphs: bool = False,
) -> Engine:
    """Places the method and, where there are several processes, lets them share gradients.

    Which networks learn changes within a training (a teacher first, then its student; frozen copies never), so
    DistributedDataParallel looks for parameters without gradient in each step rather than taking one graph for all.
    Its buffers stay alone: `Engine.step` shares them after the pass, means instead of the first process's.
    """
    method = method.to(fabric.device)
    wrapped = fabric.setup_optimizers(optimizer)
    if fabric.world_size == 1:
        return Engine(fabric, method, wrapped, _Losses(method), cuda_graphs=cuda_graphs)
    if sync_batch_norm:
        synchronize(method)
    on_cpu = fabric.device.type == "cpu"
    hosts = None if on_cpu else distributed.new_group(backend="gloo")
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")  # a step in which all learn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # later versions call broadcast_buffers otherwise
        forward = DistributedDataParallel(
            _Losses(method).to(fabric.device),
            device_ids=None if on_cpu else [fabric.device.index],
            find_unused_parameters=True,
            broadcast_buffers=False,
        )
    return Engine(fabric, method, wrapped, forward, hosts, sync_batch_norm, cuda_graphs)
