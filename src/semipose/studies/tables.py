"""Tables of a study: a CSV file with one line per run, and a Markdown table of mean ± std over seeds."""

import csv
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.methods.cost import step_cost
from semipose.metrics.registry import column_title, is_error, shown
from semipose.studies.grid import StudyGrid, StudyRun
from semipose.studies.runner import Outcome
from semipose.utils.files import write_text

NOT_COMPARABLE = "†"
"""Mark of published scores that cannot be compared with ours; the reason is below the table."""

MIN_GAP = 0.01
"""Smallest gap between baseline and upper bound, as a fraction, of which a share is more than noise."""
MIN_GAP_OF_ERROR = 0.05
"""The same of errors in pixels, as a fraction of the baseline's error."""


T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t with 1, 2, … degrees of freedom; for more seeds the last one, a little too wide."""


@dataclass(frozen=True)
class Record:
    """Scores of a finished run.

    Attributes:
        run: The run.
        scores: Fractions, or errors in pixels, by metric: the mean over the networks that the method reports.
        split: Hash of the labeled and unlabeled persons.
        protocol: The data and the settings of the evaluation, in one line.
        seconds: Training time.
    """

    run: StudyRun
    scores: dict[str, float | None]
    split: str
    protocol: str
    seconds: float


def read_record(run: StudyRun, folder: Path) -> Record:
    """Reads the scores of a finished run from its folder."""
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    scores = content["scores"].get("mean") or content["scores"][content["headline_networks"][0]]
    return Record(run, scores, content["split"], content["protocol"], content.get("seconds", float("nan")))


def write_tables(grid: StudyGrid, outcomes: list[Outcome], out: Path) -> Path:
    """Writes table.csv and table.md from the finished runs; returns the Markdown file."""
    records = [read_record(o.run, o.folder) for o in outcomes if o.failure is None]
    _write_csv(records, out / "table.csv")
    failures = [f"* {o.run.name}: {o.failure}" for o in outcomes if o.failure]
    path = out / "table.md"
    write_text(path, markdown(grid, records) + ("\nFailed:\n\n" + "\n".join(failures) + "\n" if failures else ""))
    return path


def markdown(grid: StudyGrid, records: list[Record]) -> str:
    """Returns the table with splits and protocols below it; of several data sets, a section for each."""
    lines = [f"# {grid.title}", ""]
    for name, part in grid.parts().items():
        own = [r for r in records if r.run.dataset == name]
        head, rows = table(part, own)
        lines += [f"## {name}", ""] if name else []
        lines += [_line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
        lines += [f"Splits: {', '.join(sorted({r.split for r in own}))}.", "", *sorted({r.protocol for r in own}), ""]
        lines += [text for note in [*footnotes(part), part.note] if note for text in (note, "")]
    return "\n".join([*lines, grid.note, ""] if grid.datasets else lines)


def table(grid: StudyGrid, records: list[Record]) -> tuple[list[str], list[list[str]]]:
    """Returns head and rows: scores × 100 for each row of the study and number of labels, mean ± std over seeds.

    Errors are in pixels. Next to a metric stand the paper's scores, where there are any, and the difference from those
    of the study's metric. With several seeds, the differences from the first row follow.

    Args:
        grid: The study, or the part of it that belongs to one data set.
        records: Finished runs, on this data set.
    """
    wanted = dict.fromkeys((*grid.columns, grid.metric))
    metrics = [m for m in wanted if any(r.scores.get(m) is not None for r in records)]
    head = ["", "labels", "seeds", *(title for m in metrics for title in _titles(grid, m))]
    if len(grid.seeds) > 1:
        head.append(f"{column_title(grid.metric)} minus {next(iter(grid.rows))} (95 %)")
    head += [f"gap recovered ({grid.metric})", "units", "minutes"]
    rows = []
    for name, row in grid.rows.items():
        for labels in [None] if row.all_labels else grid.labels:
            of_row = [r for r in records if r.run.row == name and r.run.labels == labels]
            if not of_row:
                continue
            line = [name, str(labels or "all"), str(len(of_row))]
            line += [cell for m in metrics for cell in _cells(grid, m, of_row)]
            if len(grid.seeds) > 1:
                line.append(difference_from_baseline(grid, of_row, records))
            line.append(gap_recovered(grid, of_row, records))
            line.append(str(step_cost(grid.run_config(of_row[0].run).method).units))
            line.append(f"{statistics.mean(r.seconds for r in of_row) / 60:.1f}")
            rows.append(line)
    return head, rows


def footnotes(grid: StudyGrid) -> list[str]:
    """Returns the reasons why published scores cannot be compared with ours, one line each."""
    if grid.not_comparable:
        return [f"{NOT_COMPARABLE} {grid.not_comparable}"] if any(row.published for row in grid.rows.values()) else []
    by_reason: dict[str, list[str]] = {}
    for name, row in grid.rows.items():
        if row.not_comparable and row.published:
            by_reason.setdefault(row.not_comparable, []).append(name)
    return [f"{NOT_COMPARABLE} {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _titles(grid: StudyGrid, metric: str) -> list[str]:
    """The titles of the columns of a metric: ours, published, and the difference."""
    title = column_title(metric)
    if not any(metric in scores for row in grid.rows.values() for scores in row.published.values()):
        return [title]
    return [title, f"{title} published", *(["difference"] if _has_difference(grid, metric) else [])]


def _has_difference(grid: StudyGrid, metric: str) -> bool:
    return metric == grid.metric and not grid.not_comparable


def _cells(grid: StudyGrid, metric: str, own: list[Record]) -> list[str]:
    """The texts of the columns of a metric in one row."""
    run = own[0].run
    row = grid.rows[run.row]
    ours = [r.scores.get(metric) for r in own]
    published = row.published.get(run.labels or 0, {}).get(metric)
    comparable = not (row.not_comparable or grid.not_comparable)
    known = [shown(metric, value) for value in ours if value is not None]
    there = "–" if published is None else f"{published}{'' if comparable else ' ' + NOT_COMPARABLE}"
    difference = "–"
    if published is not None and comparable and known:
        difference = f"{statistics.mean(known) - float(published):+.1f}"
    cells = [mean_and_std(ours, metric), there, difference]
    return cells[: len(_titles(grid, metric))]


def mean_and_std(values: list[float | None], metric: str) -> str:
    """Returns mean ± sample standard deviation of the values that are not None: × 100, of errors in pixels."""
    known = [shown(metric, v) for v in values if v is not None]
    if not known:
        return "–"
    return f"{statistics.mean(known):.1f}" + (f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else "")


def difference_from_baseline(grid: StudyGrid, own: list[Record], records: list[Record]) -> str:
    """Returns the mean over seeds of method − first row, × 100 or in pixels, with the 95 % interval of Student's t.

    Each seed is a pair: both runs have the same labeled persons, and the same test set. – for the first row itself.
    """
    baseline = next(iter(grid.rows))
    gains = []
    for record in own:
        low = _score(grid, records, baseline, record.run.labels, record.run.seed)
        value = record.scores.get(grid.metric)
        if record.run.row != baseline and low is not None and value is not None:
            gains.append(shown(grid.metric, value) - shown(grid.metric, low))
    if not gains:
        return "–"
    mean = statistics.mean(gains)
    if len(gains) == 1:
        return f"{mean:+.1f}"
    quantile = T_QUANTILES[min(len(gains) - 1, len(T_QUANTILES)) - 1]
    half = quantile * statistics.stdev(gains) / len(gains) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def gap_recovered(grid: StudyGrid, own: list[Record], records: list[Record]) -> str:
    """Returns the mean over seeds of (method − baseline) / (all labels − baseline); – if the gap is too small."""
    baseline = next(iter(grid.rows))
    bound = next((name for name, row in grid.rows.items() if row.all_labels), None)
    fractions = []
    for record in own:
        if record.run.row in (baseline, bound):
            continue
        low = _score(grid, records, baseline, record.run.labels, record.run.seed)
        high = _score(grid, records, bound, None, record.run.seed)
        value = record.scores.get(grid.metric)
        if low is None or high is None or value is None:
            continue
        if low - high >= MIN_GAP_OF_ERROR * low if is_error(grid.metric) else high - low >= MIN_GAP:
            fractions.append((value - low) / (high - low))
    return f"{100 * statistics.mean(fractions):.0f} %" if fractions else "–"


def _score(grid: StudyGrid, records: list[Record], row: str | None, labels: int | None, seed: int) -> float | None:
    key = (row, labels, seed)
    return next((r.scores.get(grid.metric) for r in records if (r.run.row, r.run.labels, r.run.seed) == key), None)


def _line(entries: list[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def _write_csv(records: list[Record], path: Path) -> None:
    metrics = sorted({m for r in records for m in r.scores})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        several = ["dataset"] if any(r.run.dataset for r in records) else []
        writer.writerow([*several, "row", "labels", "seed", *metrics, "split", "seconds"])
        for r in records:
            scores: list[Any] = ["" if (value := r.scores.get(m)) is None else value for m in metrics]
            of = [r.run.dataset] if several else []
            writer.writerow([*of, r.run.row, r.run.labels or "all", r.run.seed, *scores, r.split, f"{r.seconds:.1f}"])
