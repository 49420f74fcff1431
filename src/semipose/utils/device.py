"""The device that networks run on."""

import re

import torch

from semipose.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Returns the device called `name`.

    Args:
        name: `auto` (a GPU if there is one, else the CPU), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ConfigError: If the name is unknown or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"`device`: {name!r} is unknown; known: auto, cpu, cuda, cuda:N, mps")
    device, gpus = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ConfigError(f"`device`: {name!r} is not available ({gpus} CUDA devices); use cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("`device`: 'mps' is not available; use cpu or auto")
    return device
