"""The report of a study: its table, the scores of all seeds, label and training curves, and example images."""

import json
from pathlib import Path

import numpy as np

from semipose.config import load_config
from semipose.data.datasets import load_splits
from semipose.data.formats.coco_results import load_predictions
from semipose.errors import DataError
from semipose.metrics.matching import match
from semipose.metrics.registry import axis_title, is_error, shown
from semipose.reports import plots
from semipose.reports.examples import errors_by_person, pose_examples
from semipose.reports.page import Examples, Page, Picture, Table
from semipose.reports.run_page import read_log, validation_lines
from semipose.studies.grid import StudyGrid, StudyRun
from semipose.studies.runner import run_folder
from semipose.studies.tables import Record, read_record, table


def study_page(folder: Path) -> Page:
    """Returns the report of a study.

    Raises:
        DataError: If no run is finished.
    """
    grid = StudyGrid(**{**json.loads((folder / "study.json").read_text(encoding="utf-8")), "protocol": None})
    runs = {run: run_folder(folder, run) for run in grid.runs()}
    records = [read_record(run, path) for run, path in runs.items() if (path / "scores.json").is_file()]
    if not records:
        raise DataError(f"{folder} has no finished run yet; continue the study")
    head, rows = table(grid, records)
    unit = "Scores × 100" + (", errors in pixels (lower is better)" if is_error(grid.metric) else "")
    title = f"{unit}, mean ± std over seeds, and the cost of a step"
    return Page(
        title=grid.title,
        lines=[*sorted({r.protocol for r in records}), grid.note, f"{len(records)} of {len(runs)} runs are finished."],
        tables=[Table(title, head, rows)],
        charts=[*_seed_charts(grid, records), *_label_charts(grid, records), *_training_charts(grid, runs)],
        examples=_examples(grid, runs),
    )


def _seed_charts(grid: StudyGrid, records: list[Record]) -> list[Picture]:
    """Returns one chart per number of labels, with one dot per seed."""
    charts = []
    for labels in sorted({r.run.labels for r in records if r.run.labels}):
        groups = {
            name: _scores(grid, [r for r in records if r.run.row == name and r.run.labels in (labels, None)])
            for name in grid.rows
        }
        url = plots.dots({name: values for name, values in groups.items() if values}, axis_title(grid.metric))
        charts.append(Picture(f"{grid.metric}, {labels} labels, one dot per seed", url))
    return charts


def _label_charts(grid: StudyGrid, records: list[Record]) -> list[Picture]:
    """Returns a chart of score against labels, if there are several numbers of labels."""
    if len({r.run.labels for r in records if r.run.labels}) < 2:
        return []
    series: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[float]] = {}
    for name, row in grid.rows.items():
        by_labels = {
            n: _scores(grid, [r for r in records if (r.run.row, r.run.labels) == (name, n)])
            for n in grid.labels
            if n is not None
        }
        points = [(float(n), values) for n, values in by_labels.items() if values]
        if points and not row.all_labels:
            series[name] = [(n, float(np.mean(values))) for n, values in points]
            bands[name] = [float(np.std(values)) for _, values in points]
    url = plots.curves(series, "labels", axis_title(grid.metric), log_x=True, bands=bands)
    return [Picture("Score against labels", url)]


def _training_charts(grid: StudyGrid, runs: dict[StudyRun, Path]) -> list[Picture]:
    """Returns a chart of validation score against steps, with one curve per row."""
    series: dict[str, list[tuple[float, float]]] = {}
    for run, path in _first_runs(grid, runs).items():
        if not (path / "metrics.jsonl").is_file():
            continue
        lines = list(validation_lines(read_log(path)))
        chosen = [line for network, line in lines if network == "mean"] or [line for _, line in lines]
        points = {
            line["step"]: shown(grid.metric, line[grid.metric]) for line in chosen if line.get(grid.metric) is not None
        }
        if points:
            series[run.row] = sorted(points.items())
    if not series:
        return []
    title = f"{grid.metric} on validation during training, seed {grid.seeds[0]}"
    return [Picture(title, plots.curves(series, "step", axis_title(grid.metric)))]


def _examples(grid: StudyGrid, runs: dict[StudyRun, Path]) -> list[Examples]:
    """Returns examples of the same persons for each row, selected by the errors of the first row."""
    finished = {run: path for run, path in _first_runs(grid, runs).items() if (path / "predictions.json").is_file()}
    if not finished:
        return []
    try:
        splits = load_splits(load_config(next(iter(finished.values())) / "config.yaml").data)
    except DataError:  # the study was copied to a machine without its data: the page has no example images
        return []
    truth = splits.test or splits.validation
    assert truth is not None
    matched = {
        run.row: match(truth, load_predictions(path / "predictions.json", truth.skeleton))
        for run, path in finished.items()
    }
    order = errors_by_person(truth, next(iter(matched.values())))
    return [
        pose_examples(truth, row, title=f"{name} on the same persons", order=order) for name, row in matched.items()
    ]


def _first_runs(grid: StudyGrid, runs: dict[StudyRun, Path]) -> dict[StudyRun, Path]:
    """Returns the runs with the first seed and the first number of labels, or with all labels."""
    return {
        run: path for run, path in runs.items() if run.seed == grid.seeds[0] and run.labels in (grid.labels[0], None)
    }


def _scores(grid: StudyGrid, records: list[Record]) -> list[float]:
    return [shown(grid.metric, value) for r in records if (value := r.scores.get(grid.metric)) is not None]
