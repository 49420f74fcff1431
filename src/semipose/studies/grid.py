"""A study on paper: methods × labels × seeds as one YAML file, and the cells it stands for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from semipose.config import RunConfig, load_config
from semipose.errors import ConfigError
from semipose.studies.protocols import PROTOCOLS
from semipose.utils.section import Section

CONTAINERS = {"data.train": "train.json", "data.test": "val.json"}
"""The plainest layout of a data set: what a study falls back on."""

SHIPPED = Path(__file__).parent / "presets"


class Row(Section):
    """One line of the table: a method and its options."""

    options: dict[str, Any]
    """Overrides by dotted key; `method` first of all."""
    published: dict[int, float] = {}
    """The paper's figure by number of labels, × 100."""
    at: dict[int, dict[str, Any]] = {}
    """Further overrides at a number of labels: schedules that the papers change with it."""
    all_labels: bool = False
    """Trained once per seed with every label: the upper bound of the gap recovered."""


class Grid(Section):
    """A study: rows × labels × seeds, with what all share."""

    title: str
    """What the table shows."""
    protocol: str | None = None
    """A named protocol whose files, settings, labels and metric hold unless the study says otherwise."""
    comparable: bool = True
    """Whether the published figures stand for this data and network; where not, no difference from them is shown."""
    note: str = ""
    """Printed below the table: where the published figures come from, what differs."""
    shared: dict[str, Any] = {}
    """Overrides by dotted key for every cell."""
    rows: dict[str, Row] = Field(min_length=1)
    """By label, in the table's order. The first is the floor of the gap recovered."""
    labels: list[int | None] = Field(min_length=1)
    """Persons that keep their labels; null = all."""
    seeds: list[int] = Field([0], min_length=1)
    """Seeds of training and split."""
    metric: str = "AP"
    """The figure that stands beside the published one."""
    data: dict[str, str] = {}
    """Needed files below the folder given by --data: option -> path."""
    source: str = ""
    """Where the data is published, for the message when it is missing."""

    @model_validator(mode="before")
    @classmethod
    def _under_protocol(cls, value: Any) -> Any:
        """The protocol's part fills what the study leaves open."""
        if not isinstance(value, dict) or value.get("protocol") is None:
            return value
        if value["protocol"] not in PROTOCOLS:
            raise ValueError(f"unknown protocol {value['protocol']!r}; known: {', '.join(PROTOCOLS)}")
        protocol = PROTOCOLS[value["protocol"]]
        return {
            "labels": list(protocol.labels) or [None],
            "metric": protocol.metric,
            "source": protocol.source,
            "note": " ".join((protocol.text + ".", *protocol.notes)),
            **value,
            "data": {**protocol.files, **value.get("data", {})},
            "shared": {**protocol.settings, **value.get("shared", {})},
        }

    def scaled(self, share: float) -> "Grid":
        """The same study with this share of the labels, epochs and steps (at least 8 labels, one epoch, one step)."""
        if share == 1:
            return self

        def budget(options: dict[str, Any]) -> dict[str, Any]:
            least = {"train.epochs": lambda v: max(1.0, v * share), "train.steps": lambda v: max(1, round(v * share))}
            return {key: least[key](value) if key in least else value for key, value in options.items()}

        def count(labels: int) -> int:
            return max(8, round(labels * share))

        rows = {
            name: row.model_copy(
                update={
                    "options": budget(row.options),
                    "at": {count(n): budget(options) for n, options in row.at.items()},
                    "published": {},
                }
            )
            for name, row in self.rows.items()
        }
        return self.model_copy(
            update={
                "shared": budget({"train.epochs": 100, **self.shared}),
                "labels": list(dict.fromkeys(n if n is None else count(n) for n in self.labels)),
                "title": f"{self.title} (scaled to {share:g})",
                "rows": rows,
            }
        )

    def overridden(self, overrides: dict[str, Any]) -> "Grid":
        """The same study with these options in every cell, whatever its rows say of them."""
        if not overrides:
            return self

        def without(options: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in options.items() if key not in overrides}

        rows = {
            name: row.model_copy(
                update={
                    "options": without(row.options),
                    "at": {count: without(options) for count, options in row.at.items()},
                    "published": {},
                }
            )
            for name, row in self.rows.items()
        }
        title = f"{self.title} ({', '.join(f'{k}={v}' for k, v in overrides.items())})"
        return self.model_copy(update={"shared": {**self.shared, **overrides}, "rows": rows, "title": title})

    def on(self, data: Path | None) -> "Grid":
        """The study on the data in this folder: its own files, or, where they are missing, a plain pair of containers.

        Such a folder holds train.json and val.json, COCO containers with their images beside them; the published
        figures then stand for other data and are left out.
        """
        folder = data or Path()
        if not self.missing(data) or not all((folder / name).is_file() for name in CONTAINERS.values()):
            return self
        rows = {name: row.model_copy(update={"published": {}}) for name, row in self.rows.items()}
        note = f"On {folder.resolve().name} (train.json, val.json) in place of the study's own data. {self.note}"
        return self.model_copy(
            update={
                "data": CONTAINERS,
                "rows": rows,
                "note": note,
                "title": f"{self.title}, on {folder.resolve().name}",
            }
        )

    def cells(self) -> list["Cell"]:
        """All of them, seed by seed, so that an unfinished study has whole tables for the first seeds."""
        found = []
        for seed in self.seeds:
            for name, row in self.rows.items():
                found += [Cell(name, count, seed) for count in ([None] if row.all_labels else self.labels)]
        return found

    def configuration(self, cell: "Cell", data: Path | None = None) -> RunConfig:
        """What a cell trains. `data` is the folder of the study's files."""
        paths = {option: str((data or Path()) / path) for option, path in self.data.items()}
        own = {"train.seed": cell.seed, "data.split_seed": cell.seed, "data.labels": cell.labels}
        row = self.rows[cell.row]
        return load_config(None, {**paths, **self.shared, **row.options, **row.at.get(cell.labels or 0, {}), **own})

    def check(self, name: str) -> None:
        """Raises ConfigError, with the row, where a cell of the study `name` has an option that can't be."""
        for cell in self.cells():
            try:
                self.configuration(cell)
            except ConfigError as error:
                raise ConfigError(f"study {name}, row {cell.row!r}: {error}") from None

    def missing(self, data: Path | None) -> list[Path]:
        """Files of the study that are not there."""
        return [path for path in ((data or Path()) / p for p in self.data.values()) if not path.exists()]


@dataclass(frozen=True)
class Cell:
    """One training: a row at a number of labels (None = all) with a seed."""

    row: str
    labels: int | None
    seed: int

    @property
    def name(self) -> str:
        """Folder name."""
        label = "".join(c if c.isalnum() or c in "._+-" else "_" for c in self.row)
        return f"{label}-{self.labels or 'all'}-{self.seed}"


def shipped() -> dict[str, Path]:
    """Studies that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_grid(name: str) -> Grid:
    """A shipped study by name, or a YAML file. Raises ConfigError in one line; every cell is checked here."""
    path = shipped().get(name, Path(name))
    if not path.is_file():
        raise ConfigError(f"no study {name!r}; shipped: {', '.join(shipped())}; or give a YAML file")
    try:
        grid = Grid(**yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"study {path}: {reason}") from None
    grid.check(str(path))
    return grid
