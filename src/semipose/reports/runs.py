"""The runs of a report: their folders, names, logs and scores, and the test persons that several have in common."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.adaptation import load_data
from semipose.config import RunConfig, load_config
from semipose.data.data_config import RENDERED
from semipose.data.data_errors import read_dropped, without_images
from semipose.data.datasets import DataSplits
from semipose.data.formats.coco_results import load_predictions
from semipose.data.found_boxes import with_boxes_of_run
from semipose.errors import ConfigError, DataError
from semipose.inference.pose_model import ENSEMBLE, PoseModel, load_pose_model, weights_of
from semipose.methods import METHODS
from semipose.metrics.matching import match
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction

PathLike = str | os.PathLike[str]

Line = dict[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class ReportedRun:
    """A run of a report.

    Attributes:
        name: Its name in tables and figures; runs of one name are seeds of one method.
        folder: The run folder.
        config: Its configuration.
        results: The content of scores.json; None if the run is not finished.
    """

    name: str
    folder: Path
    config: RunConfig
    results: Mapping[str, Any] | None

    @property
    def scores(self) -> Mapping[str, float | None]:
        """The score of the method by metric, the mean over its headline networks; empty if the run is not finished."""
        if not self.results or not self.results["scores"]:
            return {}
        found: Mapping[str, Mapping[str, float | None]] = self.results["scores"]
        return found.get("mean") or found[self.headline_networks[0]]

    @property
    def headline_networks(self) -> list[str]:
        """Names of the networks whose mean score is the score of the method; empty if the run is not finished."""
        return list(self.results["headline_networks"]) if self.results else []

    @property
    def epochs_per_step(self) -> float:
        """The fraction of an epoch that a step takes, as in `train.epochs`; nan if the data is missing."""
        train = self.config.train
        if train.steps is None and self.results and self.results.get("step"):
            return train.epochs / float(self.results["step"])
        try:
            splits = with_boxes_of_run(load_data(self.config), self.folder)
        except DataError:
            return math.nan
        count, batch = len(splits.labeled), train.batch
        if splits.unlabeled is not None and METHODS[self.config.method.name][1].uses_unlabeled:
            count, batch = len(splits.unlabeled), train.unlabeled_batch
        return 1 / max(1, math.ceil(count / (batch * max(1, train.devices))))

    @property
    def has_weights(self) -> bool:
        """Whether the weights of the headline networks are there, of a finished run."""
        names = self.headline_networks
        return bool(names) and weights_of(self.folder).keys() >= set(names)

    def networks(self) -> dict[str, PoseModel]:
        """Returns the networks of the run by name: each headline network, followed by the network that belongs to it.

        In TRS that is each teacher followed by its reviewer: G, R1, F, R2.
        """
        models = {name: load_pose_model(path) for name, path in weights_of(self.folder).items()}
        first = [name for name in self.headline_networks if name in models]
        others = [name for name in models if name not in first]
        if len(first) == len(others):
            return {name: models[name] for pair in zip(first, others, strict=True) for name in pair}
        return {name: models[name] for name in [*first, *others]}

    def network(self) -> PoseModel:
        """Returns the first headline network of a finished run, in TRS teacher G."""
        return load_pose_model(self.folder, self.headline_networks[0])

    def ensemble(self) -> PoseModel:
        """Returns all headline networks of a finished run; usually one."""
        names = self.headline_networks
        return load_pose_model(self.folder, ENSEMBLE if len(names) > 1 else names[0])


def open_run(folder: PathLike, name: str | None = None) -> ReportedRun:
    """Reads the configuration and the scores of a run; its name is that of the folder if not given.

    Raises:
        ConfigError: If the folder contains no run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} contains no run (config.yaml); give the folder of one")
    path = folder / "scores.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return ReportedRun(name or folder.resolve().name, folder, load_config(folder / "config.yaml"), results)


def open_runs(folders: Mapping[str, PathLike] | Sequence[PathLike]) -> list[ReportedRun]:
    """Reads several runs.

    Args:
        folders: Run folders, by the name that figures show; without names the shortest ends of the paths that differ.

    Raises:
        ConfigError: If a folder contains no run.
    """
    if isinstance(folders, Mapping):
        return [open_run(folder, name) for name, folder in folders.items()]
    paths = [Path(folder).resolve() for folder in dict.fromkeys(map(Path, folders))]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return [open_run(path, name) for path, name in zip(paths, names, strict=True)]


def read_log(folder: Path) -> list[Line]:
    """Returns the lines of a run's metrics.jsonl, without an incomplete last line.

    Raises:
        DataError: If there is no line yet.
    """
    path, lines = folder / "metrics.jsonl", []
    if path.is_file():
        with suppress(json.JSONDecodeError):
            for line in path.read_text(encoding="utf-8").splitlines():
                lines.append(json.loads(line))
    if not lines:
        raise DataError(f"{folder} has no line in metrics.jsonl yet: the run has only started; try again later")
    return lines


def validation_lines(log: list[Line]) -> Iterator[tuple[str, Line]]:
    """Yields the name of the network and the log line of each evaluation on the validation split."""
    for line in log:
        kind, _, network = line["kind"].partition("/")
        if kind == "validation":
            yield network, line


@dataclass(frozen=True)
class CommonPersons:
    """The persons that several runs were tested on.

    Attributes:
        truth: The annotated persons.
        predictions: For each run, by name, the prediction of each person.
        left_out: Names of the runs that were tested on other persons.
    """

    truth: PoseDataset
    predictions: dict[str, list[Prediction]]
    left_out: list[str]


def common_persons(runs: Sequence[ReportedRun]) -> CommonPersons | None:
    """Returns the persons that the finished runs were tested on, and the predictions; None if no run is finished.

    Runs that were tested on another file than the first are left out.

    Raises:
        DataError: If the data of the first run is missing.
    """
    finished = [run for run in runs if (run.folder / "predictions.json").is_file()]
    if not finished:
        return None
    first = finished[0]
    same = [run for run in finished if _test_file(run.config) == _test_file(first.config)]
    truth = evaluated_persons(first.folder, with_boxes_of_run(load_data(first.config), first.folder))
    assert truth is not None  # there are predictions
    matched = {
        run.name: match(truth, load_predictions(run.folder / "predictions.json", truth.skeleton)) for run in same
    }
    rows = zip(*matched.values(), strict=True)
    shared = [index for index, row in enumerate(rows) if all(found is not None for found in row)]
    predictions = {name: [p for i in shared if (p := found[i]) is not None] for name, found in matched.items()}
    return CommonPersons(truth.subset(shared), predictions, [run.name for run in finished if run not in same])


def evaluated_persons(folder: Path, splits: DataSplits) -> PoseDataset | None:
    """Returns the persons that a run is tested on, else its validation persons; None if it has neither.

    Images that could not be read, and the labels of joints that no labeled person of the training has, are left out.
    """
    persons = splits.test or splits.validation
    if persons is None:
        return None
    unreadable = {Path(path) for found in read_dropped(folder).values() for path in found["images"]}
    return without_images(persons, unreadable).without_joints(splits.unlearned_joints)


def _test_file(config: RunConfig) -> str | None:
    """The file of the persons that a run is tested on."""
    data = config.data
    return data.test or (data.train if data.train in RENDERED else data.val or data.train)
