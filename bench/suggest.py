"""Which images to label next: the error after training again, for random images, the lowest scores, and suggestions.

python bench/suggest.py --data labels.json --images photos/ --test test.json --test-images photos/ --out suggest.json
    [--start 20] [--count 20] [--rounds 3] [--seeds 3] [--config small] [--runs DIR] [train.steps=2000 …]

For each seed, a network is trained on `--start` random persons of the data. Then each strategy chooses `--count` of the
other images in each round, whose labels are revealed, and a network is trained from the beginning on all labels that
the strategy has. The first network is shared. Runs stay in `--runs`, and a run that is finished is not repeated, so a
stopped simulation goes on where it was.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from semipose.api import evaluate, load
from semipose.config import load_config, parse_override
from semipose.data.data_errors import DataErrors
from semipose.data.datasets import read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.inference.candidates import Candidates, next_frames
from semipose.inference.known_images import known_images
from semipose.inference.predictor import predict_dataset
from semipose.inference.selection import select
from semipose.structures.instances import PoseDataset
from semipose.trainer import train

Strategy = Callable[[Path, PoseDataset, int, int], list[int]]
"""Chooses persons by a run folder, the persons without labels, their number, and a seed; returns positions."""


def at_random(run: Path, rest: PoseDataset, count: int, seed: int) -> list[int]:
    """Returns random persons."""
    return [int(i) for i in np.random.default_rng(seed).permutation(len(rest))[:count]]


def lowest_score(run: Path, rest: PoseDataset, count: int, seed: int) -> list[int]:
    """Returns the persons with the lowest mean scores."""
    model = load(run)
    found, _ = predict_dataset(model.predictor(), rest, model.geometry, DataErrors(), "rest")
    return [int(i) for i in np.argsort([p.scores.mean() for p in found], kind="stable")[:count]]


def suggestions(run: Path, rest: PoseDataset, count: int, seed: int) -> list[int]:
    """Returns the persons in the images that `semipose suggest` selects."""
    model, images = load(run), list(rest.image_paths.values())
    candidates = Candidates(rest, next_frames(images))
    selected, _ = select(model.predictor(), candidates, model.geometry, known_images(run), count, DataErrors())
    chosen = {p.image_id for p in selected}
    return [n for n, image_id in enumerate(rest.instances.image_ids) if image_id in chosen]


STRATEGIES: dict[str, Strategy] = {"random": at_random, "lowest score": lowest_score, "suggest": suggestions}


def main() -> None:
    """Runs the simulation and writes its errors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "test", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name, value in (("images", None), ("test-images", None), ("config", "small"), ("runs", None)):
        parser.add_argument(f"--{name}", default=value)
    for name, number in (("start", 20), ("count", 20), ("rounds", 3), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("options", nargs="*", help="options of the trainings, section.key=value")
    arguments = parser.parse_args()
    runs = Path(arguments.runs or tempfile.mkdtemp())
    found = [result for seed in range(arguments.seeds) for result in simulate(arguments, runs, seed)]
    settings = {
        k: v for k, v in vars(arguments).items() if k not in ("data", "images", "test", "test_images", "out", "runs")
    }
    Path(arguments.out).write_text(
        json.dumps({"settings": settings, "results": found, "summary": summary(found)}, indent=1)
    )
    for line in summary(found):
        print(line)
    if arguments.runs is None:
        shutil.rmtree(runs)


def simulate(arguments: argparse.Namespace, runs: Path, seed: int) -> list[dict[str, Any]]:
    """Returns the errors of all strategies and rounds with one seed."""
    pool = read_dataset(arguments.data, arguments.images).trainable()
    start = at_random(runs, pool, arguments.start, seed)
    first = runs / f"seed{seed}-start"
    error = train_on(pool.subset(start), first, seed, arguments)
    results = [{"seed": seed, "strategy": name, "round": 0, "labels": len(start), **error} for name in STRATEGIES]
    for name, choose in STRATEGIES.items():
        run, labeled = first, list(start)
        for number in range(1, arguments.rounds + 1):
            others = sorted(set(range(len(pool))) - set(labeled))
            rest = pool.subset(others).without_labels()
            labeled += [others[i] for i in choose(run, rest, min(arguments.count, len(others)), 100 * seed + number)]
            run = runs / f"seed{seed}-{name.replace(' ', '-')}-{number}"
            error = train_on(pool.subset(labeled), run, seed, arguments)
            results.append({"seed": seed, "strategy": name, "round": number, "labels": len(labeled), **error})
            print(results[-1], flush=True)
    return results


def train_on(persons: PoseDataset, run: Path, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Trains on persons, unless the run is there, and returns the error on the test set."""
    if not (run / "scores.json").is_file():
        shutil.rmtree(run, ignore_errors=True)
        labels = run.with_suffix(".json")
        labels.parent.mkdir(parents=True, exist_ok=True)
        root = write_coco(persons, labels)
        options = dict(map(parse_override, arguments.options))
        data = {"data.train": str(labels), "data.images": str(root), "train.seed": seed, "data.split_seed": seed}
        train(load_config(arguments.config, {"method": "supervised", **data, **options}), run)
    error = evaluate(run, arguments.test, images=arguments.test_images).scores.pixel_error
    return {name: float(error[name]) for name in ("mean", "median")}


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns for each round and strategy the mean error and its mean difference from random images, with its error."""
    lines = []
    for number in sorted({result["round"] for result in results}):
        by = {
            name: {r["seed"]: r["mean"] for r in results if (r["round"], r["strategy"]) == (number, name)}
            for name in STRATEGIES
        }
        for name, own in by.items():
            change = np.array([own[seed] - by["random"][seed] for seed in own])
            spread = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else None
            lines.append(
                {
                    "round": number,
                    "strategy": name,
                    "pixel_error": float(np.mean(list(own.values()))),
                    "against_random": float(change.mean()),
                    "standard_error": spread,
                }
            )
    return lines


if __name__ == "__main__":
    main()
