"""Cost of the studies of the papers' tables: optimizer steps, floating-point operations, GPU hours and memory.

python bench/cost.py [--tflops 100] [--json]

Nothing is trained. FLOPs and saved activations of one pass are counted on PyTorch's meta device, passes per step by
running a tiny step (`semipose methods`), steps from the protocol's epochs and the published numbers of persons. Hours =
FLOPs / (tflops × 10¹²), where --tflops is the rate that a GPU sustains (bench/mfu.py measures it).
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from semipose.methods.cost import step_cost
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.studies.grid import StudyGrid, StudyRun, load_grid, presets

LABELED = {"train2017": 149_813, "mpii": 22_246}
"""Persons of the labeled sets, as published, by a part of the file's path."""
UNLABELED = {"unlabeled2017": 149_813, "ai_challenger": 378_352}
"""The same of the sets without labels; for WILD, whose boxes come from the user, as many as in COCO."""


def main() -> None:
    """Computes and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tflops", type=float, default=100.0, help="sustained rate of one GPU, 10^12 FLOP a second")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [row for name in presets() for row in study_cost(name, arguments.tflops)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print("| study | runs | optimizer steps | 10¹⁸ FLOP | GPU hours | longest run, hours | memory, GB |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| `{r['study']}` | {r['runs']} | {r['steps']:,} | {r['exaflop']:.1f} | {r['hours']:.0f} | "
            f"{r['longest_hours']:.1f} | {r['memory']:.0f} |"
        )


def study_cost(name: str, tflops: float) -> Iterator[dict[str, Any]]:
    """Yields one row for a study of the papers' tables; none for those that run on a CPU."""
    grid = load_grid(name)
    if labeled_persons(grid) is None:
        return
    runs = [run_cost(grid, run) for run in grid.runs()]
    hours = [c["flop"] / (tflops * 1e12) / 3600 for c in runs]
    yield {
        "study": name,
        "runs": len(runs),
        "steps": sum(c["steps"] for c in runs),
        "exaflop": sum(c["flop"] for c in runs) / 1e18,
        "hours": sum(hours),
        "longest_hours": max(hours),
        "memory": max(c["memory"] for c in runs),
    }


def labeled_persons(grid: StudyGrid) -> int | None:
    """Returns the number of persons of the study's labeled set; None for other sets than the papers'."""
    return next((n for part, n in LABELED.items() if part in grid.data.get("data.train", "")), None)


def persons_of_epoch(grid: StudyGrid, run: StudyRun) -> int:
    """Returns the number of persons of an epoch: the labeled ones of a supervised run, else the unlabeled ones."""
    config, labeled = grid.run_config(run), labeled_persons(grid)
    assert labeled is not None
    labels = min(run.labels or labeled, labeled)
    if config.method.name == "supervised":
        return labels
    remaining = labeled - labels if config.data.include_remaining else 0
    persons = remaining + sum(n for part, n in UNLABELED.items() if part in grid.data.get("data.unlabeled", ""))
    return min(persons, config.data.max_unlabeled or persons)


def run_cost(grid: StudyGrid, run: StudyRun) -> dict[str, float]:
    """Returns steps, FLOPs and memory in GB of a run."""
    config = grid.run_config(run)
    steps = config.train.total_steps(max(1, -(-persons_of_epoch(grid, run) // config.train.unlabeled_batch)))
    cost = step_cost(config.method)
    size = (config.input.height, config.input.width)
    levels = getattr(config.method, "levels", 1)
    flop, saved, weights = one_pass(config.model.backbone, config.model.head_channels, size, levels)
    # weights, gradients and both Adam moments in fp32 for networks that are trained, weights alone for averages
    memory = cost.networks * weights * 16 + cost.trained * saved * config.train.batch / 2
    return {"steps": steps, "flop": cost.units * flop * config.train.batch * steps, "memory": memory / 1e9}


@cache
def one_pass(backbone: str, channels: int, size: tuple[int, int], levels: int) -> tuple[float, float, float]:
    """Returns FLOPs and bytes saved for the backward pass (fp32; half in bf16) of one sample, and the parameters."""
    with torch.device("meta"):
        network = PoseNet(ModelConfig(backbone=backbone, weights="none", head_channels=channels), 17, levels)
        images = torch.randn(2, 3, *size)
    own = {p.data_ptr() for p in network.parameters()} - {0}
    parameters = {id(p) for p in network.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in parameters and tensor.data_ptr() not in own and tensor.dim() == 4:
            saved[id(tensor)] = tensor.numel() * tensor.element_size()
            kept.append(tensor)
        return tensor

    kept: list[torch.Tensor] = []
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(note, lambda tensor: tensor):
        network(images)
    return counter.get_total_flops() / 2, sum(saved.values()) / 2, sum(p.numel() for p in network.parameters())


if __name__ == "__main__":
    main()
