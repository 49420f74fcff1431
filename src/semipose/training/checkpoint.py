"""The state of a training, saved atomically and loaded without executing anything."""

import hashlib
import io
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from semipose.errors import WeightsError
from semipose.utils.files import replacing

log = logging.getLogger(__name__)

FORMAT = 1
MAGIC = b"SEMIPOSE"


class NewerFormatError(WeightsError):
    """A checkpoint of a later semipose: nothing is wrong with it, and none before it is taken instead."""


@dataclass
class TrainingState:
    """What besides weights says where a training stands.

    `step` counts finished optimizer steps; `identity` names what must not change between start and resume (method,
    backbone, skeleton, split); `log_bytes` is the length of metrics.jsonl at that step, so that a resumed log has no
    line twice.
    """

    identity: dict[str, str]
    step: int = 0
    best_score: float = float("-inf")
    best_step: int = -1
    log_bytes: int = 0
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: Path, state: TrainingState, method: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    """Writes the whole state beside `path`, then renames, so that `path` is always complete; the one before stays.

    A checkpoint is `MAGIC`, the SHA-256 of the rest, and what torch.save writes. Raises OSError when it can't be
    written; what was there is untouched then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "state": vars(state),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "torch_rng": torch.get_rng_state(),
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
    _settle(path.parent)


def previous(path: Path) -> Path:
    """Where the checkpoint before `path` lies."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def has_checkpoint(path: Path) -> bool:
    """Whether there is something to resume from at `path`."""
    return path.is_file() or previous(path).is_file()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of one checkpoint file, verified by its hash, without executing anything in it.

    Raises WeightsError when it is broken or of a newer version.
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
        content = torch.load(io.BytesIO(raw[start:]), map_location="cpu", weights_only=True)
        version = content["format"]
    except Exception as error:
        raise WeightsError(f"checkpoint {path} can't be read ({str(error).splitlines()[0][:100]})") from None
    if version > FORMAT:
        raise NewerFormatError(f"checkpoint {path} has format {version}, this semipose reads {FORMAT}: upgrade it")
    return content


def load_checkpoint(
    path: Path,
    identity: dict[str, str],
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> TrainingState:
    """Puts everything back and returns where training stands; falls back, with a warning, on the checkpoint before.

    Raises WeightsError when neither can be used or one is of another method, backbone, skeleton or split than
    `identity` says.
    """
    if not has_checkpoint(path):
        raise WeightsError(f"no checkpoint {path} to resume from; start the run without --resume")
    content = _newest(path)
    try:
        state = TrainingState(**content["state"])
    except (KeyError, TypeError):
        raise WeightsError(f"checkpoint {path} holds no state of a training; start anew") from None
    for key, value in identity.items():
        if state.identity.get(key, value) != value:  # checkpoints of before know less of themselves
            raise WeightsError(
                f"checkpoint {path} was made with {key} {state.identity.get(key)!r}, this run has {value!r}; "
                "resume with the run's own configuration or choose another --out"
            )
    try:
        method.load_state_dict(content["method"])
        optimizer.load_state_dict(content["optimizer"])
        _as_weights_lie(getattr(optimizer, "optimizer", optimizer))
        generator.set_state(content["generator"])
        torch.set_rng_state(content["torch_rng"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"checkpoint {path} does not fit this run ({reason}); resume it with its own configuration, on the kind of "
            "device it was made on"
        ) from None
    return state


def _as_weights_lie(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer's averages the memory layout of their weights, which may differ from that of before.

    Fused optimizers go through both as they lie in memory.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _newest(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, else the one before it."""
    try:
        return read_checkpoint(path)
    except NewerFormatError:
        raise
    except WeightsError as error:
        older = previous(path)
        if not older.is_file():
            raise WeightsError(f"{error}, and there is none before it; start anew") from None
        log.warning("%s; going on from the one before, %s", error, older.name)
        return read_checkpoint(older)


def _copy(source: Path, target: Path) -> None:
    """`target` becomes `source` at once and both stay: a second name where the file system has them, else a copy."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


def _settle(folder: Path) -> None:
    """Makes renames in `folder` durable, where folders can be synchronized."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
