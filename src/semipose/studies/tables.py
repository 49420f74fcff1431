"""Tables of a study: one tidy row per cell as CSV, and mean ± std per row of the study as Markdown."""

import csv
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.methods.cost import step_cost
from semipose.studies.grid import Cell, Grid
from semipose.studies.runner import Outcome
from semipose.utils.files import write_text


@dataclass(frozen=True)
class Record:
    """A finished cell: its scores as fractions, and what made them."""

    cell: Cell
    scores: dict[str, float | None]
    split: str
    protocol: str
    seconds: float


def read_record(cell: Cell, folder: Path) -> Record:
    """What a cell left behind: the mean of the networks that its method reports."""
    content = json.loads((folder / "scores.json").read_text())
    scores = content["scores"].get("mean") or content["scores"][content["headline_networks"][0]]
    return Record(cell, scores, content["split"], content["protocol"], content.get("seconds", float("nan")))


def write_tables(grid: Grid, outcomes: list[Outcome], out: Path) -> Path:
    """Writes table.csv and table.md from the cells that are done; returns the Markdown file."""
    records = [read_record(o.cell, o.folder) for o in outcomes if o.failure is None]
    _write_csv(records, out / "table.csv")
    failures = [f"* {o.cell.name}: {o.failure}" for o in outcomes if o.failure]
    path = out / "table.md"
    write_text(path, markdown(grid, records) + ("\nFailed:\n\n" + "\n".join(failures) + "\n" if failures else ""))
    return path


def markdown(grid: Grid, records: list[Record]) -> str:
    """The table with splits and protocols below it."""
    head, rows = table(grid, records)
    lines = [f"# {grid.title}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows)]
    splits = ", ".join(sorted({r.split for r in records}))
    protocols = sorted({r.protocol for r in records})
    return "\n".join([*lines, "", f"Splits: {splits}.", "", *protocols, "", grid.note, ""])


def table(grid: Grid, records: list[Record]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, one row per row of the study and number of labels: figures × 100, mean ± std over seeds."""
    metrics = [m for m in ("AP", "AP50", "PCK@0.2", "PCKh@0.5") if any(r.scores.get(m) is not None for r in records)]
    published = any(row.published for row in grid.rows.values())
    head = ["", "labels", "seeds", *metrics, f"gap recovered ({grid.metric})", "units", "minutes"]
    if published:
        head += ["published", "difference"] if grid.comparable else ["published elsewhere"]
    rows = []
    for name, row in grid.rows.items():
        for count in [None] if row.all_labels else grid.labels:
            own = [r for r in records if r.cell.row == name and r.cell.labels == count]
            if not own:
                continue
            cells = [
                name,
                str(count or "all"),
                str(len(own)),
                *(spread([r.scores.get(m) for r in own]) for m in metrics),
            ]
            cells += [
                gap_recovered(grid, own, records),
                str(step_cost(grid.configuration(own[0].cell).method).units),
                f"{statistics.mean(r.seconds for r in own) / 60:.1f}",
            ]
            if published:
                beside = _beside(row.published.get(count or 0), [r.scores.get(grid.metric) for r in own])
                cells += beside if grid.comparable else beside[:1]
            rows.append(cells)
    return head, rows


def spread(values: list[float | None]) -> str:
    """Mean ± sample standard deviation × 100."""
    known = [100 * v for v in values if v is not None]
    if not known:
        return "–"
    return f"{statistics.mean(known):.1f}" + (f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else "")


LEAST_GAP = 0.01
"""A share of a smaller gap, as a fraction, would be a share of noise."""


def gap_recovered(grid: Grid, own: list[Record], records: list[Record]) -> str:
    """(method − floor) / (all labels − floor), seed by seed, then the mean; – where the gap is less than a point."""
    floor = next(iter(grid.rows))
    top = next((name for name, row in grid.rows.items() if row.all_labels), None)
    found = []
    for record in own:
        if record.cell.row in (floor, top):
            continue
        low = _figure(grid, records, floor, record.cell.labels, record.cell.seed)
        high = _figure(grid, records, top, None, record.cell.seed)
        value = record.scores.get(grid.metric)
        if None not in (low, high, value) and high - low >= LEAST_GAP:  # type: ignore[operator]
            found.append((value - low) / (high - low))  # type: ignore[operator]
    return f"{100 * statistics.mean(found):.0f} %" if found else "–"


def _figure(grid: Grid, records: list[Record], row: str | None, labels: int | None, seed: int) -> float | None:
    cell = Cell(row or "", labels, seed)
    return next((r.scores.get(grid.metric) for r in records if r.cell == cell), None)


def _beside(published: float | None, values: list[float | None]) -> list[str]:
    known = [100 * v for v in values if v is not None]
    if published is None or not known:
        return ["–" if published is None else f"{published:.1f}", "–"]
    return [f"{published:.1f}", f"{statistics.mean(known) - published:+.1f}"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _write_csv(records: list[Record], path: Path) -> None:
    metrics = sorted({m for r in records for m in r.scores})
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "labels", "seed", *metrics, "split", "seconds"])
        for r in records:
            scores: list[Any] = ["" if r.scores[m] is None else r.scores[m] for m in metrics]
            writer.writerow([r.cell.row, r.cell.labels or "all", r.cell.seed, *scores, r.split, f"{r.seconds:.1f}"])
