"""Optimizers and learning-rate schedules by name. A new one is a function and one line in its registry."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from pydantic import Field, field_validator
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer

from semipose.methods.base import Method, ParameterGroups
from semipose.models.pose_net import PoseNet
from semipose.utils.section import Section


class OptimConfig(Section):
    """Options of the optimizer and the learning rate."""

    optimizer: str = "adam"
    """`adam`, as in the papers, or `adamw` with decoupled weight decay."""
    lr: float = Field(1e-3, gt=0)
    """Initial learning rate."""
    backbone_rate: float = Field(1.0, gt=0)
    """Factor of the learning rate of the backbone; 1 in the papers, about .1 for AdamW and pretrained transformers."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor of the learning rate from each layer to the one before it, from the heads down; 1 in the papers, .75 to
    .85 for pretrained transformers."""
    schedule: str = "step"
    """Schedule of the learning rate: `step` drops it at `drops`, as in the papers; `cosine` anneals it to zero."""
    drops: tuple[float, ...] = (0.7, 0.9)
    """Points, as fractions of the training, at which the rate is multiplied by `drop_factor`; in the papers epochs 70
    and 90 of 100."""
    drop_factor: float = Field(0.1, gt=0, le=1)
    """Factor of each drop."""
    warm_up: int = Field(0, ge=0)
    """Number of steps over which the rate rises linearly from zero; 0 in the papers."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimizer, for `adam` an L2 penalty; norms, biases and position embeddings have none."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of the gradient; larger gradients are scaled down to it."""

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


def adam(parameters: ParameterGroups, config: OptimConfig, fused: bool) -> Optimizer:
    """Returns Adam.

    Reference: Kingma and Ba, ICLR 2015.
    """
    return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


def adamw(parameters: ParameterGroups, config: OptimConfig, fused: bool) -> Optimizer:
    """Returns AdamW.

    Reference: Loshchilov and Hutter, ICLR 2019.
    """
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


OPTIMIZERS: dict[str, Callable[[ParameterGroups, OptimConfig, bool], Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
}
"""Optimizers by name: functions of parameters, options, and whether the device has fused kernels."""


def build_optimizer(config: OptimConfig, method: Method, device: torch.device) -> Optimizer:
    """Returns the configured optimizer for the parameter groups of the method."""
    groups = parameter_groups(config, method)
    return OPTIMIZERS[config.optimizer](groups, config, device.type in ("cpu", "cuda"))


def parameter_groups(config: OptimConfig, method: Method) -> ParameterGroups:
    """Returns the method's groups, divided by weight decay and by the factor of the learning rate.

    A group's `lr_scale` is the product of the method's factor, `backbone_rate` and the decay of the layer.

    Reference: Clark et al., ICLR 2020 (ELECTRA), and Bao et al., ICLR 2022 (BEiT), for the decay by layers.
    """
    networks = [module for module in method.modules() if isinstance(module, PoseNet)]
    options = {id(p): values for network in networks for p, *values in _parameter_options(config, network)}
    groups: ParameterGroups = []
    for group in method.parameter_groups():
        divided: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in group["params"]:
            decay, scale = options.get(id(parameter), (config.weight_decay, 1.0))
            divided.setdefault((decay, scale * group.get("lr_scale", 1.0)), []).append(parameter)
        for (decay, scale), parameters in divided.items():
            groups.append({**group, "params": parameters, "weight_decay": decay, "lr_scale": scale})
    return groups


def _parameter_options(config: OptimConfig, network: PoseNet) -> Iterator[tuple[nn.Parameter, float, float]]:
    """Yields the trainable parameters of a network, each with its weight decay and the factor of its learning rate."""
    decay, exempt = config.weight_decay, network.no_weight_decay()
    if config.layer_decay < 1:
        groups = param_groups_layer_decay(network, decay, exempt, layer_decay=config.layer_decay)
    else:
        groups = param_groups_weight_decay(network, decay, no_weight_decay_list=exempt)
    backbone = {id(parameter) for parameter in network.backbone.parameters()}
    for group in groups:
        for parameter in group["params"]:
            factor = config.backbone_rate if id(parameter) in backbone else 1.0
            yield parameter, group["weight_decay"], factor * group.get("lr_scale", 1.0)


def step_drops(config: OptimConfig, step: int, steps: int) -> float:
    """Returns `drop_factor` to the power of the number of drops so far."""
    return config.drop_factor ** sum(step >= drop * steps for drop in config.drops)


def cosine(config: OptimConfig, step: int, steps: int) -> float:
    """Returns cosine annealing from 1 to 0.

    Reference: Loshchilov and Hutter, ICLR 2017.
    """
    return 0.5 * (1 + math.cos(math.pi * step / steps))


SCHEDULES: dict[str, Callable[[OptimConfig, int, int], float]] = {"step": step_drops, "cosine": cosine}
"""Schedules by name: functions of options, step and number of steps that return a factor of the learning rate."""


def learning_rate(config: OptimConfig, step: int, steps: int, restarts: Sequence[float] = ()) -> float:
    """Returns the learning rate of a step.

    Args:
        config: The options, with the name of the schedule.
        step: The step, from 0.
        steps: The number of steps of the training.
        restarts: Points, as fractions of the training, at which the schedule starts again.
    """
    bounds = [0, *(math.ceil(share * steps - 1e-9) for share in restarts), steps]
    begin = max(bound for bound in bounds[:-1] if bound <= step)
    end = min(bound for bound in bounds[1:] if bound > begin)
    rate = config.lr * SCHEDULES[config.schedule](config, step - begin, end - begin)
    return rate * min(1.0, (step - begin + 1) / config.warm_up) if config.warm_up else rate
