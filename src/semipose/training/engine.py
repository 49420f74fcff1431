"""The only file that imports the distribution engine: devices, precision, processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule, _unwrap_objects
from torch import Tensor, nn

from semipose.errors import ConfigError

__all__ = ["Engine", "Fabric", "make_engine", "start_fabric"]


@dataclass
class Engine:
    """A method and its optimizer, placed on devices and wrapped for their precision."""

    fabric: Fabric
    wrapped: _FabricModule
    optimizer: Any

    @property
    def method(self) -> Any:
        """The method without its wrapper."""
        return _unwrap_objects(self.wrapped)

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        return self.fabric.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.fabric.is_global_zero

    def losses(self, *arguments: Any) -> Any:
        """The method's losses, under the precision's autocast and with gradients shared between processes."""
        with self.fabric.autocast():  # on one device Fabric gives a marked method no autocast of its own
            return self.wrapped.losses(*arguments)

    def step(self, total: Tensor, clip: float | None) -> Tensor:
        """Backward, clipping and one optimizer step, which is left out where loss or gradient are not finite.

        Returns whether the step was taken, as a tensor on the device: nothing waits for it. A fused optimizer decides
        on the device, any other makes this process wait.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        if clip:
            norm = self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=clip, error_if_nonfinite=False)
        else:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        assert isinstance(norm, Tensor)
        taken = torch.isfinite(norm) & torch.isfinite(total.detach())
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        if self._scales_gradients:
            self.optimizer.step()  # the scaler looks itself
        elif inner.defaults.get("fused"):
            inner.grad_scale, inner.found_inf = None, (~taken).float()
            self.optimizer.step()
        elif bool(taken):
            self.optimizer.step()
        return taken

    @property
    def _scales_gradients(self) -> bool:
        return getattr(self.fabric._precision, "scaler", None) is not None

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The precision of training, for evaluation."""
        with self.fabric.autocast():
            yield

    def mean(self, value: Tensor) -> Tensor:
        """Mean over processes."""
        if self.fabric.world_size == 1:
            return value
        shared = self.fabric.all_reduce(value, reduce_op="mean")
        assert isinstance(shared, Tensor)
        return shared

    def barrier(self) -> None:
        """Waits for all processes."""
        self.fabric.barrier()


def start_fabric(device: str, precision: str) -> Fabric:
    """Fabric on `device` (auto, cpu, cuda, cuda:0, …); `precision` auto is bf16 on GPUs that have it, fp32 elsewhere.

    Raises ConfigError for a device that is not there.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"train.device: {device!r} is none of auto, cpu, cuda, cuda:N, mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"train.device: {device!r} is not there ({torch.cuda.device_count()} GPUs); use cpu or auto")
    devices: Any = [int(index)] if index else 1
    if precision == "auto":
        precision = "bf16-mixed" if kind == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    fabric = Fabric(accelerator=kind, devices=devices, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def make_engine(fabric: Fabric, method: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
    """Places and wraps; `losses` becomes the wrapped module's forward pass."""
    wrapped, wrapped_optimizer = fabric.setup(method, optimizer)
    wrapped.mark_forward_method("losses")
    return Engine(fabric, wrapped, wrapped_optimizer)
