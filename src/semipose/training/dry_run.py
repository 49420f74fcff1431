"""Steps that are computed before a training without being taken: of which kinds there are, and on blank images."""

from collections.abc import Callable

import torch

from semipose.data.crops import CropGeometry
from semipose.methods.base import Method, StepInfo
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.training.config import TrainConfig
from semipose.training.engine import Engine

SAMPLED = 1000
"""Number of steps among which the first one with unlabeled images is looked for."""


def kinds_of_steps(method: Method, info: Callable[[int], StepInfo], start: int, steps: int) -> list[StepInfo]:
    """Returns the next step, about the first one with unlabeled images, and the last.

    Args:
        method: The method.
        info: The position of a step by its number.
        start: Number of the next step.
        steps: Number of steps of the training.
    """
    infos = [*map(info, range(start, steps, max(1, steps // SAMPLED))), info(steps - 1)]
    return [infos[0], next((i for i in infos if method.unlabeled_weight(i) > 0), infos[0]), infos[-1]]


def dry_run_training(engine: Engine, geometry: CropGeometry, config: TrainConfig, joints: int, labeled: int) -> None:
    """Computes steps of each kind on blank images, with memory for the state of Adam; raises what they raise.

    Args:
        engine: The engine of the training.
        geometry: The geometry of its crops.
        config: Its options.
        joints: Number of joints.
        labeled: Number of labeled persons; without any, the labeled batch is empty.
    """
    steps, device = config.steps or 100 * SAMPLED, engine.device
    batch = config.batch // config.accumulate if labeled else 0
    unlabeled_batch = config.unlabeled_batch // config.accumulate

    def info(step: int) -> StepInfo:
        return StepInfo(step, steps, passes_per_step=config.batch / max(1, labeled))

    def blank(count: int) -> UnlabeledBatch:
        crops = torch.zeros(count, 3, *geometry.crop_size, dtype=torch.uint8, device=device)
        to_input = torch.from_numpy(geometry.to_input).float().repeat(count, 1, 1)
        return UnlabeledBatch(crops, to_input.to(device))

    persons, unlabeled = blank(batch), blank(unlabeled_batch) if engine.method.uses_unlabeled else None
    places, weights = torch.zeros(batch, joints, 2, device=device), torch.ones(batch, joints, device=device)
    trained = [p for group in engine.optimizer.param_groups for p in group["params"]]
    state = [torch.empty_like(p) for p in trained for _ in range(2)]
    engine.method.train()
    labels = LabeledBatch(persons.crops, persons.to_input, places, weights)
    engine.dry_run(labels, unlabeled, kinds_of_steps(engine.method, info, 0, steps))
    del state
