"""`report.html` for a run or a study: one self-contained page that opens offline."""

import json
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from semipose.config import RunConfig, load_config
from semipose.data.data_errors import describe_dropped, read_dropped, without_images
from semipose.data.datasets import load_splits
from semipose.data.formats.coco_results import load_predictions
from semipose.errors import ConfigError, DataError
from semipose.metrics.bootstrap import describe
from semipose.metrics.pck import match
from semipose.metrics.scores import score
from semipose.reports import plots
from semipose.reports.examples import Gallery, errors_by_person, example_gallery, hard_view_gallery, heatmap_gallery
from semipose.structures.instances import PoseDataset
from semipose.studies.grid import Cell, Grid
from semipose.studies.tables import Record, read_record, table
from semipose.utils.files import write_text

METRICS = ("AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5")


def write_report(folder: Path) -> Path:
    """Writes report.html into a run's or a study's folder and returns its path.

    Raises ConfigError when the folder is neither, DataError when it has nothing to show yet.
    """
    if (folder / "study.json").is_file():
        content = _study(folder)
    elif (folder / "config.yaml").is_file():
        content = _run(folder)
    else:
        raise ConfigError(f"{folder} holds neither a run (config.yaml) nor a study (study.json); give one's folder")
    environment = Environment(
        loader=PackageLoader("semipose.reports", "templates"), autoescape=select_autoescape(default=True)
    )
    path = folder / "report.html"
    write_text(path, environment.get_template("report.html.j2").render(content))
    return path


def _run(folder: Path) -> dict[str, Any]:
    """The page of a run; of one that is not finished, its curves, its last look at validation and its pictures."""
    config, log = load_config(folder / "config.yaml"), _log(folder)
    splits = load_splits(config.data)
    truth, dropped = splits.test or splits.validation, read_dropped(folder)
    if truth is not None:
        truth = without_images(truth, {Path(p) for found in dropped.values() for p in found["photographs"]})
    charts = [
        {"title": "Training losses", "image": plots.curves(_losses(log), "step", "loss")},
        *_validation_charts(log),
    ]
    galleries: list[Gallery] = []
    if truth is not None:
        galleries.append(heatmap_gallery(folder, truth))
    galleries.append(hard_view_gallery(config, splits))
    results = _scores(folder, log[-1]["step"])
    sure = describe(results.get("intervals", {}), f" of {results.get('best')}") if results else ""
    if results is None:
        lead, scores = _so_far(log)
    else:
        assert truth is not None  # scores exist
        examples, chart = _judged(folder, truth)
        galleries.insert(0, examples)
        charts.append(chart)
        lead, scores = results["protocol"], results["scores"]
    return {
        "title": f"{config.method.name}: {config.model.backbone}, {config.input.height}×{config.input.width}",
        "lead": [
            lead,
            *([sure] if sure else []),
            f"{_persons(splits)}; split {splits.split.hash}; folder {folder.resolve().name}",
            *([f"Left out as broken: {describe_dropped(dropped)} (dropped.json lists them)."] if dropped else []),
        ],
        "tables": [*([_score_table(scores)] if scores else []), _option_table(config)],
        "charts": [chart for chart in charts if chart["image"]],
        "galleries": [gallery for gallery in galleries if gallery.tiles],
    }


def _judged(folder: Path, truth: PoseDataset) -> tuple[Gallery, dict[str, str]]:
    """Examples sorted by error and the chart by joint of a finished run."""
    predictions = load_predictions(folder / "predictions.json", truth.skeleton)
    by_joint = _percent(score(truth, predictions).per_joint)
    chart = {"title": "PCK@0.2 by joint", "image": plots.bars({"PCK": by_joint}, "PCK@0.2 × 100")}
    return example_gallery(truth, match(truth, predictions)), chart


def _so_far(log: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Where a run stands that has no scores, and what its last look at validation found, by network."""
    looks = [line for line in log if line["kind"].startswith("validation/")]
    latest = max((line["step"] for line in looks), default=None)
    scores = {line["kind"].partition("/")[2]: line for line in looks if line["step"] == latest}
    found = f"; scores are those on validation at step {latest}" if scores else ", and nothing to score on so far"
    return f"No final scores: the log ends at step {log[-1]['step']}{found}.", scores


def _log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; the last may still be being written."""
    path, lines = folder / "metrics.jsonl", []
    if path.is_file():
        with suppress(json.JSONDecodeError):
            for line in path.read_text().splitlines():
                lines.append(json.loads(line))
    if not lines:
        raise DataError(f"{folder} has no line in metrics.jsonl yet: the run has not begun; try again later")
    return lines


def _scores(folder: Path, step: int) -> dict[str, Any] | None:
    """What a run found at its end; None before, and where it went on from there to `step`."""
    path = folder / "scores.json"
    results = json.loads(path.read_text()) if path.is_file() else None
    return results if results and results.get("step", step) >= step else None


def _persons(splits: Any) -> str:
    unlabeled = len(splits.unlabeled) if splits.unlabeled else 0
    return f"{len(splits.labeled)} labeled and {unlabeled} unlabeled people"


def _losses(log: list[dict[str, Any]]) -> plots.Series:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in log:
        if line["kind"] == "train":
            for name, value in line.items():
                if name not in ("step", "kind", "lr"):
                    found[name].append((line["step"], value))
    return found


def _validation_charts(log: list[dict[str, Any]]) -> list[dict[str, str]]:
    charts = []
    for metric in ("AP", "PCK@0.2", "PCKh@0.5"):
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for line in log:
            kind, _, name = line["kind"].partition("/")
            if kind == "validation" and line.get(metric) is not None:
                found[name].append((line["step"], 100 * line[metric]))
        if found:
            charts.append(
                {
                    "title": f"{metric} on validation, by network",
                    "image": plots.curves(found, "step", f"{metric} × 100"),
                }
            )
    return charts


def _percent(values: Any) -> dict[str, float]:
    return {name: 100 * value for name, value in values.items() if value is not None}


def _score_table(results: dict[str, Any]) -> dict[str, Any]:
    shown = [m for m in METRICS if any(s.get(m) is not None for s in results.values())]
    rows = [
        [name, *("–" if scores.get(m) is None else f"{100 * scores[m]:.1f}" for m in shown)]
        for name, scores in results.items()
    ]
    return {"title": "Scores × 100", "head": ["network", *shown], "rows": rows}


def _option_table(config: RunConfig) -> dict[str, Any]:
    """What differs from the defaults of the same method."""
    plain = RunConfig(method={"name": config.method.name}).model_dump(mode="json")
    rows = [[key, str(value)] for key, value in _changes(plain, config.model_dump(mode="json"), "")]
    return {"title": "Options that are not the defaults", "head": ["option", "value"], "rows": rows}


def _changes(plain: Any, own: Any, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(plain.get(key), dict):
            found += _changes(plain[key], value, f"{prefix}{key}.")
        elif value != plain.get(key):
            found.append((prefix + key, value))
    return found


def _study(folder: Path) -> dict[str, Any]:
    """The page of a study: its table, every seed, the label curve, training curves and the persons it errs on."""
    grid = Grid(**{**json.loads((folder / "study.json").read_text()), "protocol": None})
    cells = {cell: folder / "cells" / cell.name for cell in grid.cells()}
    records = [read_record(cell, path) for cell, path in cells.items() if (path / "scores.json").is_file()]
    if not records:
        raise DataError(f"{folder} has no finished cell yet; continue it with semipose study --resume")
    head, rows = table(grid, records)
    charts = []
    by_labels = sorted({r.cell.labels for r in records if r.cell.labels})
    for count in by_labels:
        groups = {
            n: _figures(grid, [r for r in records if r.cell.row == n and r.cell.labels in (count, None)])
            for n in grid.rows
        }
        groups = {name: values for name, values in groups.items() if values}
        charts.append(
            {
                "title": f"{grid.metric}, {count} labels, one dot a seed",
                "image": plots.dots(groups, f"{grid.metric} × 100"),
            }
        )
    if len(by_labels) > 1:
        charts.append({"title": "Score against labels", "image": _label_curve(grid, records)})
    charts += _study_curves(grid, cells)
    return {
        "title": grid.title,
        "lead": [*sorted({r.protocol for r in records}), grid.note, f"{len(records)} of {len(cells)} cells are done."],
        "tables": [
            {"title": "Scores × 100, mean ± std over seeds, and the cost of a step", "head": head, "rows": rows}
        ],
        "charts": charts,
        "galleries": _study_gallery(grid, cells),
    }


def _figures(grid: Grid, records: list[Record]) -> list[float]:
    return [100 * value for r in records if (value := r.scores.get(grid.metric)) is not None]


def _label_curve(grid: Grid, records: list[Record]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[float]] = {}
    for name, row in grid.rows.items():
        own = {n: _figures(grid, [r for r in records if (r.cell.row, r.cell.labels) == (name, n)]) for n in grid.labels}
        points = [(float(n), values) for n, values in own.items() if n and values]
        if points and not row.all_labels:
            series[name] = [(n, float(np.mean(values))) for n, values in points]
            bands[name] = [float(np.std(values)) for _, values in points]
    return plots.curves(series, "labels", f"{grid.metric} × 100", log_x=True, bands=bands)


def _study_curves(grid: Grid, cells: dict[Cell, Path]) -> list[dict[str, str]]:
    """Validation score against steps for the first seed of each row, at the first number of labels."""
    series: dict[str, list[tuple[float, float]]] = {}
    for cell, path in cells.items():
        log = path / "metrics.jsonl"
        if cell.seed != grid.seeds[0] or cell.labels not in (grid.labels[0], None) or not log.is_file():
            continue
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        chosen = [line for line in lines if line["kind"] == "validation/mean"] or [
            line for line in lines if line["kind"].startswith("validation/")
        ]
        points = {line["step"]: 100 * line[grid.metric] for line in chosen if line.get(grid.metric) is not None}
        if points:
            series[cell.row] = sorted(points.items())
    if not series:
        return []
    title = f"{grid.metric} on validation while training, seed {grid.seeds[0]}"
    return [{"title": title, "image": plots.curves(series, "step", f"{grid.metric} × 100")}]


def _study_gallery(grid: Grid, cells: dict[Cell, Path]) -> list[Gallery]:
    """The same persons under every row: those the first row errs on most, a middle and its best."""
    done = [
        (cell, path)
        for cell, path in cells.items()
        if cell.seed == grid.seeds[0]
        and cell.labels in (grid.labels[0], None)
        and (path / "predictions.json").is_file()
    ]
    if not done:
        return []
    try:
        splits = load_splits(load_config(done[0][1] / "config.yaml").data)
    except DataError:  # the study was copied away from its data: the page goes without pictures
        return []
    truth = splits.test or splits.validation
    assert truth is not None
    found = {cell.row: match(truth, load_predictions(path / "predictions.json", truth.skeleton)) for cell, path in done}
    order = errors_by_person(truth, next(iter(found.values())))
    return [
        example_gallery(truth, matched, title=f"{name} on the same persons", order=order)
        for name, matched in found.items()
    ]
