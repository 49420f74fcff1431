"""Studies: methods × numbers of labels × seeds in one YAML file, and the runs that they consist of."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from semipose.config import RunConfig, load_config
from semipose.errors import ConfigError
from semipose.studies.protocols import PROTOCOLS
from semipose.utils.section import Section

Options = dict[str, Any]
"""Overrides of a configuration by dotted key."""

Schedules = dict[str, dict[int, Options]]
"""Options by method and number of labels."""

GENERIC_FILES = {"data.train": "train.json", "data.test": "val.json"}
"""Files in a data folder that replace the files of a study if those are missing."""

COLUMNS = ["AP", "AP50", "PCK@0.2", "PCKh@0.5"]
"""Metrics of a table, each where a run has it, unless the study or its protocol names others."""

PRESETS = Path(__file__).parent / "presets"
"""Folder of the studies in the package."""


OF_OTHER_DATA = ("data.include_remaining", "data.min_score", "data.box_category")
"""Options of the papers' data that a study on other data does not have."""
OF_RUN = ("train.seed", "data.split_seed", "data.labels")
"""Options that differ between the runs of a row."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study: a row with a number of labels (None = all labels), a seed and, of several, a data set."""

    row: str
    labels: int | None
    seed: int
    dataset: str = ""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        label = "-".join(filter(None, (self.dataset, self.row)))
        label = "".join(c if c.isalnum() or c in "._+-" else "_" for c in label)
        return f"{label}-{self.labels or 'all'}-{self.seed}"


class Row(Section):
    """One row of the table: a method and its options."""

    options: Options
    """Overrides by dotted key; `method` names the method."""
    published: dict[int, dict[str, Decimal]] = {}
    """The paper's scores × 100, or errors in pixels, by number of labels (0 = all) and metric, with the digits that the
    paper prints (in quotes, which keep a last 0)."""
    not_comparable: str = ""
    """Why the published scores of this row cannot be compared with ours, if so."""
    all_labels: bool = False
    """Whether the row trains on all labels, once per seed, as the upper bound of the gap recovered."""

    def mapped(self, change: Callable[[Options], Options] = dict) -> "Row":
        """Returns the row with changed options and without published scores."""
        return self.model_copy(update={"options": change(self.options), "published": {}})


def _changed(
    schedules: Schedules, change: Callable[[Options], Options], count: Callable[[int], int] = int
) -> Schedules:
    """Returns schedules with changed options and numbers of labels."""
    return {
        method: {count(labels): change(options) for labels, options in by_labels.items()}
        for method, by_labels in schedules.items()
    }


def _without(options: Options, overrides: Options) -> Options:
    return {key: value for key, value in options.items() if key not in overrides}


class StudyData(Section):
    """The data of a study, or of one of its sections: files, settings, numbers of labels and metric."""

    protocol: str | None = None
    """Name of a protocol whose files, settings, labels and metric apply unless they are set here."""
    data: dict[str, str] = {}
    """Paths of the study's files, relative to the data folder, by option."""
    source: str = ""
    """Source of the data, for the error message if files are missing."""
    shared: Options = {}
    """Overrides for every run, by dotted key."""
    labels: list[int | None] = []
    """Numbers of persons that keep their labels; null = all."""
    upper_bound: bool = True
    """Whether there are rows that train on all labels; false where the file has no more labels than the other rows."""
    metric: str = "AP"
    """The metric that rows are compared by."""
    columns: list[str] = COLUMNS
    """Metrics of the table, each where a run has it; `metric` joins them."""
    schedules: Schedules = {}
    """Overrides by method and number of labels, where a paper trains shorter than `shared`."""
    note: str = ""
    """Text below the table, after the protocol's: the source of the published scores, and differences from it."""

    @model_validator(mode="before")
    @classmethod
    def _apply_protocol(cls, value: Any) -> Any:
        """Takes missing values from the protocol."""
        if not isinstance(value, dict) or value.get("protocol") is None:
            return value
        if value["protocol"] not in PROTOCOLS:
            raise ValueError(f"unknown protocol {value['protocol']!r}; known: {', '.join(PROTOCOLS)}")
        protocol, shared = PROTOCOLS[value["protocol"]], value.get("shared", {})
        notes = (protocol.text + ".", *protocol.notes_for(_methods(value)), value.get("note"))
        return {
            "labels": list(protocol.labels) or [None],
            "metric": protocol.metric,
            "source": protocol.source,
            **({"columns": list(protocol.columns)} if protocol.columns else {}),
            "schedules": _changed(protocol.schedules, lambda options: _without(options, shared)),
            **value,
            "note": " ".join(filter(None, notes)),
            "protocol": None,
            "data": {**protocol.files, **value.get("data", {})},
            "shared": {**protocol.settings, **shared},
        }

    def missing_files(self, data: Path | None) -> list[Path]:
        """Returns the files of the study that are missing in the folder `data`."""
        paths = dict.fromkeys((data or Path()) / path for path in self.data.values())
        return [path for path in paths if not path.exists()]


def _methods(study: dict[str, Any]) -> set[str]:
    """The methods of the rows of a study that is not validated yet."""
    rows = study["rows"].values() if isinstance(study.get("rows"), dict) else ()
    options = [row["options"] for row in rows if isinstance(row, dict) and isinstance(row.get("options"), dict)]
    return {str(named.get("method")) for named in options}


class StudyGrid(StudyData):
    """A study: rows × numbers of labels × seeds, with the settings that all runs share."""

    title: str
    """Heading of the table."""
    not_comparable: str = ""
    """Why published scores cannot be compared with ours, if so for all rows; the table then omits the difference."""
    rows: dict[str, Row] = Field(min_length=1)
    """Rows by label, in the table's order. The first is the baseline of differences and of the gap recovered."""
    seeds: list[int] = Field([0], min_length=1)
    """Seeds of training and split."""
    datasets: dict[str, StudyData] = {}
    """Data sets by name, if the study has several: each has its own files, numbers of labels and metric, and settings
    that override the study's. The table has a section for each."""

    @model_validator(mode="before")
    @classmethod
    def _share_settings(cls, value: Any) -> Any:
        """Gives each data set the settings of the study that it does not set itself."""
        if not isinstance(value, dict) or not isinstance(value.get("datasets"), dict):
            return value
        shared = value.get("shared", {})
        datasets = {
            name: {**entry, "shared": {**shared, **entry.get("shared", {})}} if isinstance(entry, dict) else entry
            for name, entry in value["datasets"].items()
        }
        return {**value, "datasets": datasets}

    @model_validator(mode="after")
    def _labels_are_given(self) -> "StudyGrid":
        for name, part in self.parts().items():
            if not part.labels:
                of = f" of data set {name!r}" if name else ""
                raise ValueError(f"labels{of}: give numbers of labels, or null for all")
        return self

    def parts(self) -> dict[str, "StudyGrid"]:
        """Returns a study of each data set by its name; one without `datasets` is its own only part, named ''."""
        if not self.datasets:
            return {"": self.model_copy(update={"rows": self._rows(self)})}
        parts = {}
        for name, data in self.datasets.items():
            own = {key: getattr(data, key) for key in StudyData.model_fields}
            parts[name] = self.model_copy(update={**own, "title": name, "datasets": {}, "rows": self._rows(data)})
        return parts

    def _rows(self, data: StudyData) -> dict[str, Row]:
        """The rows of a data set."""
        return {name: row for name, row in self.rows.items() if data.upper_bound or not row.all_labels}

    def scaled(self, share: float) -> "StudyGrid":
        """Returns the study with a fraction of labels and unlabeled persons (at least 8), epochs (one) and steps."""
        if share == 1:
            return self

        def count(persons: int) -> int:
            return max(8, round(persons * share))

        scale: dict[str, Callable[[Any], Any]] = {
            "train.epochs": lambda value: max(1.0, value * share),
            "train.steps": lambda value: max(1, round(value * share)),
            "data.max_unlabeled": count,
        }

        def budget(options: Options) -> Options:
            return {key: scale[key](value) if key in scale else value for key, value in options.items()}

        def of(data: StudyData) -> dict[str, Any]:
            labels = list(dict.fromkeys(n if n is None else count(n) for n in data.labels))
            shared = budget({"train.epochs": 100, **data.shared})
            return {"shared": shared, "labels": labels, "schedules": _changed(data.schedules, budget, count)}

        changes = {
            **of(self),
            "datasets": {name: data.model_copy(update=of(data)) for name, data in self.datasets.items()},
            "title": f"{self.title} (scaled to {share:g})",
            "rows": {name: row.mapped(budget) for name, row in self.rows.items()},
        }
        return self.model_copy(update=changes)

    def overridden(self, overrides: Options) -> "StudyGrid":
        """Returns the study with options that replace those of every row."""
        if not overrides:
            return self

        def without(options: Options) -> Options:
            return _without(options, overrides)

        def of(data: StudyData) -> dict[str, Any]:
            return {"shared": {**data.shared, **overrides}, "schedules": _changed(data.schedules, without)}

        changes = {
            **of(self),
            "datasets": {name: data.model_copy(update=of(data)) for name, data in self.datasets.items()},
            "rows": {name: row.mapped(without) for name, row in self.rows.items()},
            "title": f"{self.title} ({', '.join(f'{key}={value}' for key, value in overrides.items())})",
        }
        return self.model_copy(update=changes)

    def on_data(self, folder: Path | None) -> "StudyGrid":
        """Returns the study on the data in a folder.

        If the study's files are missing and the folder contains train.json and val.json (COCO keypoint files with
        their images), these are used instead. Published scores are then left out, because they are for other data. The
        persons that lost their labels are unlabeled; where all keep them, the same images are. AP takes the place of
        PCKh, because COCO files have no head sizes.
        """
        root = folder or Path()
        there = all((root / name).is_file() for name in GENERIC_FILES.values())
        if self.datasets or not there or not self.missing_files(folder):
            return self
        name = root.resolve().name
        own_unlabeled = "data.unlabeled" in self.data and None in self.labels
        files = {**GENERIC_FILES, **({"data.unlabeled": GENERIC_FILES["data.train"]} if own_unlabeled else {})}
        changes = {
            "data": files,
            "metric": "AP" if self.metric.startswith("PCKh") else self.metric,
            "columns": list(dict.fromkeys((*self.columns, *COLUMNS))),
            "shared": {
                **_without(self.shared, dict.fromkeys(OF_OTHER_DATA)),
                **({"data.include_labeled": True} if own_unlabeled else {}),
            },
            "rows": {label: row.mapped() for label, row in self.rows.items()},
            "note": f"On {name} (train.json, val.json) in place of the study's own data. {self.note}",
            "title": f"{self.title}, on {name}",
        }
        return self.model_copy(update=changes)

    def runs(self) -> list[StudyRun]:
        """Returns all runs ordered by seed, so that an unfinished study has complete tables for the first seeds."""
        return [
            StudyRun(name, labels, seed, dataset)
            for seed in self.seeds
            for dataset, part in self.parts().items()
            for name, row in part.rows.items()
            for labels in ([None] if row.all_labels else part.labels)
        ]

    def run_config(self, run: StudyRun, data: Path | None = None) -> RunConfig:
        """Returns the configuration of a run; `data` is the folder of the study's files."""
        if self.datasets:
            return self.parts()[run.dataset].run_config(replace(run, dataset=""), data)
        paths = {option: str((data or Path()) / path) for option, path in self.data.items()}
        row = self.rows[run.row]
        schedule = self.schedules.get(str(row.options.get("method")), {}).get(run.labels or 0, {})
        of_run = dict(zip(OF_RUN, (run.seed, run.seed, run.labels), strict=True))
        return load_config(None, {**paths, **self.shared, **schedule, **row.options, **of_run})

    def check(self, name: str) -> None:
        """Checks the configuration and the folder of every run.

        Raises:
            ConfigError: If a configuration is invalid, or two runs have one folder, also where file systems ignore the
                case of letters; the message gives the study `name` and the row.
        """
        for part in self.parts().values():
            schedules = (options for by_labels in part.schedules.values() for options in by_labels.values())
            for options in (part.shared, *(row.options for row in part.rows.values()), *schedules):
                if given := [key for key in OF_RUN if key in options]:
                    raise ConfigError(
                        f"`{given[0]}`: the runs of study {name} have its `labels` and `seeds`; change these"
                    )
        folders: dict[str, StudyRun] = {}
        for run in self.runs():
            if (other := folders.setdefault(run.name.casefold(), run)) is not run:
                both = f"rows {other.row!r} and {run.row!r}" if other.row != run.row else f"row {run.row!r}"
                raise ConfigError(f"study {name}, {both}: two runs have the folder {run.name}; rename or remove one")
            try:
                self.run_config(run)
            except ConfigError as error:
                of = f", data set {run.dataset!r}" if run.dataset else ""
                raise ConfigError(f"study {name}, row {run.row!r}{of}: {error}") from None


def presets() -> dict[str, Path]:
    """Returns the paths of the studies in the package, by name."""

    def numbered(path: Path) -> list[int | str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]

    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"), key=numbered)}


def load_grid(name: str | os.PathLike[str]) -> StudyGrid:
    """Reads a study and checks the configuration of each of its runs.

    Args:
        name: The name of a study in the package, or a YAML file.

    Raises:
        ConfigError: If there is no such study or the study is invalid.
    """
    path = presets().get(str(name), Path(name))
    if not path.is_file():
        raise ConfigError(f"no study {str(name)!r}; known: {', '.join(presets())}; or give a YAML file")
    try:
        grid = StudyGrid(**yaml.safe_load(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"study {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
        raise ConfigError(f"study {path}: {' '.join(str(error).split())[:160]}") from None
    grid.check(str(path))
    return grid
