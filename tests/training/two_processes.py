"""A program that torchrun runs in two processes, and the same work in one process: tests/training/test_distributed.py.

python -m torch.distributed.run --nnodes 2 --nproc-per-node 1 -m tests.training.two_processes PEOPLE.json OUT
"""

import math
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from semipose import build, trainer
from semipose.augment.views import ViewSampler
from semipose.config import RunConfig, load_config
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.loader import PairedLoader
from semipose.methods import METHODS
from semipose.methods.base import StepInfo
from semipose.training.distributed import all_gather, all_max, all_mean, launch, process_group, rank, world_size
from semipose.training.engine import Engine
from semipose.training.loop import Training
from semipose.training.signals import InterruptedTrainingError
from tests.conftest import TINY
from tests.training.line import Line

STEPS, JOINT_BATCH = 2, 4
CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in METHODS},
    "efficientnet": {"method": "mean_teacher", "model.backbone": "test_efficientnet"},
}
"""Every method, and a backbone of another kind."""
BATCH_NORM = ("mean_teacher", "pseudopose", "sspcm", "trs")
"""Methods that are also trained with BatchNorm in train mode: those with averages, copies and phases."""


class JointSampler(ViewSampler):
    """Draws for the joint batch, as one process would, and takes the rows of its own process."""

    def _normal(self, batch: int, device: torch.device) -> Tensor:
        return super()._normal(batch * world_size(), device)[rank() * batch : (rank() + 1) * batch]

    def _uniform(self, batch: int, device: torch.device) -> Tensor:
        return super()._uniform(batch * world_size(), device)[rank() * batch : (rank() + 1) * batch]


def method_config(name: str) -> RunConfig:
    """The configuration of a method without augmentations, whose draws are not per sample."""
    options = {
        "input.height": 32, "input.width": 32, "model.backbone": "test_resnet", "model.weights": "none",
        "model.head_channels": 8, **MODELS[name],
    }  # fmt: skip
    fields = METHODS[options["method"]][0].model_fields
    options |= {f"method.{key}": value for key, value in (("paths", [[]]), ("augmentations", [])) if key in fields}
    if "teacher_mode" in fields:
        options["method.teacher_mode"] = "eval"
    return load_config(None, options)


def train_steps(name: str, people: Path, *, batch_norm: bool) -> dict[str, Tensor]:
    """The total loss of each step, and the method's state after the last.

    Without `batch_norm` BatchNorm uses its running averages, so that no sample depends on the others of its batch.
    """
    config, persons = method_config(name), read_coco(people, PEOPLE / "images")
    crops = LazyCrops(persons, CropGeometry((32, 32)))
    batch = JOINT_BATCH // world_size()
    loader = PairedLoader(
        crops, crops, batch=batch, unlabeled_batch=batch, seed=3, rank=rank(), world_size=world_size()
    )
    torch.manual_seed(0)
    with mock.patch.object(build, "ViewSampler", JointSampler):
        method = build.make_method(config, persons.skeleton, torch.Generator().manual_seed(1))
    engine = Engine(method, torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05), CPU)
    method.train(batch_norm)
    found = {}
    for step in range(STEPS):
        info = StepInfo(step, STEPS, ends_epoch=True)
        losses = engine.losses(*loader.load(step), info)
        assert bool(engine.step(losses.total, None))
        method.after_step(info)
        found[f"total {step}"] = all_mean(losses.total.detach())
    return found | {n: t.detach().clone() for n, t in method.state_dict().items()}


def skipped_steps() -> list[float]:
    """A weight after each of three steps; in the second the loss of the last process is infinite."""
    method, found = Line(), []
    engine = Engine(method, torch.optim.SGD(method.parameters(), lr=1.0), CPU)
    for step in range(3):
        method.slope, method.offset = 0.5, math.inf if step == 1 and rank() == world_size() - 1 else 0.0
        engine.step(engine.losses(None, None, StepInfo(step, 3)).total, None)
        found.append(float(method.weight.detach()))
    return found


def run_config(people: Path) -> RunConfig:
    """A training of seconds."""
    changes = {
        "data.train": str(people), "data.images": str(PEOPLE / "images"), "data.labels": 12, "data.validation": 4,
        "method": "mean_teacher", "train.batch": 2, "train.unlabeled_batch": 2, "train.steps": 8,
        "train.checkpoint_every": 3,
    }  # fmt: skip
    return load_config(None, {**TINY, **changes})


def interrupted_at(step: int) -> Any:
    """A patch with which SIGINT arrives in the main process while it takes a step."""
    take = Training.step

    def interrupted(self: Training, *batches: Any) -> None:
        if self.state.step == step and rank() == 0:
            os.kill(os.getpid(), signal.SIGINT)
        take(self, *batches)

    return mock.patch.object(Training, "step", interrupted)


def main(people: Path, out: Path) -> None:
    """Writes one file per process, and two runs of which one was interrupted."""
    torch.set_num_threads(1)
    with process_group(CPU):
        found: dict[str, Any] = {
            "joint batch": {name: train_steps(name, people, batch_norm=False) for name in MODELS},
            "batch norm": {name: train_steps(name, people, batch_norm=True) for name in BATCH_NORM},
            "skipped": skipped_steps(),
            "gathered": all_gather({"rank": rank()}),
            "largest": all_max(3 - rank()),
            "launch": launch(),
        }
    torch.save(found, out / f"{rank()}.pt")
    trainer.train(run_config(people), out / "whole")
    try:
        with interrupted_at(4):
            trainer.train(run_config(people), out / "stopped")
    except InterruptedTrainingError as error:
        assert error.signal == signal.SIGINT
    else:
        raise AssertionError("not interrupted")
    trainer.train(run_config(people), out / "stopped", resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
