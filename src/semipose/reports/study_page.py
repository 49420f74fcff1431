"""The report of a study: its table, the scores of all seeds, label and training curves, and example images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from semipose.errors import DataError
from semipose.metrics.registry import axis_title, is_error, shown
from semipose.reports import plots
from semipose.reports.figures import figures_of_runs
from semipose.reports.page import Page, Picture, Table
from semipose.reports.runs import ReportedRun, open_run
from semipose.studies.grid import StudyGrid, StudyRun
from semipose.studies.runner import run_folder
from semipose.studies.tables import Record, footnotes, read_record, table


def study_page(folder: Path) -> Page:
    """Returns the report of a study.

    Raises:
        DataError: If no run is finished.
    """
    grid = StudyGrid(**json.loads((folder / "study.json").read_text(encoding="utf-8")))
    runs = {run: run_folder(folder, run) for run in grid.runs()}
    records = [read_record(run, path) for run, path in runs.items() if (path / "scores.json").is_file()]
    if not records:
        raise DataError(f"{folder} has no finished run yet; continue the study")
    sections = []
    for name, part in grid.parts().items():
        finished = [r for r in records if r.run.dataset == name]
        if finished:
            sections.append(_section(name, part, {r: p for r, p in runs.items() if r.dataset == name}, finished))
    notes = [*(line for section in sections for line in section.lines), *([grid.note] if grid.datasets else [])]
    return Page(
        title=grid.title,
        lines=[
            *sorted({r.protocol for r in records}),
            *filter(None, dict.fromkeys(notes)),
            f"{len(records)} of {len(runs)} runs are finished.",
        ],
        tables=[table for section in sections for table in section.tables],
        charts=[chart for section in sections for chart in section.charts],
        sheets=[sheet for section in sections for sheet in section.sheets],
    )


def _section(name: str, grid: StudyGrid, runs: dict[StudyRun, Path], records: list[Record]) -> Page:
    """Returns table and figures of one data set, whose name their titles begin with if it has one."""
    head, rows = table(grid, records)
    figures = figures_of_runs(_compared(grid, runs), grid.metric)
    unit = "Scores × 100" + (", errors in pixels (lower is better)" if is_error(grid.metric) else "")
    charts = [*_seed_charts(grid, records), *_label_charts(grid, records), *figures.charts]
    of = f"{name}: " if name else ""
    return Page(
        title=name,
        lines=[*footnotes(grid), grid.note, *figures.notes],
        tables=[Table(f"{of}{unit}, mean ± std over seeds, and the cost of a step", head, rows)],
        charts=[replace(chart, title=of + chart.title) for chart in charts],
        sheets=[replace(sheet, title=of + sheet.title) for sheet in figures.sheets],
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
            if any(len(values) > 1 for _, values in points):
                bands[name] = [float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for _, values in points]
    url = plots.curves(series, "labels", axis_title(grid.metric), log_x=True, bands=bands)
    return [Picture("Score against labels", url)]


def _compared(grid: StudyGrid, runs: dict[StudyRun, Path]) -> list[ReportedRun]:
    """Returns the runs with the first number of labels, and those of rows with all labels, by row and seed."""
    chosen = [run for run in runs if run.labels == grid.labels[0] or grid.rows[run.row].all_labels]  # ordered by seed
    return [open_run(runs[run], run.row) for run in chosen if (runs[run] / "config.yaml").is_file()]


def _scores(grid: StudyGrid, records: list[Record]) -> list[float]:
    return [shown(grid.metric, value) for r in records if (value := r.scores.get(grid.metric)) is not None]
