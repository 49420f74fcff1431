"""A study from plan to table: check the data, train what is missing, write the tables."""

from pathlib import Path
from typing import Any

from semipose.data.datasets import load_splits
from semipose.errors import ConfigError, DataError
from semipose.studies.grid import Grid
from semipose.studies.runner import run_grid
from semipose.studies.tables import read_record, write_tables


def run_study(
    grid: Grid, out: Path, *, data: Path | None = None, jobs: int = 1, resume: bool = False
) -> tuple[Path, list[dict[str, Any]]]:
    """Runs every cell that is not done and returns table.md and one record per cell.

    Raises DataError when files of the study are missing, ConfigError when `out` holds a study and `resume` is false.
    """
    grid = grid.on(data)
    grid.check(repr(grid.title))
    missing = grid.missing(data)
    if missing:
        where = f"; {grid.source}" if grid.source else ""
        names = ", ".join(map(str, missing))
        raise DataError(
            f"the study needs {names}: give the folder that holds them with --data, or one with train.json and "
            f"val.json (COCO containers){where}"
        )
    if (out / "study.json").exists() and not resume:
        raise ConfigError(f"{out} already holds a study; continue it with --resume or choose another --out")
    load_splits(grid.configuration(grid.cells()[0], data).data)  # what is wrong with the data is told before any cell
    outcomes = run_grid(grid, out, data=data, jobs=jobs)
    table = write_tables(grid, outcomes, out)
    records = []
    for outcome in outcomes:
        cell = {"row": outcome.cell.row, "labels": outcome.cell.labels, "seed": outcome.cell.seed}
        if outcome.failure is None:
            record = read_record(outcome.cell, outcome.folder)
            records.append({**cell, "scores": record.scores, "split": record.split, "seconds": record.seconds})
        else:
            records.append({**cell, "failure": outcome.failure})
    return table, records
