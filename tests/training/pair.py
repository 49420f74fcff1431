"""A program that two processes run together, and what it does alone: steps of every method, from the same draws.

python -m tests.training.pair PEOPLE.json OUT       with RANK, LOCAL_RANK, WORLD_SIZE and the others of a launcher
"""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semipose.augment.views import ViewSampler
from semipose.config import load_config
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.loader import PairedLoader
from semipose.methods import METHODS
from semipose.methods.base import StepInfo
from semipose.training.distributed import Plan, plan_processes, together
from semipose.training.engine import Fabric, make_engine, start_fabric

STEPS, JOINT = 2, 4
"""Steps of each method, and samples of each kind in a step over all processes."""
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in METHODS},
    "efficientnet": {"method": "mean_teacher", "model.backbone": "test_efficientnet"},
}
APART = ("mean_teacher", "pseudopose", "sspcm", "trs")
"""Methods that are also run with BatchNorm in each process alone: those with averages, copies and phases."""


class JointSampler(ViewSampler):
    """Draws for the joint batch, as one process would, and takes the rows of its own process."""

    place = (0, 1)

    def _normal(self, batch: int, device: torch.device) -> Tensor:
        rank, world = self.place
        return super()._normal(batch * world, device)[rank * batch : (rank + 1) * batch]

    def _uniform(self, batch: int, device: torch.device) -> Tensor:
        rank, world = self.place
        return super()._uniform(batch * world, device)[rank * batch : (rank + 1) * batch]


def steps(name: str, people: Path, fabric: Fabric, sync: bool) -> dict[str, Tensor]:
    """The state of a method after its steps, and each step's total."""
    options: dict[str, Any] = {
        "input.height": 32, "input.width": 32, "model.backbone": "test_resnet", "model.weights": "none",
        "model.head_channels": 8, **VARIANTS[name],
    }  # fmt: skip
    if "paths" in METHODS[options["method"]][0].model_fields:
        options["method.paths"] = [[]]
    elif "hard" in METHODS[options["method"]][0].model_fields:
        options["method.augmentations"] = []
    config = load_config(None, options)
    persons = read_coco(people, PEOPLE / "images")
    crops = LazyCrops(persons, CropGeometry((32, 32)))
    rank, world = fabric.global_rank, fabric.world_size
    loader = PairedLoader(
        crops, crops, batch=JOINT // world, unlabeled_batch=JOINT // world, seed=3, rank=rank, world=world
    )
    torch.manual_seed(0)
    JointSampler.place, run.ViewSampler = (rank, world), JointSampler  # type: ignore[misc]
    method = run.make_method(config, persons.skeleton, torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    engine = make_engine(fabric, method, optimizer, sync_batch_norm=sync)
    method.train()
    found = {}
    for step in range(STEPS):
        progress = StepInfo(step, STEPS, step, ends_epoch=True)
        losses = engine.losses(*loader.load(step), progress)
        assert bool(engine.step(losses.total, None))
        engine.method.after_step(progress)
        found[f"total {step}"] = engine.mean(losses.total.detach())
    return found | {n: t.detach().clone() for n, t in engine.method.state_dict().items()}


class Line(nn.Module):
    """A method of one number whose loss is what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def losses(self, offset: float) -> Tensor:
        return self.weight.sum() * 0.5 + offset


def not_finite(fabric: Fabric) -> list[float]:
    """The number after each of three steps; in the second, one process has an infinite loss, and a good gradient."""
    method, found = Line(), []
    engine = make_engine(fabric, method, torch.optim.SGD(method.parameters(), lr=1.0))
    for step in range(3):
        bad = step == 1 and fabric.global_rank == fabric.world_size - 1
        engine.step(engine.losses(math.inf if bad else 0.0), None)
        found.append(float(method.weight))
    return found


def main(people: Path, out: Path) -> None:
    """All of it, to one file a process."""
    torch.set_num_threads(1)
    plan = plan_processes("cpu", 1, 1)
    with together(plan):
        fabric = start_fabric("cpu", "32-true", plan)
        found: dict[str, Any] = {
            "synchronized": {name: steps(name, people, fabric, True) for name in VARIANTS},
            "apart": {name: steps(name, people, fabric, False) for name in APART},
            "not finite": not_finite(fabric),
        }
        torch.save(found, out / f"{plan.rank}.pt")


def alone(people: Path) -> dict[str, dict[str, Tensor]]:
    """The same steps with the joint batch in this process."""
    fabric = start_fabric("cpu", "32-true", Plan())
    try:
        return {name: steps(name, people, fabric, False) for name in VARIANTS}
    finally:
        run.ViewSampler = ViewSampler  # type: ignore[misc]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
