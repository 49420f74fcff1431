"""The state of a training, saved atomically and loaded without executing anything."""

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
from semipose.utils.files import replacing

log = logging.getLogger(__name__)

FORMAT = 2
MAGIC = b"SEMIPOSE"


class NewerFormatError(WeightsError):
    """A checkpoint of a later version of semipose: it is intact, so an earlier checkpoint does not replace it."""


@dataclass
class ProcessState:
    """What each process has of its own.

    Attributes:
        generator: State of the generator of augmentations.
        torch_rng: State of PyTorch's global generator.
        meter: Loss terms since the last line of the log.
    """

    generator: Tensor
    torch_rng: Tensor
    meter: LossMeter


@dataclass
class MonitorMemory:
    """What the monitor remembers of a training.

    Attributes:
        best: The best validation score.
        distance: The distance between two networks' predictions at the best score.
        drifting: Evaluations in a row with a lower score and a smaller distance.
        halved: Evaluations in a row with less than half the best score.
        reported: The warnings that were given.
    """

    best: float = -math.inf
    distance: float = math.inf
    drifting: int = 0
    halved: int = 0
    reported: list[str] = field(default_factory=list)


@dataclass
class TrainingState:
    """The state of a training apart from its weights and its optimizer.

    Attributes:
        identity: What must not change between start and resume: method, backbone, skeleton, split, data.
        joint_batch: Labeled and unlabeled samples per step over all processes.
        image_hashes: One hash over the images of each set.
        step: Finished optimizer steps.
        seconds: The time they took.
        logged_seconds: `seconds` at the last line of the log.
        log_bytes: Length of metrics.jsonl at this step, so that a resumed log has no line twice.
        best_score: The best validation score.
        best_step: Its step.
        best_network: The network that led at this step.
        rate_factor: Factor of the learning rate, lowered when the training diverges.
        rollbacks: How often the training went back to a checkpoint.
        scaler: State of fp16's scaler of losses.
        monitor: What the monitor remembers.
        processes: What each process has of its own, by rank.
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

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TrainingState":
        """Returns the state of which `dataclasses.asdict` made this dictionary.

        Raises:
            KeyError, TypeError: If it is not such a dictionary.
        """
        monitor = MonitorMemory(**content["monitor"])
        processes = [ProcessState(**{**p, "meter": LossMeter(**p["meter"])}) for p in content["processes"]]
        return cls(**{**content, "monitor": monitor, "processes": processes})


def save_checkpoint(path: Path, state: TrainingState, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes a checkpoint; the one before stays as `previous(path)`.

    The file is written under another name and then renamed, so that `path` is complete at any time. It holds `MAGIC`,
    the SHA-256 of the rest, and what torch.save writes.

    Raises:
        OSError: If it can't be written; the existing files are unchanged.
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
    """Returns the path of the checkpoint before `path`."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def has_checkpoint(path: Path) -> bool:
    """Returns whether there is a checkpoint to resume from."""
    return path.is_file() or previous(path).is_file()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the content of one checkpoint file, verified by its hash, without executing anything in it.

    Raises:
        WeightsError: If it is broken or of a newer version.
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
        raise NewerFormatError(f"checkpoint {path} has format {version}, this semipose reads {FORMAT}: upgrade it")
    return content


def load_checkpoint(
    path: Path, identity: dict[str, str], method: nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Loads weights and optimizer and returns the state; a damaged checkpoint is replaced by the one before it.

    Args:
        path: The checkpoint.
        identity: What must be equal in the checkpoint: method, backbone, skeleton, split, data.
        method: Takes over the weights.
        optimizer: Takes over its state.

    Raises:
        WeightsError: If neither checkpoint can be used or the identity differs.
    """
    if not has_checkpoint(path):
        raise WeightsError(f"checkpoint {path} does not exist; start the run instead of resuming it")
    content = _newest(path)
    try:
        state = TrainingState.from_dict(content["state"])
    except (KeyError, TypeError):
        raise WeightsError(f"checkpoint {path} holds no state of a training; start the run again") from None
    for key, value in identity.items():
        if state.identity.get(key) != value:
            raise WeightsError(
                f"checkpoint {path} was made with {key} {state.identity.get(key)!r}, this run has {value!r}; "
                "resume with the run's own configuration or choose another `out`"
            )
    try:
        method.load_state_dict(content["method"])
        optimizer.load_state_dict(content["optimizer"])
        _match_memory_layout(optimizer)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"checkpoint {path} does not fit this run ({reason}); resume it with its own configuration, on the kind of "
            "device it was made on"
        ) from None
    return state


def _match_memory_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives the optimizer's moments the memory layout of their weights, which may have changed.

    Fused optimizers traverse both in the order of memory.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _newest(path: Path) -> dict[str, Any]:
    """The content of `path`, else of the checkpoint before it."""
    try:
        return read_checkpoint(path)
    except NewerFormatError:
        raise
    except WeightsError as error:
        older = previous(path)
        if not older.is_file():
            raise WeightsError(f"{error}, and there is none before it; start the run again") from None
        log.warning("%s; resuming from the one before, %s", error, older.name)
        return read_checkpoint(older)


def _copy(source: Path, target: Path) -> None:
    """Makes `target` the same file as `source`: a hard link where the file system has them, else a copy."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


def _sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable, where folders can be synchronized."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
