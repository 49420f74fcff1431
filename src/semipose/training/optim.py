"""Optimizers and learning-rate schedules by name: a new one is a function and a line in its registry."""

import math
from collections.abc import Callable, Sequence

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.optim import Optimizer

from semipose.utils.section import Section


class OptimConfig(Section):
    """Options of the optimizer and the learning rate."""

    optimizer: str = "adam"
    """`adam`, as in the papers, or `adamw`, whose weight decay is decoupled from the gradient."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate at the beginning."""
    schedule: str = "step"
    """Learning rate over the training: `step` drops it at `drops`, as in the papers; `cosine` lowers it to zero."""
    drops: tuple[float, ...] = (0.7, 0.9)
    """Moments, as fractions of the training, at which the rate is multiplied by `drop_factor`; the papers' 70 and 90 of
    100 epochs."""
    drop_factor: float = Field(0.1, gt=0, le=1)
    """Factor of each drop."""
    warm_up: int = Field(0, ge=0)
    """Steps over which the rate rises linearly from zero; 0 in the papers."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimizer; for `adam` an L2 penalty."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of the gradient; longer gradients are shortened to it."""

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        return _known(name, list(OPTIMIZERS))

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        return _known(name, list(SCHEDULES))


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ValueError(f"known: {', '.join(names)}")
    return name


def adam(parameters: Sequence[nn.Parameter], config: OptimConfig, fused: bool) -> Optimizer:
    """Returns Adam.

    Reference: Kingma and Ba, ICLR 2015.
    """
    return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


def adamw(parameters: Sequence[nn.Parameter], config: OptimConfig, fused: bool) -> Optimizer:
    """Returns AdamW.

    Reference: Loshchilov and Hutter, ICLR 2019.
    """
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


OPTIMIZERS: dict[str, Callable[[Sequence[nn.Parameter], OptimConfig, bool], Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
}
"""Optimizers by name: functions of the parameters, the options, and whether the device has fused kernels."""


def build_optimizer(config: OptimConfig, method: nn.Module, device: torch.device) -> Optimizer:
    """Returns the configured optimizer of all parameters that are trained."""
    trained = [p for p in method.parameters() if p.requires_grad]
    return OPTIMIZERS[config.optimizer](trained, config, device.type in ("cpu", "cuda"))


def step_drops(config: OptimConfig, step: int, steps: int) -> float:
    """Returns `drop_factor` to the power of the drops so far."""
    return config.drop_factor ** sum(step >= drop * steps for drop in config.drops)


def cosine(config: OptimConfig, step: int, steps: int) -> float:
    """Returns half a period of the cosine, from 1 to 0.

    Reference: Loshchilov and Hutter, ICLR 2017.
    """
    return 0.5 * (1 + math.cos(math.pi * step / steps))


SCHEDULES: dict[str, Callable[[OptimConfig, int, int], float]] = {"step": step_drops, "cosine": cosine}
"""Schedules by name: functions of the options, the step and the number of steps, whose value multiplies the rate."""


def learning_rate(config: OptimConfig, step: int, steps: int, restarts: Sequence[float] = ()) -> float:
    """Returns the learning rate of a step.

    Args:
        config: Names the schedule.
        step: The step, from 0.
        steps: The number of steps of the training.
        restarts: Moments, as fractions of the training, at which the schedule begins anew.
    """
    bounds = [0, *(math.ceil(share * steps) for share in restarts), steps]
    begin = max(bound for bound in bounds[:-1] if bound <= step)
    end = min(bound for bound in bounds[1:] if bound > begin)
    rate = config.lr * SCHEDULES[config.schedule](config, step - begin, end - begin)
    return rate * min(1.0, (step - begin + 1) / config.warm_up) if config.warm_up else rate
