"""Accuracy against training time, ours against the usual implementation, alternating in one process.

python bench/accuracy.py --data DIR [--method dual] [--steps 600] [--compile] [--options key=value ...] [--json]

DIR holds train.json and val.json, COCO keypoint files with their images. Both sides start from the same weights and
take the same number of steps of the same method at the same learning rates; the usual implementation decodes the image
of every sample and works in fp32 and NCHW with loops over samples (bench/baselines). Every `--every` steps each side
is evaluated, which is not part of its time, and prints its AP on standard error; compiling (`--compile`) is part of
our time. The result is the time at which each side reaches 98 % of the final AP of the usual implementation.
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

sys.path.insert(0, str(Path(__file__).parent))
from baselines.step import PlainContext, PlainViews
from clock import timed
from step import build

from semipose.augment.views import ViewSampler
from semipose.build import with_precision
from semipose.config import RunConfig, load_config, parse_override
from semipose.data.crop_cache import open_crop_cache
from semipose.data.crops import CropGeometry, Crops, LazyCrops
from semipose.data.datasets import DataSplits, load_splits
from semipose.data.loader import PairedLoader
from semipose.methods.base import Method, MethodContext, StepInfo
from semipose.training.compile import compile_networks
from semipose.training.engine import Engine
from semipose.training.evaluator import Evaluator
from semipose.training.loggers import MetricsLog
from semipose.training.optim import learning_rate

NOISE = 0.02
"""Two trainings of equal settings differ by more than this share of their AP."""


@dataclass
class Side:
    """One implementation of the training: its parts, the seconds spent so far, and AP at each evaluation."""

    config: RunConfig
    engine: Engine
    loader: PairedLoader
    evaluator: Evaluator
    waits: bool
    seconds: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)

    def advance(self, start: int, stop: int) -> None:
        """Takes the steps from `start` up to `stop`, then evaluates on the validation persons."""
        self.engine.method.train()
        self.seconds += timed(lambda: self._train(start, stop), self.engine.device)
        self.engine.method.eval()
        validation = self.evaluator.validate(stop, MetricsLog())
        self.evaluations.append({"step": stop, "seconds": self.seconds, "AP": validation.score if validation else 0.0})

    def _train(self, start: int, stop: int) -> None:
        steps, device = self.config.train.steps or stop, self.engine.device
        for step, (labeled, unlabeled) in enumerate(self.loader.steps(start, stop), start):
            info = StepInfo(step, steps)
            for group in self.engine.optimizer.param_groups:
                group["lr"] = learning_rate(self.config.train, step, steps, self.engine.method.schedule_restarts)
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
    config = with_precision(config, splits.labeled.skeleton, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        ours, usual = both(config, splits, Path(folder))
        for start in range(0, arguments.steps, arguments.every):
            stop = min(start + arguments.every, arguments.steps)
            for name, side in (("ours", ours), ("usual", usual)):
                side.advance(start, stop)
                print(f"{name}: {json.dumps(side.evaluations[-1])}", file=sys.stderr, flush=True)
    found = summary(ours, usual)
    if arguments.json:
        print(json.dumps({"options": vars(arguments), "split": splits.split.hash, **found}))
        return
    for name in ("ours", "usual"):
        print(name, "  ".join(f"{entry['seconds']:.0f} s {100 * entry['AP']:.1f}" for entry in found[name]))
    print(
        f"the usual implementation ends at AP {100 * found['final']:.1f}; {1 - NOISE:.0%} of it takes it "
        f"{found['usual_seconds']} s, ours {found['ours_seconds']} s; our steps are {found['ratio']:.2f} times as fast"
    )


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
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
    """Returns overrides of the configuration."""
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
    """Returns our and the usual implementation, starting from the same weights."""
    torch.manual_seed(config.train.seed)
    skeleton, device = splits.labeled.skeleton, torch.device("cpu")
    ours = build(config, MethodContext, ViewSampler, device, skeleton)
    usual = copy.deepcopy(ours)  # before ours is compiled
    if config.train.channels_last:
        ours = ours.to(memory_format=torch.channels_last)
    if config.train.compile:
        compile_networks(ours)
    usual.context = build(config, PlainContext, PlainViews, device, skeleton).context
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    assert splits.unlabeled is not None
    encoding = config.data.crop_encoding
    cached = (
        open_crop_cache(splits.labeled, geometry, encoding=encoding),
        open_crop_cache(splits.unlabeled, geometry, encoding=encoding),
    )
    decoded = LazyCrops(splits.labeled, geometry), LazyCrops(splits.unlabeled, geometry)
    return (
        side(config, splits, folder / "ours", ours, cached, config.train.precision, fused=True),
        side(config, splits, folder / "usual", usual, decoded, "32-true", fused=False),
    )


def side(
    config: RunConfig,
    splits: DataSplits,
    folder: Path,
    method: Method,
    crops: tuple[Crops, Crops],
    precision: str,
    *,
    fused: bool,
) -> Side:
    """Returns one implementation, ready for its first step."""
    folder.mkdir()
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, weight_decay=config.train.weight_decay, fused=fused)
    engine = Engine(method, optimizer, torch.device("cpu"), precision)
    options = config.train
    loader = PairedLoader(*crops, batch=options.batch, unlabeled_batch=options.unlabeled_batch, seed=options.seed)
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    evaluator = Evaluator(engine, splits, geometry, config.loss, folder, select="last", evaluation=config.evaluation)
    return Side(config, engine, loader, evaluator, waits=not fused)


def summary(ours: Side, usual: Side) -> dict[str, Any]:
    """Returns when each side reaches the final AP of the usual implementation, less NOISE."""
    final = usual.evaluations[-1]["AP"]
    usual_seconds, our_seconds = (
        next((entry["seconds"] for entry in side.evaluations if entry["AP"] >= (1 - NOISE) * final), None)
        for side in (usual, ours)
    )
    return {
        "final": final,
        "usual_seconds": usual_seconds,
        "ours_seconds": our_seconds,
        "speedup": None if our_seconds is None or usual_seconds is None else usual_seconds / our_seconds,
        "ratio": usual.seconds / ours.seconds,
        "ours": ours.evaluations,
        "usual": usual.evaluations,
    }


if __name__ == "__main__":
    main()
