"""What more processes bring: training steps of one process and of several, alternating in the same processes.

python bench/scaling.py [--processes 2] [--method dual] [--backbone resnet18] [--input 256x192] [--batch 8] [--json]

Every process takes batches of `--batch`. While one works alone the others wait and take no CPU. `ratio` is samples a
second of all over those of one (a process has one core, or one GPU); `ratio_all_cores` compares with one process that
has the cores of all. `shared_megabytes` is what each process sends and receives in a step (gradients, in fp32).
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from clock import timed
from step import LATE, make_batches, networks

from semipose.config import RunConfig, load_config
from semipose.methods import METHODS, VARIANTS
from semipose.training.distributed import Plan, plan_processes, together
from semipose.training.engine import Engine, Fabric, make_engine, start_fabric


def main() -> None:
    """Starts the other processes unless this is one of them or torchrun started all; the first one prints."""
    arguments = parse()
    others = [] if "LOCAL_RANK" in os.environ else start(arguments.processes)
    plan = plan_processes(arguments.device, 1, 1)
    with together(plan):
        found = measure(arguments, start_fabric(arguments.device, arguments.precision, plan))
    for other in others:
        other.wait(60)
    if plan.rank == 0:
        print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
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


def start(processes: int) -> list[subprocess.Popen]:
    """The other processes; this one becomes the first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    place |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {**place, "RANK": "0", "LOCAL_RANK": "0"}
    command = [sys.executable, __file__, *sys.argv[1:]]
    return [
        subprocess.Popen(command, env={**os.environ, "RANK": str(n), "LOCAL_RANK": str(n)}) for n in range(1, processes)
    ]


def measure(arguments: argparse.Namespace, fabric: Fabric) -> dict[str, Any]:
    """Alternates: one process with a core, one with all cores (on CPUs), all of them."""
    height, width = map(int, arguments.input.split("x"))
    config = load_config(
        None,
        {"method": arguments.method, "model.backbone": arguments.backbone, "model.weights": "none",
         "input.height": height, "input.width": width},
    )  # fmt: skip
    engine = prepare(config, fabric, arguments.device)
    here = str(fabric.device)
    single = prepare(config, start_fabric(here, arguments.precision, Plan()), here)
    batches = make_batches(config, arguments.batch, fabric.device)

    def run(which: Engine, threads: int) -> float:
        torch.set_num_threads(threads)
        return timed(lambda: [step(which, batches) for _ in range(arguments.steps)], fabric.device) / arguments.steps

    sides: dict[str, Callable[[], float]] = {"one": lambda: run(single, 1) if engine.is_main else 0.0}
    if arguments.device == "cpu":
        sides["one_all_cores"] = lambda: run(single, engine.world) if engine.is_main else 0.0
    sides["all"] = lambda: run(engine, 1)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.repeats + 1):
        for name, side in sides.items():
            engine.barrier()
            seconds[name].append(side())
    rounds = {name: values[1:] for name, values in seconds.items()}
    gradients = sum(p.numel() for p in engine.method.parameters() if p.requires_grad)
    found = {
        "processes": engine.world,
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
            ratios = [engine.world * a / b for a, b in zip(rounds[name], rounds["all"], strict=True) if b]
            found |= {key: statistics.median(ratios), f"{key}_rounds": [round(r, 3) for r in ratios]}
    return found


def prepare(config: RunConfig, fabric: Fabric, device: str) -> Engine:
    """The method as `semipose train` places it."""
    method = networks(config, device).to(memory_format=torch.channels_last)
    trained = [p for p in method.parameters() if p.requires_grad]
    engine = make_engine(fabric, method, torch.optim.Adam(trained, lr=1e-4, fused=True))
    engine.method.train()
    return engine


def step(engine: Engine, batches: Any) -> None:
    """One training step."""
    losses = engine.losses(*batches, LATE)
    engine.step(losses.total, None)
    engine.method.after_step(LATE)


if __name__ == "__main__":
    main()
