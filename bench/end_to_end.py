"""Steps a second of a training with its loader against the same steps with ready batches, alternating in one process.

python bench/end_to_end.py [--method dual] [--backbone resnet18] [--input 256x192] [--batch 16] [--crops jpeg] [--json]

Both sides take the steps of a training; one reads its batches from the crop cache with the threads of a training, the
other has them in memory already. `ratio` is the median over pairs of rounds. A round of the loader is timed once its
threads work steadily. The loader alone is timed as well, and one thread that reads crops: `pairs_per_second_16_cores`
is what 16 cores that only read would give, which no measurement on fewer cores can show. A pair of samples is one
labeled and one unlabeled sample.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import step as steps
from clock import timed
from data import draw_images

from semipose.config import RunConfig
from semipose.data.crop_cache import Encoding, open_crop_cache
from semipose.data.crops import CropGeometry, Crops
from semipose.data.loader import PairedLoader, default_workers
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO
from semipose.training.engine import Engine
from semipose.utils.cpu import available_cpus

READY = 4
"""Number of ready batches, which are used in turns."""
CORES = 16
"""Number of cores of a machine with a GPU for which the rate of reading is computed."""

Pair = tuple[LabeledBatch, UnlabeledBatch | None]


def main() -> None:
    """Measures and prints."""
    parser = steps.make_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--crops", default="jpeg", choices=get_args(Encoding))
    parser.add_argument("--persons", type=int, default=400, help="persons of each kind")
    parser.add_argument("--steps", type=int, default=8, help="steps of a round")
    parser.add_argument("--workers", type=int, default=None, help="threads that load; those of a training by default")
    print_measured(parser.parse_args(), measure)


def print_measured(
    arguments: argparse.Namespace, measure: Callable[[argparse.Namespace, Path], dict[str, Any]]
) -> None:
    """Prints what is measured with images and a crop cache in a temporary folder."""
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMIPOSE_CACHE"] = f"{folder}/cache"
        found = measure(arguments, Path(folder))
    print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures one method; images are drawn to `folder`."""
    cv2.setNumThreads(1)
    name, device = arguments.method[0], torch.empty(0, device=arguments.device).device  # with its index
    config = steps.step_config(name, arguments)
    method = steps.new_method(config, device).to(memory_format=torch.channels_last)
    engine = steps.make_engine(config, method, device)
    if arguments.compile or arguments.graphs:
        engine.compile(cuda_graphs=arguments.graphs)
    loader = open_loader(config, arguments, folder, method.uses_unlabeled)
    rounds = alternate(engine, loader, arguments.steps, arguments.repeats)
    alone = loading_seconds(loader, device, max(arguments.steps, 2 * loader.workers)) / arguments.batch
    reading = statistics.median(reading_seconds(loader.labeled, arguments.batch) for _ in range(5))
    ready = statistics.median(seconds for seconds, _ in rounds)
    loaded = statistics.median(seconds for _, seconds in rounds)
    return {
        **steps.settings(name, config, arguments),
        "cuda_graphs": arguments.graphs,
        "crops": arguments.crops,
        "workers": loader.workers,
        "cores": available_cpus(),
        "ready_steps_per_second": 1 / ready,
        "steps_per_second": 1 / loaded,
        "pairs_per_second": arguments.batch / loaded,
        "ratio": statistics.median(a / b for a, b in rounds),
        "ratios": [round(a / b, 3) for a, b in rounds],
        "loader_pairs_per_second": 1 / alone,
        "crops_read_per_second_and_core": arguments.batch / reading,
        f"pairs_per_second_{CORES}_cores": CORES * arguments.batch / reading / 2,
    }


def open_loader(config: RunConfig, arguments: argparse.Namespace, folder: Path, uses_unlabeled: bool) -> PairedLoader:
    """Returns the loader of a training on drawn images."""
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    persons = draw_images(2 * arguments.persons, folder)
    half = len(persons) // 2
    labeled = PoseDataset(COCO, tuple(map(with_joints, persons.subset(range(half)).instances)), str(folder))
    unlabeled = persons.subset(range(half, len(persons)))
    return PairedLoader(
        open_crop_cache(labeled, geometry, encoding=arguments.crops),
        open_crop_cache(unlabeled, geometry, encoding=arguments.crops) if uses_unlabeled else None,
        batch=arguments.batch,
        unlabeled_batch=arguments.batch,
        seed=0,
        workers=arguments.workers or default_workers(),
        pin_memory=arguments.device.startswith("cuda"),
    )


def with_joints(person: Instance) -> Instance:
    """Returns the person with all joints in the middle of the box."""
    x, y, width, height = person.box
    joints = np.tile([x + width / 2, y + height / 2], (len(COCO), 1))
    return replace(person, joints=joints, visibility=np.full(len(COCO), 2))


def alternate(engine: Engine, loader: PairedLoader, count: int, repeats: int) -> list[tuple[float, float]]:
    """Returns the seconds a step of rounds of `count` steps with ready batches and with the loader.

    The first pair of rounds warms up, records CUDA graphs and is left out.
    """
    ready = [loader.load(step) for step in range(READY)]
    fill = loader.workers + 1  # batches that the threads load ahead

    def take(batches: Iterable[Pair]) -> None:
        for labeled, unlabeled in batches:
            on_device = unlabeled.to(engine.device) if unlabeled is not None else None
            engine.train_step(labeled.to(engine.device), on_device, steps.LATE, None)
            engine.method.after_step(steps.LATE)

    def with_loader() -> float:
        batches = loader.steps(0, 2 * fill + count)
        take(itertools.islice(batches, fill))
        seconds = timed(lambda: take(itertools.islice(batches, count)), engine.device)
        batches.close()  # type: ignore[attr-defined]
        return seconds / count

    def with_ready() -> float:
        return timed(lambda: take(itertools.islice(itertools.cycle(ready), count)), engine.device) / count

    return [(with_ready(), with_loader()) for _ in range(repeats + 1)][1:]


def loading_seconds(loader: PairedLoader, device: torch.device, count: int) -> float:
    """Returns the seconds of one batch of the loader alone, on the device, while its threads work steadily."""
    fill = loader.workers + 1
    batches = loader.steps(0, 2 * fill + count)

    def load(number: int) -> Callable[[], None]:
        def work() -> None:
            for labeled, unlabeled in itertools.islice(batches, number):
                labeled.to(device)
                if unlabeled is not None:
                    unlabeled.to(device)

        return work

    timed(load(fill), device)
    seconds = timed(load(count), device)
    batches.close()  # type: ignore[attr-defined]
    return seconds / count


def reading_seconds(crops: Crops, batch: int) -> float:
    """Returns the seconds in which one thread reads and decodes a batch of crops."""
    indices = np.random.default_rng(0).integers(0, len(crops), batch).tolist()
    started = time.perf_counter()
    np.stack([crops.crop(index) for index in indices])
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
