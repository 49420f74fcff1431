"""Time of one training step of a method, ours against the usual implementation, alternating in one process.

python bench/step.py --method dual --backbone resnet18 --input 256x192 --batch 16 --device cpu --json

All sides start from the same weights and random draws; the losses of the first step are compared before anything is
timed. `ratio` is the median over pairs of steps. A pair of samples is one labeled and one unlabeled sample. With
--graphs our step is timed twice, as it is and with its networks compiled to CUDA graphs, in turns with the other.
"""

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from baselines.step import PlainContext, PlainViews
from clock import timed

from semipose.augment.views import ViewSampler
from semipose.build import with_precision
from semipose.config import RunConfig, load_config, parse_override
from semipose.methods import METHODS, VARIANTS, build_method
from semipose.methods.base import ConsistencyConfig, Method, MethodContext, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.skeletons import COCO, Skeleton
from semipose.training.engine import Engine

LATE = StepInfo(step=99, steps=100)
"""A step after any burn-in."""
TOLERANCE = 0.02
"""Largest relative difference of the two first losses: OpenCV resamples in fixed point, ours in float32."""

WARM_UP = 2
"""Rounds that are not timed, after the first step of each side."""

Batches = tuple[LabeledBatch, UnlabeledBatch]


@dataclass
class Side:
    """One implementation of a step: calling `step` takes one."""

    step: Callable[[], None]
    first_loss: float
    first_seconds: float = 0.0
    """Duration of the first step, with the compilation."""


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    for found in (found for name in arguments.method for found in measure(name, arguments)):
        if arguments.json:
            print(json.dumps(found), flush=True)
            continue
        print(
            f"{found['method']:16s} {found['pairs_per_second']:7.2f} pairs/s ours ({found['precision']}"
            f"{', CUDA graphs' * found['cuda_graphs']}), "
            f"{found['baseline_pairs_per_second']:7.2f} usual implementation, ratio {found['ratio']:.2f}; "
            f"hard views {100 * found['views_share']:.1f} % of our step"
        )


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
    return make_parser((__doc__ or "").splitlines()[0]).parse_args()


def make_parser(description: str) -> argparse.ArgumentParser:
    """Returns the parser of the options that describe a step."""
    parser = argparse.ArgumentParser(description=description)
    known = [*METHODS, *VARIANTS]
    parser.add_argument("--method", nargs="+", default=["dual"], choices=known, metavar="METHOD")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--input", default="256x192", help="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graphs", action="store_true", help="also compiled to CUDA graphs")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--options", nargs="*", default=[], help="section.key=value ...")
    parser.add_argument("--json", action="store_true")
    return parser


def measure(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures one method, as it is and, with --graphs, compiled to CUDA graphs."""
    device = torch.device(arguments.device)
    if arguments.graphs and device.type != "cuda":
        sys.exit("--graphs: CUDA graphs need --device cuda")
    config = step_config(name, arguments)
    batches = make_batches(config, arguments.batch, device)
    method = new_method(config, device)
    plain = usual_side(config, copy.deepcopy(method), batches)
    kinds = ["", "graphs"] if arguments.graphs else [kind_of(arguments)]
    ours = [our_side(config, copy.deepcopy(method), batches, kind) for kind in kinds]
    for side, _ in ours:
        if (difference := abs(side.first_loss - plain.first_loss) / abs(plain.first_loss)) > TOLERANCE:
            sys.exit(f"{name}: losses {side.first_loss:.6g} and {plain.first_loss:.6g} differ by {difference:.0%}")
    rounds = alternate([*(side for side, _ in ours), plain], device, arguments.repeats)
    torch.compiler.reset()
    base, found = [seconds[-1] for seconds in rounds], list[dict[str, Any]]()
    for n, (kind, (side, views)) in enumerate(zip(kinds, ours, strict=True)):
        own = [seconds[n] for seconds in rounds]
        ratios = [b / a for a, b in zip(own, base, strict=True)]
        found.append({
            **settings(name, config, arguments),
            "compiled": bool(kind),
            "cuda_graphs": kind == "graphs",
            "pairs_per_second": arguments.batch / statistics.median(own),
            "baseline_pairs_per_second": arguments.batch / statistics.median(base),
            "ratio": statistics.median(ratios),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "views_share": statistics.median(timed(views, device) for _ in range(3)) / statistics.median(own),
            "first_step_seconds": side.first_seconds,
            "loss": side.first_loss,
            "baseline_loss": plain.first_loss,
        })  # fmt: skip
    return found


def kind_of(arguments: argparse.Namespace) -> str:
    """Returns the kind of step, as `our_side` takes it."""
    return "graphs" if arguments.graphs else "compile" if arguments.compile else ""


def settings(name: str, config: RunConfig, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the method, network, sizes and precision of a measurement."""
    return {
        "method": name,
        "backbone": arguments.backbone,
        "input": arguments.input,
        "batch": arguments.batch,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "precision": config.train.precision,
    }


def step_config(method: str, arguments: argparse.Namespace) -> RunConfig:
    """Returns the configuration that the command line asks for, its precision resolved."""
    height, width = map(int, arguments.input.split("x"))
    overrides = {
        "method": method,
        "model.backbone": arguments.backbone,
        "model.weights": "none",
        "input.height": height,
        "input.width": width,
        "train.precision": arguments.precision,
        **({"method.burn_in": 0.0} if method == "late_teacher" else {}),  # its default is longer than `LATE`
        **dict(parse_override(option) for option in arguments.options),
    }
    return with_precision(load_config(None, overrides), COCO, torch.device(arguments.device))


def alternate(sides: Sequence[Side], device: torch.device, repeats: int) -> list[list[float]]:
    """Returns the seconds of all sides' steps, taken in turns; the first rounds warm up and are left out.

    CUDA graphs are recorded in the second and third step.
    """
    return [[timed(side.step, device) for side in sides] for _ in range(repeats + WARM_UP)][WARM_UP:]


def make_batches(config: RunConfig, batch: int, device: torch.device) -> Batches:
    """Draws smooth random crops of 1.5 times the input's size, with joints in their middle."""
    generator = torch.Generator().manual_seed(0)
    height, width = config.input.height, config.input.width
    side = round(1.5 * max(height, width))

    def crops() -> torch.Tensor:
        coarse = torch.rand(batch, 3, 12, 12, generator=generator) * 255
        return nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255).byte().to(device)

    to_input = torch.eye(3).repeat(batch, 1, 1)
    to_input[:, 0, 2], to_input[:, 1, 2] = (width - side) / 2, (height - side) / 2
    middle = torch.tensor([side / 2, side / 2])
    spread = torch.tensor([width / 4, height / 4])
    joints = middle + (2 * torch.rand(batch, len(COCO), 2, generator=generator) - 1) * spread
    weights = (torch.rand(batch, len(COCO), generator=generator) < 0.9).float()
    to_input = to_input.to(device)
    return LabeledBatch(crops(), to_input, joints.to(device), weights.to(device)), UnlabeledBatch(crops(), to_input)


def new_method(config: RunConfig, device: torch.device) -> Method:
    """Returns a method with seeded weights on the device."""
    torch.manual_seed(0)
    return build(config, MethodContext, ViewSampler, device).to(device)


def build(
    config: RunConfig,
    context: type[MethodContext],
    sampler: type[ViewSampler],
    device: torch.device,
    skeleton: Skeleton = COCO,
) -> Method:
    """Returns a method that works with one or the other kind of context and views."""
    size = (config.input.height, config.input.width)
    generator = torch.Generator(device).manual_seed(1)
    views = sampler(config.views, skeleton, size, config.loss.sigma, generator)

    def network(backbone: str | None, levels: int) -> PoseNet:
        return PoseNet(config.model, len(skeleton), levels)

    return build_method(config.method, context(views, config.loss.build(), network, lambda _: network(None, 1)))


def usual_side(config: RunConfig, method: Method, batches: Batches) -> Side:
    """Returns the usual implementation: fp32, NCHW, loops, a plain optimizer, the loss read on the host."""
    method.context = build(config, PlainContext, PlainViews, batches[0].crops.device).context
    method.train()
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-4)

    def step() -> float:
        losses = method.losses(*batches, LATE)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        method.after_step(LATE)
        return float(losses.total.item())

    return Side(step, step())  # type: ignore[arg-type]


def our_side(config: RunConfig, method: Method, batches: Batches, kind: str = "") -> tuple[Side, Callable[[], None]]:
    """Returns our implementation, as a training runs it, and a function that makes the hard views of one step.

    `kind` is empty, `compile` for compiled networks, or `graphs` for those with CUDA graphs.
    """
    method = method.to(memory_format=torch.channels_last)
    engine = make_engine(config, method, batches[0].crops.device)
    if kind:
        engine.compile(cuda_graphs=kind == "graphs")

    def step() -> None:
        losses = engine.losses(*batches, LATE)
        engine.step(losses.total, None)
        engine.method.after_step(LATE)
        totals.append(losses.total.detach())

    totals: list[torch.Tensor] = []
    seconds = timed(step, batches[0].crops.device)
    first = float(totals[0])
    context = method.context
    easy = context.views.easy(batches[1])
    heatmaps = torch.rand(len(easy), len(COCO), *context.views.heatmap_size, device=easy.images.device)
    lists = config.method.hard_view_augmentations() if isinstance(config.method, ConsistencyConfig) else []
    trained = sum(isinstance(m, PoseNet) and any(p.requires_grad for p in m.parameters()) for m in method.modules())

    def views() -> None:
        for augmentations in lists * min(2, trained):
            context.hard_view(easy, heatmaps, augmentations)

    return Side(step, first, seconds), views


def make_engine(config: RunConfig, method: Method, device: torch.device) -> Engine:
    """Returns the engine of a training, in train mode, with a fused Adam."""
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)
    engine = Engine(method, optimizer, device, config.train.precision)
    engine.method.train()
    return engine


if __name__ == "__main__":
    main()
