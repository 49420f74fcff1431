"""The report of several runs: their scores side by side, and the papers' figures of them."""

import json
from collections.abc import Sequence

from semipose.errors import DataError
from semipose.metrics.registry import column_title, value_text
from semipose.reports.figures import figures_of_runs
from semipose.reports.page import Page, Table
from semipose.reports.run_page import METRICS
from semipose.reports.runs import ReportedRun


def comparison_page(runs: Sequence[ReportedRun]) -> Page:
    """Returns the report of several runs.

    Raises:
        DataError: If none of them is finished.
    """
    finished = [run for run in runs if run.results]
    if not finished:
        raise DataError(f"none of {', '.join(str(run.folder) for run in runs)} is finished; wait for a run to end")
    figures = figures_of_runs(runs)
    unfinished = [run.name for run in runs if not run.results]
    by_protocol: dict[str, list[str]] = {}
    for run in finished:
        by_protocol.setdefault(str(run.results and run.results["protocol"]), []).append(run.name)
    lines = [f"{', '.join(names)}: {protocol}" for protocol, names in by_protocol.items()]
    lines += [f"Not finished: {', '.join(unfinished)}."] if unfinished else []
    return Page(
        title=f"{len(runs)} runs compared",
        lines=[*lines, *figures.notes],
        tables=[_table(runs)],
        charts=figures.charts,
        sheets=figures.sheets,
    )


def _table(runs: Sequence[ReportedRun]) -> Table:
    metrics = [m for m in METRICS if any(run.scores.get(m) is not None for run in runs)]
    head = ["run", "method", "backbone", "input", "labeled", "seed", *map(column_title, metrics)]
    rows = []
    for run in runs:
        config, split = run.config, run.folder / "split.json"
        labeled = str(len(json.loads(split.read_text(encoding="utf-8"))["labeled"])) if split.is_file() else "–"
        size = f"{config.input.height}×{config.input.width}"
        row = [run.name, config.method.name, config.model.backbone, size, labeled, str(config.train.seed)]
        rows.append([*row, *(value_text(m, run.scores.get(m)) for m in metrics)])
    return Table("Scores × 100, errors in pixels: the mean of each method's headline networks", head, rows)
