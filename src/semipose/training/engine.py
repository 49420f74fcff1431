"""One optimizer step on a device: precision, gradient averaging over processes, clipping, skipped steps."""

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from semipose.methods.base import Losses, Method, StepInfo
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.training.compile import begin_step, compile_networks, uncompile_networks, uncompiled
from semipose.training.distributed import world_size
from semipose.training.precision import AUTOCAST_DTYPES


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
    """Returns the loss scaler for fp16 (`16-mixed`); other precisions need none."""
    return torch.amp.GradScaler(device.type) if precision == "16-mixed" else None


class Engine:
    """A method and its optimizer on a device; gradients are averaged over all processes.

    Args:
        method: The method; it is moved to the device.
        optimizer: The optimizer of the method's parameters.
        device: The device of all tensors.
        precision: 32-true, bf16-mixed or 16-mixed.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        precision: str = "32-true",
    ) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
            torch.backends.cudnn.benchmark = True  # shapes do not change between steps
        self.method, self.optimizer, self.device = method.to(device), optimizer, device
        self.scaler = make_scaler(device, precision)
        self._dtype, self._cuda_graphs = AUTOCAST_DTYPES[precision], False
        self._parallel = _parallel(method, device) if world_size() > 1 else None

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the autocast context for the training's precision."""
        return torch.autocast(self.device.type, self._dtype) if self._dtype else nullcontext()

    def compile(self, *, cuda_graphs: bool = False) -> None:
        """Compiles the networks for the passes of optimizer steps; with `cuda_graphs` a GPU replays them as graphs."""
        compile_networks(self.method, cuda_graphs=cuda_graphs)
        self._cuda_graphs = cuda_graphs

    def uncompile(self) -> None:
        """Undoes `compile`."""
        uncompile_networks(self.method)
        self._cuda_graphs = False

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Provides a context for passes outside steps: uncompiled, without gradients and without autocast."""
        with torch.inference_mode(), uncompiled():
            yield

    def losses(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        """Returns the method's losses for batches that are on the device."""
        if self._cuda_graphs:
            begin_step()
        with self.autocast():
            if self._parallel is None:
                return self.method.losses(labeled, unlabeled, info)
            losses: Losses = self._parallel(labeled, unlabeled, info)
            return losses

    def dry_run(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, infos: Sequence[StepInfo]) -> None:
        """Computes losses and gradients of steps that are not taken; everything else stays as it was.

        It compiles the networks, and shows whether the memory is sufficient, before the first step.

        Args:
            labeled: The labeled batch, on the device.
            unlabeled: The unlabeled batch, on the device.
            infos: The positions of the steps.
        """
        generator, buffers = self.method.context.views.generator, list(self.method.buffers())
        state, before = generator.get_state(), [buffer.clone() for buffer in buffers]
        try:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                for info in infos:
                    self.optimizer.zero_grad(set_to_none=True)
                    self._backward(self.losses(labeled, unlabeled, info).total)
        finally:
            generator.set_state(state)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, old in zip(buffers, before, strict=True):
                    buffer.copy_(old)

    def train_step(
        self,
        labeled: LabeledBatch,
        unlabeled: UnlabeledBatch | None,
        info: StepInfo,
        clip: float | None,
        parts: int = 1,
    ) -> tuple[Losses, Tensor]:
        """Takes one optimizer step with batches that are on the device.

        Args:
            labeled: The labeled batch.
            unlabeled: The unlabeled batch.
            info: The position of the step.
            clip: The largest gradient norm; None for no clipping.
            parts: The number of equal parts in which the batches are computed; their losses are averaged.

        Returns:
            The losses, and whether the step was taken, as in `step`.
        """
        if parts == 1:
            losses = self.losses(labeled, unlabeled, info)
            return losses, self.step(losses.total, clip)
        self.optimizer.zero_grad(set_to_none=True)
        done: list[Losses] = []
        pieces = unlabeled.split(parts) if unlabeled is not None else [None] * parts
        for piece, other in zip(labeled.split(parts), pieces, strict=True):
            # The gradients of all processes are exchanged once, with the last part.
            last = len(done) == parts - 1
            with nullcontext() if last or self._parallel is None else self._parallel.no_sync():
                losses = self.losses(piece, other, info)
                self._backward(losses.total / parts)
            done.append(Losses(losses.total.detach(), losses.terms))
        mean = Losses(
            torch.stack([losses.total for losses in done]).mean(),
            {name: torch.stack([losses.terms[name] for losses in done]).mean() for name in done[0].terms},
        )
        return mean, self._update(mean.total, clip)

    def step(self, total: Tensor, clip: float | None) -> Tensor:
        """Takes one optimizer step, unless the loss or the gradient is not finite in any process.

        Args:
            total: The total loss from `losses`.
            clip: The largest gradient norm; None for no clipping.

        Returns:
            Whether the step was taken, as a tensor on the device, so that the CPU does not have to wait for the GPU.
            Fused optimizers decide on the device; with other optimizers the CPU waits.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(total)
        return self._update(total, clip)

    def _backward(self, total: Tensor) -> None:
        (self.scaler.scale(total) if self.scaler else total).backward()  # type: ignore[no-untyped-call]

    def _update(self, total: Tensor, clip: float | None) -> Tensor:
        """Updates the parameters from their gradients, unless the loss or the gradient is not finite."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if clip:
            if self.scaler:
                self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(parameters, clip)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters])
        taken = torch.isfinite(norm) & self._finite_everywhere(total.detach())
        if self.scaler:
            self.scaler.step(self.optimizer)  # skips steps whose gradient is not finite
            self.scaler.update()
        elif self.optimizer.defaults.get("fused"):
            # GradScaler sets these attributes to make a fused optimizer skip a step.
            self.optimizer.grad_scale, self.optimizer.found_inf = None, (~taken).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif bool(taken):
            self.optimizer.step()
        return taken

    def _finite_everywhere(self, total: Tensor) -> Tensor:
        """Returns whether the loss is finite in all processes, and averages BatchNorm's buffers in the same message.

        Everything that depends on the buffers later, such as moving averages of networks, is then equal in all
        processes.
        """
        finite = torch.isfinite(total)
        if self._parallel is None:
            return finite
        buffers = [b for b in self.method.buffers() if b.is_floating_point()]
        message = torch.cat([finite.float().view(1), *(b.float().flatten() for b in buffers)])
        dist.all_reduce(message)
        message /= world_size()
        agreed, *means = torch.split(message, [1, *(b.numel() for b in buffers)])
        with torch.no_grad():
            for buffer, mean in zip(buffers, means, strict=True):
                buffer.copy_(mean.view_as(buffer))
        return agreed.squeeze() == 1


class _Losses(nn.Module):
    """A module for DistributedDataParallel, whose forward pass computes the method's losses."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, info: StepInfo) -> Losses:
        return self.method.losses(labeled, unlabeled, info)


def _parallel(method: Method, device: torch.device) -> DistributedDataParallel:
    """Returns the method with gradients averaged over processes.

    The networks that take part change from step to step (burn-in, frozen copies), so parameters without a gradient are
    searched in every step. Buffers are not broadcast, because `Engine.step` averages them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.11 has no replacement for broadcast_buffers yet
        return DistributedDataParallel(
            _Losses(method).to(device),
            device_ids=[device.index] if device.type == "cuda" else None,
            find_unused_parameters=True,
            broadcast_buffers=False,
        )
