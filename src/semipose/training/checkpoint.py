"""Checkpoints of a training, written atomically and loaded without executing code from the file."""

import hashlib
import io
import logging
import math
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semipose.errors import WeightsError
from semipose.training.meter import LossMeter
from semipose.utils.files import BOX_FINDER, replacing

log = logging.getLogger(__name__)

FORMAT = 2
MAGIC = b"SEMIPOSE"
GROUP_OPTIONS = ("weight_decay", "lr_scale")
"""Options of parameter groups that a resumed training takes from its configuration."""


class NewerFormatError(WeightsError):
    """A checkpoint from a later version of semipose; it is intact, so no earlier checkpoint is loaded instead."""


@dataclass
class ProcessState:
    """The part of the training state that differs between processes.

    Attributes:
        generator: State of the generator for augmentations.
        torch_rng: State of PyTorch's global generator.
        meter: Loss terms since the last log line.
        cuda_rng: State of PyTorch's generator of the GPU, from which dropout and stochastic depth draw; None on others.
    """

    generator: Tensor
    torch_rng: Tensor
    meter: LossMeter
    cuda_rng: Tensor | None = None


@dataclass
class MonitorMemory:
    """The state of the monitor, from earlier evaluations of a training.

    Attributes:
        best: The best validation score.
        distance: The distance between two networks' predictions at the best score.
        drifting: Evaluations in a row with a lower score and a smaller distance.
        halved: Evaluations in a row with less than half the best score.
        reported: Names of the failures that were reported.
        confidence: The mean peak on unlabeled images as a fraction of that on labeled ones, at the last evaluation in
            burn-in, or at the first one; None before.
    """

    best: float = -math.inf
    distance: float = math.inf
    drifting: int = 0
    halved: int = 0
    reported: list[str] = field(default_factory=list)
    confidence: float | None = None


@dataclass
class TrainingState:
    """The state of a training apart from its weights and its optimizer.

    Attributes:
        identity: Properties that must not change between start and resume: method, backbone, skeleton, split, data.
        joint_batch: The global batch: labeled and unlabeled samples per step over all processes.
        image_hashes: One hash over the images of each set.
        step: Number of finished optimizer steps.
        seconds: Duration of these steps.
        logged_seconds: `seconds` at the last log line.
        log_bytes: Length of metrics.jsonl at this step; a resumed run continues the log from there.
        best_score: The best validation score.
        best_step: The step of the best validation score.
        best_network: The network with the highest score at this step.
        rate_factor: Factor of the learning rate, lowered when the training diverges.
        rollbacks: Number of times that the training went back to a checkpoint.
        scaler: State of the loss scaler for fp16.
        monitor: State of the monitor.
        processes: State of each process, by rank.
        steps: Number of optimizer steps of the whole training.
    """

    identity: dict[str, str] = field(default_factory=dict)
    joint_batch: tuple[int, int] = (0, 0)
    image_hashes: dict[str, str] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    logged_seconds: float = 0.0
    log_bytes: int = 0
    best_score: float = -math.inf
    best_step: int = -1
    best_network: str = ""
    rate_factor: float = 1.0
    rollbacks: int = 0
    scaler: dict[str, float] = field(default_factory=dict)
    monitor: MonitorMemory = field(default_factory=MonitorMemory)
    processes: list[ProcessState] = field(default_factory=list)
    steps: int = 0

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TrainingState":
        """Returns the state from a dictionary that `dataclasses.asdict` made.

        Raises:
            KeyError, TypeError: If the dictionary has other entries.
        """
        monitor = MonitorMemory(**content["monitor"])
        processes = [ProcessState(**{**p, "meter": LossMeter(**p["meter"])}) for p in content["processes"]]
        return cls(**{**content, "monitor": monitor, "processes": processes})


def save_checkpoint(path: Path, state: TrainingState, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes a checkpoint; the previous one is kept as `previous(path)`.

    The file is written under another name and then renamed, so that `path` is complete at any time. It contains
    `MAGIC`, the SHA-256 of the remaining bytes, and the output of torch.save.

    Raises:
        OSError: If the file can't be written; the existing files are unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "state": asdict(state),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(content, buffer)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(MAGIC + hashlib.sha256(buffer.getbuffer()).digest())
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            _copy(path, previous(path))
    _sync_folder(path.parent)


def previous(path: Path) -> Path:
    """Returns the path of the previous checkpoint."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def has_checkpoint(path: Path) -> bool:
    """Returns whether there is a checkpoint to resume from."""
    return path.is_file() or previous(path).is_file()


def is_begun(run: Path) -> bool:
    """Returns whether a run folder has a state to resume from: its own, or that of its box network, trained first."""
    return any(has_checkpoint(folder / "last" / "state.pt") for folder in (run, run / BOX_FINDER))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the content of a checkpoint file, verified by its hash, without executing code from the file.

    Raises:
        WeightsError: If the file is broken or was written by a newer version.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"checkpoint {path} can't be read ({error.strerror})") from None
    start = len(MAGIC) + hashlib.sha256().digest_size
    if raw[: len(MAGIC)] != MAGIC:
        raise WeightsError(f"checkpoint {path} was not written by semipose, or its beginning is lost")
    if hashlib.sha256(memoryview(raw)[start:]).digest() != raw[len(MAGIC) : start]:
        raise WeightsError(f"checkpoint {path} is damaged: its hash differs from its content")
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(raw[start:]), map_location="cpu", weights_only=True)
        version = content["format"]
    except Exception as error:
        raise WeightsError(f"checkpoint {path} can't be read ({str(error).splitlines()[0][:100]})") from None
    if version > FORMAT:
        raise NewerFormatError(
            f"checkpoint {path} has format {version}, but this version reads {FORMAT}; upgrade semipose"
        )
    return content


def load_checkpoint(
    path: Path, identity: dict[str, str], method: nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Loads weights and optimizer state and returns the state; falls back to the previous checkpoint if damaged.

    Args:
        path: The checkpoint.
        identity: Properties that the checkpoint must share: method, backbone, skeleton, split, data.
        method: Receives the weights.
        optimizer: Receives its state; its own weight decay and factors of the learning rate stay.

    Raises:
        WeightsError: If neither checkpoint can be used or the identity differs.
    """
    if not has_checkpoint(path):
        raise WeightsError(f"checkpoint {path} does not exist; start the run instead of resuming it")
    content = _newest(path)
    try:
        state = TrainingState.from_dict(content["state"])
    except (KeyError, TypeError):
        raise WeightsError(f"checkpoint {path} contains no training state; start the run again") from None
    for key, value in identity.items():
        if state.identity.get(key) != value:
            raise WeightsError(
                f"checkpoint {path} was made with {key} {state.identity.get(key)!r}, but this run has {value!r}; "
                "resume with the run's own configuration or choose another `out`"
            )
    try:
        method.load_state_dict(content["method"])
        options = [{key: group[key] for key in GROUP_OPTIONS if key in group} for group in optimizer.param_groups]
        optimizer.load_state_dict(content["optimizer"])
        for group, ours in zip(optimizer.param_groups, options, strict=True):
            group.update(ours)
        _match_memory_layout(optimizer)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"checkpoint {path} does not fit this run ({reason}); resume it with its own configuration, on the kind of "
            "device that it was made on"
        ) from None
    return state


def _match_memory_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives the optimizer's moments the memory layout of the weights, which may differ from the saved layout.

    Fused optimizers iterate over both in memory order.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _newest(path: Path) -> dict[str, Any]:
    """Returns the content of `path` or, if it is damaged, of the previous checkpoint."""
    try:
        return read_checkpoint(path)
    except NewerFormatError:
        raise
    except WeightsError as error:
        older = previous(path)
        if not older.is_file():
            raise WeightsError(f"{error}, and there is no previous one; start the run again") from None
        log.warning("%s; resuming from the previous one, %s", error, older.name)
        return read_checkpoint(older)


def _copy(source: Path, target: Path) -> None:
    """Makes `target` a hard link to `source`, or a copy where the file system has no hard links."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


def _sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable, on systems that can synchronize folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
