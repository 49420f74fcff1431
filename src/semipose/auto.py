"""Choice of network, input size, batch and steps for the machine and the data, for the options that nobody gave."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from semipose.config import LABELS_ONLY, RunConfig, load_config
from semipose.data.crops import CropGeometry
from semipose.data.datasets import DataSplits
from semipose.data.shards import read_table
from semipose.errors import ConfigError, RunError
from semipose.methods import METHODS
from semipose.methods.base import automatic_burn_in
from semipose.structures.boxes import WHOLE
from semipose.training.config import TrainConfig
from semipose.training.distributed import world_size

GPU_NETWORK = {"model.backbone": "resnet50", "model.stage": -1, "model.head_channels": 256, "train.lr": 0.001}
GPU_INPUT = {"input.height": 256, "input.width": 192, "loss.sigma": 2.0}
"""The network, learning rate and input size of the papers, for a GPU. On a CPU those of the configuration stay."""

SMALL_BATCH, BATCH = 16, 32
"""Labeled persons a step, below and from `FEW` labeled persons on."""
FEW = 64
UNLABELED_BATCH = 32
MOST = 512
"""Largest batch that `train.batch: auto` tries."""

LATE_DROP = (0.9,)
"""Drops of the rate with unlabeled images, which help little once it has dropped (docs/research/late-teacher.md)."""
AVERAGED = {"train.average": 0.99, "train.drops": ()}
"""For labels alone: the moving average has more PCK than a network whose rate drops (docs/research/late-teacher.md)."""
LEVELS = 2
"""Heatmap levels for labels alone, as in `late_teacher`: the second one gains PCK (docs/research/gym.md)."""

BOX_FINDER_SIDE, BOX_FINDER_STEPS = 128, 400
"""Input size in pixels and steps of the network that finds boxes in whole images (docs/research/boxes.md)."""
SEVERAL_SIDE, SEVERAL_BATCH = 192, 8
"""Input size and batch of the one that finds several subjects in each image, which may be close to each other."""
SHIFT = 0.1
"""Largest shift of views with found boxes (docs/research/boxes.md)."""


@dataclass(frozen=True)
class Budget:
    """Steps with unlabeled images: passes over them, and bounds of the number of steps."""

    passes: int
    least: int
    most: int


BUDGETS = {"cpu": Budget(6, 1000, 2400), "gpu": Budget(30, 5000, 40_000)}


DryRun = Callable[[RunConfig], None]
"""Computes steps of a configuration without a result; raises torch.OutOfMemoryError if the memory is too small."""


def choose_options(
    config: RunConfig, splits: DataSplits, device: torch.device, dry_run: DryRun
) -> tuple[RunConfig, list[str]]:
    """Chooses the options that the configuration leaves open in `auto`.

    Args:
        config: The configuration.
        splits: The data of the run.
        device: The device of the training.
        dry_run: Makes a dry run on the device; raises what it raises.

    Returns:
        The complete configuration, and the reasons of the choices, one line each.

    Raises:
        ConfigError: If several processes shall find the largest batch.
        RunError: If not even a batch of one fits the memory.
    """
    if not config.auto:
        return config, []
    values: dict[str, Any] = {}
    if device.type != "cpu":
        values |= (GPU_NETWORK if "network" in config.auto else {}) | (GPU_INPUT if "input" in config.auto else {})
    labeled, unlabeled = len(splits.labeled), _unlabeled(config, splits)
    if "batch" in config.auto:
        values |= {"train.batch": BATCH if labeled >= FEW else SMALL_BATCH, "train.unlabeled_batch": UNLABELED_BATCH}
    config = config.with_values({key: value for key, value in values.items() if key not in config.given})
    if "largest_batch" in config.auto:
        config = _with_largest_batch(config, labeled, device, dry_run)
    if config.method.name == LABELS_ONLY:
        if "network" in config.auto and "method.levels" not in config.given:
            config = config.with_values({"method.levels": LEVELS})
        if splits.validation is not None and not {*AVERAGED} & {*config.given}:
            config = config.with_values(AVERAGED)
    if unlabeled and "train.drops" not in config.given and config.train.drops == TrainConfig().drops:
        drops = METHODS[config.method.name][1].recommended_drops
        config = config.with_values({"train.drops": LATE_DROP if drops is None else drops})
    if "steps" in config.auto:
        config = config.with_values({"train.steps": _steps(config, labeled, unlabeled, device)})
    return config.with_values({"auto": ()}), _reasons(config, labeled, unlabeled, device)


def _with_largest_batch(config: RunConfig, labeled: int, device: torch.device, dry_run: DryRun) -> RunConfig:
    """The configuration with the largest batch that fits the memory of a GPU, or with the usual one of a CPU."""
    if world_size() > 1:
        raise ConfigError("`train.batch`: auto finds the batch of one process; give a number")
    if device.type != "cuda":
        return config.with_values({"train.batch": BATCH if labeled >= FEW else SMALL_BATCH})
    parts, share = config.train.accumulate, config.train.unlabeled_batch / BATCH
    size = 2 ** int(math.log2(max(1, min(MOST, labeled or MOST) // parts)))
    while size:
        batch = {"train.batch": parts * size, "train.unlabeled_batch": parts * max(1, round(size * share))}
        try:
            dry_run(config.with_values(batch))
        except torch.OutOfMemoryError:
            size //= 2
            continue
        return config.with_values(batch)
    raise RunError(f"no step of {config.model.backbone} fits the memory of {device}; choose a smaller network or input")


def box_finder_options(config: RunConfig, *, several: bool) -> RunConfig:
    """Returns the configuration of the box network of a run: the same backbone, labels alone, whole images.

    That of images with several subjects learns heatmaps with a peak for each of them.
    """
    train, side = config.train, SEVERAL_SIDE if several else BOX_FINDER_SIDE
    return config.with_values(
        {
            "data.boxes": WHOLE,
            "method": load_config(None, {"method": LABELS_ONLY}).method,
            "input.height": side,
            "input.width": side,
            **(
                {"loss.kind": "mse", "train.batch": min(train.batch, SEVERAL_BATCH), "train.accumulate": 1}
                if several
                else {}
            ),
            "input.padding": 1.0,
            "views.shift": SHIFT,
            "train.steps": min(BOX_FINDER_STEPS, train.steps or BOX_FINDER_STEPS),
            "train.drops": TrainConfig().drops,
            "train.average": 0.0,
            "train.select": "last",
            "evaluation.flip_test": False,
        },
    )


def with_shift(config: RunConfig) -> RunConfig:
    """Returns the configuration with views that are shifted as much as found boxes are off, unless it has a shift."""
    return config if config.views.shift else config.with_values({"views.shift": SHIFT})


def _unlabeled(config: RunConfig, splits: DataSplits) -> int:
    """The number of unlabeled persons that the method uses."""
    if not METHODS[config.method.name][1].uses_unlabeled:
        return 0
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    packed = sum(shard.count for shard in read_table(splits.shards, geometry)) if splits.shards else 0
    return len(splits.unlabeled or ()) + packed


def _burn_in(config: RunConfig, labeled: int) -> float:
    """The burn-in of the method: a number of steps if it is `auto`, else a fraction of the training."""
    burn_in = getattr(config.method, "burn_in", 0.0)
    return automatic_burn_in(_passes_per_step(config, labeled)) if burn_in == "auto" else float(burn_in)


def _passes_per_step(config: RunConfig, labeled: int) -> float:
    """The fraction of the labeled persons that a step of all processes uses."""
    return config.train.batch * world_size() / labeled


def _steps(config: RunConfig, labeled: int, unlabeled: int, device: torch.device) -> int:
    """The number of steps: those on the labels alone, and those with unlabeled images."""
    if not unlabeled:
        full_rate = 0.7 if config.train.drops else 1.0  # the share of the training before the rate drops by default
        return round(automatic_burn_in(_passes_per_step(config, labeled)) / full_rate)
    budget = BUDGETS["cpu" if device.type == "cpu" else "gpu"]
    wanted = math.ceil(budget.passes * unlabeled / (config.train.unlabeled_batch * world_size()))
    teaching, burn_in = min(budget.most, max(budget.least, wanted)), _burn_in(config, labeled)
    return teaching + round(burn_in) if burn_in >= 1 else math.ceil(teaching / (1 - burn_in))


def _reasons(config: RunConfig, labeled: int, unlabeled: int, device: torch.device) -> list[str]:
    """What the configuration chose, one line for the network and one for the steps."""
    cpu, train = device.type == "cpu", config.train
    why = "small enough for a CPU; a GPU would take resnet50 at 256×192" if cpu else "the usual size on a GPU"
    network = (
        f"network: {config.model.backbone} at {config.input.height}×{config.input.width}"
        + (f" ({why})" if {"network", "input"} <= {*config.auto} and "model.backbone" not in config.given else "")
        + f", batch {train.batch}"
        + (f" + {train.unlabeled_batch}" if unlabeled else "")
        + (" (the largest that fits the memory)" if "largest_batch" in config.auto and device.type == "cuda" else "")
    )
    if train.steps is None:
        return [network, f"steps: those of {train.epochs:g} epochs"]
    burn_in = _burn_in(config, labeled) if unlabeled else train.steps
    first = min(train.steps, math.ceil(burn_in if burn_in >= 1 else burn_in * train.steps))
    parts = [f"{first} on {labeled} labeled persons alone"] if first else []
    if teaching := train.steps - first:
        passes = teaching * train.unlabeled_batch * world_size() / unlabeled
        parts.append(f"{teaching} with {unlabeled} unlabeled ones ({passes:.1f} passes)")
    return [network, f"steps: {train.steps}, {', then '.join(parts)}"]
