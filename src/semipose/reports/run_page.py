"""The report of a run: scores, options, training curves and example images."""

import json
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any

from semipose.config import RunConfig, load_config
from semipose.data.data_errors import describe_dropped, read_dropped
from semipose.data.datasets import DataSplits, load_splits
from semipose.data.formats.coco_results import load_predictions
from semipose.inference.video import SCORES_SUFFIX
from semipose.metrics.bootstrap import describe
from semipose.metrics.gain import Gain
from semipose.metrics.matching import match
from semipose.metrics.registry import axis_title, column_title, shown, value_text
from semipose.metrics.scores import describe_pixel_error, score
from semipose.metrics.video_scores import VideoScores
from semipose.reports import plots
from semipose.reports.examples import errors_by_person, heatmap_examples, pose_examples, view_examples
from semipose.reports.figures import Figures, mask_figures, network_figures
from semipose.reports.page import Page, Picture, Table
from semipose.reports.runs import Line, evaluated_persons, open_run, read_log, validation_lines
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction

METRICS = ("AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "pixel_error")


def run_page(folder: Path) -> Page:
    """Returns the report of a run.

    The report of an unfinished run has curves, the latest validation scores and example images.

    Raises:
        DataError: If the run has no log line yet.
    """
    config, log = load_config(folder / "config.yaml"), read_log(folder)
    splits, dropped = load_splits(config.data), read_dropped(folder)
    truth = evaluated_persons(folder, splits)
    results = _final_scores(folder, log[-1]["step"])
    charts = [Picture("Training losses", plots.curves(_losses(log), "step", "loss")), *_validation_charts(log)]
    examples = [] if truth is None else [heatmap_examples(folder, truth)]
    examples.append(view_examples(config, splits))
    notes: list[str] = []
    figures = Figures()
    if results is None:
        protocol, scores = _latest_scores(log)
    else:
        assert truth is not None  # scores exist
        predictions = load_predictions(folder / "predictions.json", truth.skeleton)
        matched = match(truth, predictions)
        examples.insert(0, pose_examples(truth, matched))
        own, notes = _scores_by_joint(truth, predictions)
        figures = _figures(folder, truth, matched, splits)
        charts += own + figures.charts
        protocol, scores = results["protocol"], results["scores"]
    intervals = describe(results.get("intervals", {}), f" of {results.get('best')}") if results else ""
    gain = Gain(**results["gain"]).describe() if results and results.get("gain") else ""
    lines = [
        protocol,
        intervals,
        gain,
        *notes,
        f"{_counts(splits)}; split {splits.split.hash}; folder {folder.resolve().name}",
        splits.account.describe(),
        f"Left out because of errors: {describe_dropped(dropped)} (listed in dropped.json)." if dropped else "",
    ]
    return Page(
        title=f"{config.method.name}: {config.model.backbone}, {config.input.height}×{config.input.width}",
        lines=[line for line in lines if line],
        tables=[*([_score_table(scores)] if scores else []), *_video_tables(folder), _option_table(config)],
        charts=charts,
        examples=[example for example in examples if example.pictures],
        sheets=figures.sheets,
    )


def _scores_by_joint(truth: PoseDataset, predictions: list[Prediction]) -> tuple[list[Picture], list[str]]:
    """Returns the charts of scores by joint, and what the scores add in words."""
    scores = score(truth, predictions)
    charts = [
        Picture(
            f"{metric} by joint",
            plots.bars({joint: shown(metric, value) for joint, value in own.items()}, axis_title(metric)),
        )
        for metric in ("PCK@0.2", "pixel_error")
        if (own := scores.by_joint.get(metric))
    ]
    return charts, [describe_pixel_error(scores.pixel_error), *scores.notes]


def _figures(folder: Path, truth: PoseDataset, matched: list[Prediction | None], splits: DataSplits) -> Figures:
    """Returns the networks by joint, on the person of median error, and the masks on unlabeled persons."""
    run, errors = open_run(folder), errors_by_person(truth, matched)
    figures = network_figures(run, truth, errors[len(errors) // 2][1]) if errors else Figures()
    figures.add(mask_figures(run, splits.unlabeled or truth))
    return figures


def _final_scores(folder: Path, step: int) -> dict[str, Any] | None:
    """Returns the content of scores.json; None if there is none, or if the run has since continued to `step`."""
    path = folder / "scores.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return results if results and results.get("step", step) >= step else None


def _latest_scores(log: list[Line]) -> tuple[str, dict[str, Any]]:
    """Returns the state of an unfinished run in one line, and its latest validation scores by network."""
    evaluations = list(validation_lines(log))
    latest = max((line["step"] for _, line in evaluations), default=None)
    scores = {network: line for network, line in evaluations if line["step"] == latest}
    source = f"the scores are validation scores at step {latest}" if scores else "there are no scores yet"
    return f"No final scores: the log ends at step {log[-1]['step']}; {source}.", scores


def _counts(splits: DataSplits) -> str:
    unlabeled = len(splits.unlabeled) if splits.unlabeled else 0
    return f"{len(splits.labeled)} labeled and {unlabeled} unlabeled persons"


def _losses(log: list[Line]) -> plots.Series:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in log:
        if line["kind"] == "train":
            for name, value in line.items():
                if name not in ("step", "kind", "lr"):
                    series[name].append((line["step"], value))
    return series


def _validation_charts(log: list[Line]) -> list[Picture]:
    charts = []
    for metric in ("AP", "PCK@0.2", "PCKh@0.5", "pixel_error"):
        series: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for network, line in validation_lines(log):
            if line.get(metric) is not None:
                series[network].append((line["step"], shown(metric, line[metric])))
        if series:
            url = plots.curves(series, "step", axis_title(metric))
            charts.append(Picture(f"{metric} on validation, by network", url))
    return charts


def _score_table(results: dict[str, Any]) -> Table:
    metrics = [m for m in METRICS if any(scores.get(m) is not None for scores in results.values())]
    rows = [[name, *(value_text(m, scores.get(m)) for m in metrics)] for name, scores in results.items()]
    return Table("Scores × 100, errors in pixels", ["network", *map(column_title, metrics)], rows)


def _video_tables(folder: Path) -> list[Table]:
    """The scores of the videos that were predicted into the run folder."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob(f"*{SCORES_SUFFIX}"))]
    names = [field.name for field in fields(VideoScores)]
    rows = [[v["video"], v["model"], *("–" if v[name] is None else f"{v[name]:.4g}" for name in names)] for v in found]
    title = "Predicted videos: shares of joints and of left/right pairs from frame to frame, movement in pixels"
    return [Table(title, ["video", "network", *(name.replace("_", " ") for name in names)], rows)] if rows else []


def _option_table(config: RunConfig) -> Table:
    """Returns the options that differ from the defaults of the method."""
    default = load_config(None, {"method": config.method.name}).model_dump(mode="json")
    rows = [[key, str(value)] for key, value in _changes(default, config.model_dump(mode="json"), "")]
    return Table("Options that differ from the defaults", ["option", "value"], rows)


def _changes(default: dict[str, Any], values: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    changes = []
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            changes += _changes(default[key], value, f"{prefix}{key}.")
        elif value != default.get(key):
            changes.append((prefix + key, value))
    return changes
