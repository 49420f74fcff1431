"""Selection of the device."""

import torch

from semipose.errors import ConfigError


def has_apple_gpu() -> bool:
    """Returns whether this machine has a GPU of Apple that PyTorch can use."""
    return torch.backends.mps.is_available()


def resolve_device(device: str, parameter: str = "device") -> torch.device:
    """Returns the device with a given name; `auto` is the first CUDA GPU if there is one, else the CPU.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        parameter: The name of the caller's parameter, for the error message.

    Raises:
        ConfigError: If the name is unknown or this machine has no such device.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"`{parameter}`: {device!r} is unknown; known: auto, cpu, cuda, cuda:N, mps")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "mps" and not has_apple_gpu():
        raise ConfigError(f"`{parameter}`: 'mps' is not available; use cpu or auto")
    if kind != "cuda":
        return torch.device(kind)
    number = int(index or 0)
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"`{parameter}`: {device!r} is not available ({torch.cuda.device_count()} GPUs); use cpu or auto"
        )
    return torch.device("cuda", number)
