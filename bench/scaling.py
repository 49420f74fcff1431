"""Training steps of one process and of several, alternating in the same processes.

torchrun --nproc-per-node 2 bench/scaling.py [--method dual] [--backbone resnet18] [--batch 8] [--json]

Every process takes batches of `--batch`. While one works alone the others wait and take no CPU. `ratio` is samples a
second of all over those of one (a process has one core, or one GPU); `ratio_all_cores` compares with one process that
has the cores of all. `shared_megabytes` is what each process sends and receives in a step (gradients, in fp32).
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from clock import timed
from step import LATE, Batches, make_batches, make_engine, new_method, step_config

from semipose.config import RunConfig
from semipose.methods import METHODS, VARIANTS
from semipose.training.distributed import barrier, is_main_process, process_device, process_group, world_size
from semipose.training.precision import AUTOCAST_DTYPES


def main() -> None:
    """Measures in all processes and prints in the first."""
    arguments = parse()
    if world_size() == 1:
        sys.exit("start several processes: torchrun --nproc-per-node 2 bench/scaling.py")
    arguments.options = []
    config = step_config(arguments.method, arguments)
    device = process_device(arguments.device, 0)
    with process_group(device):
        found = measure(config, arguments, device)
    if is_main_process():
        print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", default="dual", choices=[*METHODS, *VARIANTS], metavar="METHOD")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--input", default="256x192", help="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=8, help="samples of each kind per step and process")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--steps", type=int, default=2, help="steps that are timed at a time")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(config: RunConfig, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Alternates: one process with one core, one with all cores (on CPUs), all of them."""
    batches = make_batches(config, arguments.batch, device)
    single = step_alone(config, device, batches)
    together = step_together(config, device, batches)

    def run(step: Callable[[], None], threads: int) -> float:
        torch.set_num_threads(threads)
        return timed(lambda: [step() for _ in range(arguments.steps)], device) / arguments.steps

    sides: dict[str, Callable[[], float]] = {"one": lambda: run(single, 1) if is_main_process() else 0.0}
    if arguments.device == "cpu":
        sides["one_all_cores"] = lambda: run(single, world_size()) if is_main_process() else 0.0
    sides["all"] = lambda: run(together, 1)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.repeats + 1):
        for name, side in sides.items():
            barrier()
            seconds[name].append(side())
    rounds = {name: values[1:] for name, values in seconds.items()}
    gradients = sum(p.numel() for p in new_method(config, device).parameters() if p.requires_grad)
    found = {
        "processes": world_size(),
        "device": arguments.device,
        "method": arguments.method,
        "backbone": arguments.backbone,
        "input": arguments.input,
        "batch": arguments.batch,
        "shared_megabytes": round(4 * gradients / 1e6, 1),
        **{f"{name}_seconds_per_step": statistics.median(values) for name, values in rounds.items()},
    }
    for name, key in (("one", "ratio"), ("one_all_cores", "ratio_all_cores")):
        if name in rounds:
            ratios = [world_size() * a / b for a, b in zip(rounds[name], rounds["all"], strict=True) if b]
            found |= {key: statistics.median(ratios), f"{key}_rounds": [round(r, 3) for r in ratios]}
    return found


def step_together(config: RunConfig, device: torch.device, batches: Batches) -> Callable[[], None]:
    """Returns a training step of all processes."""
    engine = make_engine(config, new_method(config, device).to(memory_format=torch.channels_last), device)

    def step() -> None:
        engine.step(engine.losses(*batches, LATE).total, None)
        engine.method.after_step(LATE)

    return step


def step_alone(config: RunConfig, device: torch.device, batches: Batches) -> Callable[[], None]:
    """Returns the same step of this process alone; an engine would share the gradients."""
    method = new_method(config, device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-4, fused=True)
    dtype = AUTOCAST_DTYPES[config.train.precision]

    def step() -> None:
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            total = method.losses(*batches, LATE).total
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        method.after_step(LATE)

    return step


if __name__ == "__main__":
    main()
