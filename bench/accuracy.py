"""Accuracy against training time, ours against the field's usual way, taking turns in one process.

python bench/accuracy.py --data DIR [--method dual] [--steps 600] [--compile] [--options key=value ...] [--json]

DIR holds train.json and val.json, COCO containers with their photographs. Both sides start from the same weights and
make the same number of steps of the same method at the same learning rates; the usual way decodes the photograph of
every sample, works in fp32 and NCHW, with loops over samples (bench/baselines). Every `--every` steps each side is
scored, which is not part of its time, and told on the error stream; compiling (`--compile`) is part of ours. Printed:
when each side is where the usual way ends, to a fiftieth.
"""

import argparse
import copy
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from baselines.step import PlainViews, PlainWorkbench
from clock import timed
from step import make

from semipose.augment.views import ViewSampler
from semipose.config import RunConfig, load_config, parse_override
from semipose.data.crop_cache import open_crop_cache
from semipose.data.crops import CropGeometry, Crops, LazyCrops
from semipose.data.datasets import DataSplits, load_splits
from semipose.data.loader import PairedLoader
from semipose.methods.base import MethodContext, StepInfo
from semipose.training.compile import compile_networks
from semipose.training.engine import Engine, make_engine, start_fabric
from semipose.training.evaluator import Evaluator
from semipose.training.loggers import NoLog
from semipose.training.loop import phase
from semipose.training.precision import choose_precision

NOISE = 0.02
"""Two trainings of equal settings differ by more than this share of their AP; whoever comes so near has arrived."""


@dataclass
class Side:
    """One way of training: its parts, the seconds spent so far, and AP at each look."""

    config: RunConfig
    engine: Engine
    loader: PairedLoader
    evaluator: Evaluator
    log: NoLog
    waits: bool
    seconds: float = 0.0
    looks: list[dict[str, float]] = field(default_factory=list)

    def advance(self, start: int, stop: int) -> None:
        """The steps from `start` up to `stop`, then a look at the validation persons."""
        self.engine.method.train()
        self.seconds += timed(lambda: self._train(start, stop), self.engine.device)
        self.engine.method.eval()
        self.looks.append({"step": stop, "seconds": self.seconds, "AP": self.evaluator.validate(stop, self.log) or 0.0})

    def _train(self, start: int, stop: int) -> None:
        steps, device = self.config.train.steps or stop, self.engine.device
        for step, (labeled, unlabeled) in enumerate(self.loader.steps(start, stop), start):
            info = StepInfo(step, steps, step // self.loader.steps_per_epoch)
            for group in self.engine.optimizer.param_groups:
                group["lr"] = self.config.train.rate(*phase(step, steps, self.engine.method.schedule_restarts))
            on_device = unlabeled.to(device) if unlabeled is not None else None
            losses = self.engine.losses(labeled.to(device), on_device, info)
            self.engine.step(losses.total, self.config.train.clip)
            self.engine.method.after_step(info)
            if self.waits:
                losses.total.item()


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    config = load_config(None, settings(arguments))
    arguments.steps = config.train.steps
    splits = load_splits(config.data)
    with tempfile.TemporaryDirectory() as folder:
        ours, usual = both(config, splits, Path(folder))
        for start in range(0, arguments.steps, arguments.every):
            stop = min(start + arguments.every, arguments.steps)
            for name, side in (("ours", ours), ("usual", usual)):
                side.advance(start, stop)
                print(f"{name}: {json.dumps(side.looks[-1])}", file=sys.stderr, flush=True)
    found = summary(ours, usual)
    if arguments.json:
        print(json.dumps({"options": vars(arguments), "split": splits.split.hash, **found}))
        return
    for name in ("ours", "usual"):
        print(name, "  ".join(f"{look['seconds']:.0f} s {100 * look['AP']:.1f}" for look in found[name]))
    print(
        f"the usual way ends at AP {100 * found['final']:.1f}; {1 - NOISE:.0%} of it takes it "
        f"{found['usual_seconds']} s, ours {found['ours_seconds']} s; our steps are {found['ratio']:.2f} times as fast"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="dual")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--input", type=int, default=96, help="side of the square input")
    for name, default in (("labels", 800), ("steps", 600), ("every", 60), ("batch", 32), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true", help="torch.compile our networks")
    parser.add_argument("--options", nargs="*", default=[], help="key=value ..., for both sides")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Overrides of the configuration."""
    options = dict(parse_override(option) for option in arguments.options)
    return {
        "method": arguments.method, "method.burn_in": 0.3, "data.train": f"{arguments.data}/train.json",
        "data.val": f"{arguments.data}/val.json", "data.labels": arguments.labels, "data.include_labeled": False,
        "model.backbone": arguments.backbone, "model.weights": arguments.weights, "input.height": arguments.input,
        "input.width": arguments.input, "train.steps": arguments.steps, "train.batch": arguments.batch,
        "train.unlabeled_batch": arguments.batch, "train.seed": arguments.seed, "loss.sigma": 1.5,
        "train.compile": arguments.compile, **options,
    }  # fmt: skip


def both(config: RunConfig, splits: DataSplits, folder: Path) -> tuple[Side, Side]:
    """Ours and the usual way, from one set of weights."""
    torch.manual_seed(config.train.seed)
    skeleton = splits.labeled.skeleton
    size = (config.input.height, config.input.width)
    ours = make(config, MethodContext, ViewSampler, "cpu", skeleton)
    usual = copy.deepcopy(ours)  # before ours is compiled
    if config.train.channels_last:
        ours = ours.to(memory_format=torch.channels_last)
    if config.train.compile:
        compile_networks(ours)
    usual.bench = make(config, PlainWorkbench, PlainViews, "cpu", skeleton).bench
    geometry = CropGeometry(size, config.input.padding)
    assert splits.unlabeled is not None
    precision = config.train.precision
    if precision == "auto":
        precision = choose_precision(config.model, len(skeleton), torch.device("cpu"), size)
    encoding = config.data.crop_encoding
    packed = (
        open_crop_cache(splits.labeled, geometry, encoding=encoding),
        open_crop_cache(splits.unlabeled, geometry, encoding=encoding),
    )
    image_paths = LazyCrops(splits.labeled, geometry), LazyCrops(splits.unlabeled, geometry)
    return (
        side(config, splits, folder / "ours", ours, packed, precision, True),
        side(config, splits, folder / "usual", usual, image_paths, "32-true", False),
    )


def side(
    config: RunConfig,
    splits: DataSplits,
    folder: Path,
    method: nn.Module,
    crops: tuple[Crops, Crops],
    precision: str,
    fused: bool,
) -> Side:
    """One way of training, ready for its first step."""
    folder.mkdir()
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, weight_decay=config.train.weight_decay, fused=fused)
    engine = make_engine(start_fabric("cpu", precision), method, optimizer)
    batch, more, seed = config.train.batch, config.train.unlabeled_batch, config.train.seed
    loader = PairedLoader(*crops, batch=batch, unlabeled_batch=more, seed=seed)
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    evaluator = Evaluator(engine, splits, geometry, config.loss, folder, select="last", evaluation=config.evaluation)
    return Side(config, engine, loader, evaluator, NoLog(), waits=not fused)


def summary(ours: Side, usual: Side) -> dict[str, Any]:
    """When each side is where the usual way ends, but for NOISE."""
    final = usual.looks[-1]["AP"]
    there, here = (
        next((look["seconds"] for look in side.looks if look["AP"] >= (1 - NOISE) * final), None)
        for side in (usual, ours)
    )
    return {
        "final": final,
        "usual_seconds": there,
        "ours_seconds": here,
        "speedup": None if here is None or there is None else there / here,
        "ratio": usual.seconds / ours.seconds,
        "ours": ours.looks,
        "usual": usual.looks,
    }


if __name__ == "__main__":
    main()
