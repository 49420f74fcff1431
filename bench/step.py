"""Time of one training step of a method, ours against the field's usual way, alternating in one process.

python bench/step.py --method dual --backbone resnet18 --input 256x192 --batch 16 --device cpu --json

Both sides start from the same weights and draws; the losses of the first step are compared before anything is timed.
`ratio` is the median over the pairs; a pair of samples is one labeled and one unlabeled sample.
"""

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from baselines.step import PlainViews, PlainWorkbench
from clock import timed

from semipose.augment.views import ViewSampler
from semipose.config import RunConfig, load_config, parse_override
from semipose.methods import METHODS, VARIANTS, build_method
from semipose.methods.base import MethodContext, StepInfo
from semipose.models.pose_net import PoseNet
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.skeletons import COCO, Skeleton
from semipose.training.compile import compile_networks
from semipose.training.engine import make_engine, start_fabric
from semipose.training.precision import choose_precision

LATE = StepInfo(step=99, steps=100, epoch=1)
"""Behind any burn-in."""
TOLERANCE = 0.02
"""Relative difference of the two first losses: bilinear resampling in fixed point (OpenCV) against float32."""


@dataclass
class Side:
    """A way of making a step: calling it makes one."""

    step: Callable[[], None]
    first_loss: float


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    results = [measure(name, arguments) for name in arguments.method]
    if arguments.json:
        print(json.dumps(results[0] if len(results) == 1 else results))
        return
    for found in results:
        print(
            f"{found['method']:16s} {found['pairs_per_second']:7.2f} pairs/s ours ({found['precision']}), "
            f"{found['baseline_pairs_per_second']:7.2f} the usual way, ratio {found['ratio']:.2f}; "
            f"hard views {100 * found['views_share']:.1f} % of our step"
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = [*METHODS, *VARIANTS]
    parser.add_argument("--method", nargs="+", default=["dual"], choices=known, metavar="METHOD")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--input", default="256x192", help="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graphs", action="store_true", help="compiled, as CUDA graphs")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--options", nargs="*", default=[], help="method.key=value ...")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One method."""
    height, width = map(int, arguments.input.split("x"))
    options = dict(parse_override(option) for option in arguments.options)
    config = load_config(
        None,
        {
            "method": name, "model.backbone": arguments.backbone, "model.weights": "none", "input.height": height,
            "input.width": width, "train.precision": arguments.precision, **options,
        },
    )  # fmt: skip
    if arguments.graphs and torch.device(arguments.device).type != "cuda":
        sys.exit("--graphs: CUDA graphs need --device cuda")
    batches = make_batches(config, arguments.batch, torch.device(arguments.device))
    start = networks(config, arguments.device)
    plain = the_usual_way(config, copy.deepcopy(start), batches)
    ours, precision, views = our_way(config, start, batches, arguments)
    difference = abs(ours.first_loss - plain.first_loss) / abs(plain.first_loss)
    if difference > TOLERANCE:
        sys.exit(f"{name}: the two sides differ: loss {ours.first_loss:.6g} and {plain.first_loss:.6g}")
    device = torch.device(arguments.device)
    pairs = in_turns(ours, plain, arguments)
    seconds = statistics.median(a for a, _ in pairs)
    return {
        "method": name,
        "backbone": arguments.backbone,
        "input": arguments.input,
        "batch": arguments.batch,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "compiled": arguments.compile or arguments.graphs,
        "cuda_graphs": arguments.graphs,
        "pairs_per_second": arguments.batch / seconds,
        "baseline_pairs_per_second": arguments.batch / statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratios": [round(b / a, 3) for a, b in pairs],
        "views_share": statistics.median(timed(views, device) for _ in range(3)) / seconds,
        "loss": ours.first_loss,
        "baseline_loss": plain.first_loss,
    }


def in_turns(one: Side, other: Side, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Seconds of both sides' steps, one after the other; the first pair warms up and is left out."""
    device = torch.device(arguments.device)
    return [(timed(one.step, device), timed(other.step, device)) for _ in range(arguments.repeats + 1)][1:]


def make_batches(config: RunConfig, batch: int, device: torch.device) -> tuple[LabeledBatch, UnlabeledBatch]:
    """Smooth random crops one and a half times the input's size with joints in their middle."""
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


def networks(config: RunConfig, device: str) -> nn.Module:
    """A new method on the device; both sides start from its weights."""
    torch.manual_seed(0)
    return make(config, MethodContext, ViewSampler, device).to(device)


def make(
    config: RunConfig, bench: type[MethodContext], sampler: type[ViewSampler], device: str, skeleton: Skeleton = COCO
) -> Any:
    """The method over one or the other kind of workbench."""
    size = (config.input.height, config.input.width)
    generator = torch.Generator(device).manual_seed(1)
    views = sampler(config.views, skeleton, size, config.loss.sigma, generator)

    def network(backbone: str | None, levels: int) -> PoseNet:
        return PoseNet(config.model, len(skeleton), levels)

    return build_method(config.method, bench(views, config.loss.build(), network, lambda _: network(None, 1)))


def the_usual_way(config: RunConfig, method: Any, batches: tuple[LabeledBatch, UnlabeledBatch]) -> Side:
    """fp32, NCHW, loops, a plain optimizer, and the loss read on the host."""
    device = str(batches[0].crops.device)
    method.bench = make(config, PlainWorkbench, PlainViews, device).bench
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


def our_way(
    config: RunConfig, method: Any, batches: tuple[LabeledBatch, UnlabeledBatch], arguments: argparse.Namespace
) -> tuple[Side, str, Callable[[], None]]:
    """As `semipose train` does it; also the hard views of one step alone."""
    precision = (
        choose_precision(config.model, len(COCO), batches[0].crops.device, (config.input.height, config.input.width))
        if config.train.precision == "auto"
        else config.train.precision
    )
    method = method.to(memory_format=torch.channels_last)
    if arguments.compile or arguments.graphs:
        compile_networks(method, cuda_graphs=arguments.graphs)
    fabric = start_fabric(arguments.device, precision)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)
    engine = make_engine(fabric, method, optimizer, cuda_graphs=arguments.graphs)
    engine.method.train()

    def step() -> None:
        losses = engine.losses(*batches, LATE)
        engine.step(losses.total, None)
        engine.method.after_step(LATE)
        seen.append(losses.total.detach())

    seen: list[torch.Tensor] = []
    step()
    first = float(seen[0])
    bench, augmentations = engine.method.bench, getattr(config.method, "augmentations", [])
    easy = bench.views.easy(batches[1])
    heatmaps = torch.rand(len(easy), len(COCO), *bench.views.heatmap_size, device=easy.images.device)
    hard_views = sum(isinstance(m, PoseNet) and any(p.requires_grad for p in m.parameters()) for m in method.modules())

    def views() -> None:
        for _ in range(1 if config.method.name in ("single", "mean_teacher") else min(2, hard_views)):
            bench.hard_view(easy, heatmaps, augmentations)

    return Side(step, first), precision, views


if __name__ == "__main__":
    main()
