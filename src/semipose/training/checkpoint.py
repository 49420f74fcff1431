"""The state of a training, saved atomically and loaded without executing anything."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from semipose.errors import WeightsError

FORMAT = 1


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
    """Writes the whole state beside `path` first, then renames, so that `path` is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "state": vars(state),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "torch_rng": torch.get_rng_state(),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(
    path: Path,
    identity: dict[str, str],
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> TrainingState:
    """Puts everything back and returns where training stands.

    Raises WeightsError when the file is missing, broken, of a newer version or of another method, backbone, skeleton
    or split than `identity` says.
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint {path} to resume from; start the run without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = TrainingState(**content["state"])
        version = content["format"]
    except Exception as error:
        raise WeightsError(
            f"checkpoint {path} can't be read ({str(error).splitlines()[0][:100]}); start anew"
        ) from None
    if version > FORMAT:
        raise WeightsError(f"checkpoint {path} has format {version}, this semipose reads {FORMAT}: upgrade it")
    for key, value in identity.items():
        if state.identity.get(key) != value:
            raise WeightsError(
                f"checkpoint {path} was made with {key} {state.identity.get(key)!r}, this run has {value!r}; "
                "resume with the run's own configuration or choose another --out"
            )
    method.load_state_dict(content["method"])
    optimizer.load_state_dict(content["optimizer"])
    generator.set_state(content["generator"])
    torch.set_rng_state(content["torch_rng"])
    return state
