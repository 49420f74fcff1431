"""The report of a run: the answer, what to do next, scores by joint, examples, curves and options."""

import json
import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from semipose.adaptation import load_data
from semipose.config import RunConfig, load_config
from semipose.data.data_errors import describe_dropped, read_dropped
from semipose.data.datasets import DataSplits
from semipose.data.formats.coco_results import load_predictions
from semipose.data.found_boxes import with_boxes_of_run
from semipose.data.video import SCORES_SUFFIX
from semipose.errors import ConfigError, DataError, WeightsError
from semipose.inference.weights import read_description
from semipose.metrics.base import MatchedDataset
from semipose.metrics.bootstrap import describe
from semipose.metrics.calibration import NOT_CALIBRATED
from semipose.metrics.gain import Gain
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks_scale import ap_caveats
from semipose.metrics.registry import axis_title, column_title, in_words, is_error, shown, value_text
from semipose.metrics.scores import describe_pixel_error, score
from semipose.metrics.video_scores import VideoScores
from semipose.reports import plots
from semipose.reports.examples import error_sheets, errors_by_person, view_sheets
from semipose.reports.figures import Figures, mask_figures, network_figures
from semipose.reports.page import Answer, Page, Picture, Table
from semipose.reports.runs import Line, evaluated_persons, open_run, read_log, validation_lines
from semipose.reports.suggestions import Findings, SuggestCall, python_call, suggestions
from semipose.structures.boxes import AROUND_LABELS, pose_length
from semipose.structures.instances import PoseDataset
from semipose.utils.text import plural

METRICS = ("AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "pixel_error")

MEANINGS = {
    "AP": "COCO's keypoint score, between 0 and 100",
    "PCK@0.2": "of the joints are within a fifth of the torso's diagonal of their label (PCK@0.2)",
    "PCKh@0.5": "of the joints are within half the length of the head of their label (PCKh@0.5)",
    "pixel_error": "is the mean distance between predicted and labeled joints, in pixels of your images",
}
"""What the metrics of the answer are, in words."""


def run_page(folder: Path, suggest_call: SuggestCall = python_call) -> Page:
    """Returns the report of a run, whose suggestions name `suggest` by this call.

    The report of an unfinished run has curves, the latest validation scores and example images.

    Raises:
        DataError: If the run has no log line yet.
    """
    config, log = load_config(folder / "config.yaml"), read_log(folder)
    try:
        splits, dropped = with_boxes_of_run(load_data(config), folder), read_dropped(folder)
    except (ConfigError, DataError, WeightsError) as error:  # the folder was copied without its data, or this has moved
        return _page_without_data(folder, config, log, error)
    truth, results = evaluated_persons(folder, splits), _final_scores(folder, log[-1]["step"])
    unused = (results or {}).get("unlabeled_not_used", "")
    account = [
        f"{_counts(splits)}; split {splits.split.hash}; folder {folder.resolve().name}",
        splits.account.describe(),
        f"Left out because of errors: {describe_dropped(dropped)} (listed in dropped.json)." if dropped else "",
    ]
    curves = [*_validation_charts(log, truth), Picture("Training losses", plots.curves(_losses(log), "step", "loss"))]
    views = [] if unused else view_sheets(config, splits)
    title, settings = _title(config), [_option_table(config)]
    if results is None:
        state, latest = _latest_scores(log)
        tables = [*([_score_table(latest)] if latest else []), *_video_tables(folder)]
        return Page(title, [state], tables, curves, views, details=list(filter(None, account)), settings=settings)
    assert truth is not None  # scores exist
    data = match_dataset(truth, load_predictions(folder / "predictions.json", truth.skeleton))
    gain = Gain(**results["gain"]) if results.get("gain") else None
    charts, notes = _scores_by_joint(data)
    figures, weights = _figures(folder, data, splits), folder / "best.safetensors"
    boxes = read_description(weights).boxes if weights.is_file() else None
    findings = Findings(str(folder), config, splits, data, _validation_errors(log, results), gain, boxes)
    measured = [
        results["protocol"],
        describe(results.get("intervals", {}), f" of {results.get('best')}"),
        gain.describe() if gain else "",
        _calibration_line(results),
        *notes,
    ]
    return Page(
        title=title,
        answers=_answers(results, gain, truth),
        lines=[_measured_on(truth, splits, results)],
        suggestions=suggestions(findings, suggest_call),
        tables=[_score_table(_different(results), results.get("best")), *_video_tables(folder)],
        charts=[*charts, *_reliability(results), *figures.charts, *curves],
        sheets=[*error_sheets(truth, list(data.matched)), *figures.sheets, *views],
        details=[line for line in [*measured, *account] if line],
        settings=settings,
    )


def _title(config: RunConfig) -> str:
    return f"{config.method.name}: {config.model.backbone}, {config.input.height}×{config.input.width}"


def _page_without_data(folder: Path, config: RunConfig, log: list[dict[str, Any]], error: Exception) -> Page:
    """Returns the scores and losses of a run whose data can't be read, and why."""
    results = _final_scores(folder, log[-1]["step"])
    state, latest = ("", _different(results)) if results else _latest_scores(log)
    gain = Gain(**results["gain"]).describe() if results and results.get("gain") else ""
    lines = [state, gain, f"Examples and errors are missing, because the data can't be read: {error}"]
    losses = Picture("Training losses", plots.curves(_losses(log), "step", "loss"))
    tables = [_score_table(latest)] if latest else []
    details = [results["protocol"]] if results else []
    return Page(
        _title(config), list(filter(None, lines)), tables, [losses], details=details, settings=[_option_table(config)]
    )


def _answers(results: dict[str, Any], gain: Gain | None, truth: PoseDataset) -> list[Answer]:
    """Returns the score of the best network, the gain from unlabeled images, and its other scores."""
    best = results.get("best") or next(iter(results["scores"]))
    scores, intervals = results["scores"][best], results.get("intervals") or {}
    names = [name for name in ("PCK@0.2", "PCKh@0.5", "pixel_error", "AP") if scores.get(name) is not None]
    if ap_caveats(truth) or not truth.skeleton.sigmas_known:
        names = [name for name in names if name != "AP"]
    answers = [_score_answer(name, scores[name], intervals.get(name), results, truth) for name in names]
    unused = results.get("unlabeled_not_used")
    about_gain = [_gain_answer(gain, results.get("harm", ""))] if gain else [_unused_answer(unused)] if unused else []
    if unmeasured := results.get("gain_not_measured"):
        about_gain = [Answer("not measured", f"is the gain from unlabeled images: {unmeasured}.")]
    return [*answers[:1], *about_gain, *answers[1:]]


def _score_answer(
    name: str, value: float, interval: tuple[float, float] | None, results: dict[str, Any], truth: PoseDataset
) -> Answer:
    unit = " px" if is_error(name) else "" if name == "AP" else " %"
    text = MEANINGS[name]
    if results.get("boxes") == AROUND_LABELS:
        text += f", measured in boxes {AROUND_LABELS}"
    if interval:
        text += f"; 95 % interval {shown(name, interval[0]):.1f} to {shown(name, interval[1]):.1f}"
    if is_error(name) and results.get("pixel_error"):
        text += f". Half of the joints are within {results['pixel_error']['median']:.1f} px"
        length = pose_length(truth)
        text += "" if math.isnan(length) else f"; a pose is {length:.0f} px long"
    return Answer(f"{'AP ' if name == 'AP' else ''}{shown(name, value):.1f}{unit}", f"{text}.")


def _gain_answer(gain: Gain, harm: str) -> Answer:
    low, high = (shown(gain.metric, end) for end in gain.interval)
    unit = "px" if is_error(gain.metric) else gain.metric
    better = gain.interval[1] < 0 if is_error(gain.metric) else gain.interval[0] > 0
    verdict = "They help" if better else "They did harm" if gain.is_harm else "Whether they help is not certain"
    verdict = f"{harm[0].upper()}{harm[1:]}" if harm else verdict
    text = "of error is" if is_error(gain.metric) else "is"
    text += f" what the unlabeled images changed over {gain.baseline}; "
    text += f"95 % interval {low:+.1f} to {high:+.1f}. {verdict}."
    return Answer(f"{shown(gain.metric, gain.value):+.1f} {unit}", text)


def _unused_answer(reason: str) -> Answer:
    return Answer("not used", f"are the unlabeled images: {reason}.")


def _different(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the scores by network, without those of the labels-alone network if no network learned anything else."""
    alone = "labels_alone" if results.get("unlabeled_not_used") else None
    return {name: scores for name, scores in results["scores"].items() if name != alone}


def _measured_on(truth: PoseDataset, splits: DataSplits, results: dict[str, Any]) -> str:
    """Returns in words which persons and which network the scores are of."""
    kind = "test" if splits.test is not None else "validation"
    images = plural(len(truth.instances.images), f"{kind} image")
    network = f" with the network {results['best']}" if results.get("best") else ""
    return f"Measured{network} on {plural(len(truth), 'pose')} in {images}."


def _scores_by_joint(data: MatchedDataset) -> tuple[list[Picture], list[str]]:
    """Returns the charts of scores by joint, and what the scores add in words."""
    scores = score(data.truth, data.predictions)
    charts = []
    for metric in ("pixel_error", "PCK@0.2"):
        own = scores.by_joint.get(metric)
        if own and any(own.values()):
            values = {joint: shown(metric, value) for joint, value in own.items()}
            charts.append(Picture(f"{in_words(metric)} by joint", plots.bars(values, axis_title(metric))))
    unlabeled = [j for j in data.truth.skeleton.joints if j not in scores.by_joint.get("pixel_error", {})]
    missing = [f"Not measured, because no evaluated pose has it labeled: {', '.join(unlabeled)}."] if unlabeled else []
    return charts, [describe_pixel_error(scores.pixel_error), *missing, *scores.notes]


def _reliability(results: dict[str, Any]) -> list[Picture]:
    """Returns the reliability diagram of the best network's scores of joints, if they are calibrated."""
    found = results.get("calibration") or {}
    if not found.get("calibration"):
        return []
    before, after = found["before"], found["after"]
    groups = {"heatmap peak": before["bins"], "calibrated": after["bins"]}
    axes = ("score of the joint", "share of right joints", "bars: number of joints")
    title = (
        f"Can the scores of joints be trusted? A score of 0.8 should be right in 8 of 10 cases (dashed line). Mean "
        f"difference from it (expected calibration error): {before['error']:.3f} before calibration, "
        f"{after['error']:.3f} after. Measured on {plural(found['joints'], 'joint')} of "
        f"{plural(found['persons'], 'validation person')}, right if {found['criterion']}: each half of the images with "
        "a calibration fitted to the other half, because the same persons would flatter it"
    )
    return [Picture(title, plots.reliability(groups, *axes))]


def _calibration_line(results: dict[str, Any]) -> str:
    """Returns why the scores of joints are not calibrated; empty if they are, and for runs that do not say."""
    found = results.get("calibration") or {}
    return f"{NOT_CALIBRATED}: {found['reason']}" if found.get("reason") else ""


def _figures(folder: Path, data: MatchedDataset, splits: DataSplits) -> Figures:
    """Returns heatmaps by joint, of the poses of median and largest error, and the masks on unlabeled persons."""
    run, errors = open_run(folder), errors_by_person(data.truth, list(data.matched))
    figures = Figures()
    if errors:
        figures = network_figures(run, data.truth, errors[len(errors) // 2][1])
        worst = errors[0][1]
        figures.sheets += network_figures(run, data.truth, worst, scores=False).sheets if len(errors) > 1 else []
    if not (run.results or {}).get("unlabeled_not_used"):
        figures.add(mask_figures(run, splits.unlabeled or data.truth))
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


def _validation_charts(log: list[Line], truth: PoseDataset | None) -> list[Picture]:
    charts, caveats = [], truth is not None and ap_caveats(truth)
    for metric in ("pixel_error", "PCK@0.2", "PCKh@0.5", "AP"):
        series: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for network, line in validation_lines(log):
            if line.get(metric) is not None:
                series[network].append((line["step"], shown(metric, line[metric])))
        if any(value for points in series.values() for _, value in points) and not (metric == "AP" and caveats):
            url = plots.curves(series, "step", axis_title(metric))
            charts.append(Picture(f"{in_words(metric)} on validation, by network", url))
    return charts


def _validation_errors(log: list[Line], results: dict[str, Any]) -> list[tuple[float, float]]:
    """The pixel error of the method's first network on the validation persons, by step."""
    name = results["headline_networks"][0]
    lines = [line for network, line in validation_lines(log) if network == name]
    return [(line["step"], line["pixel_error"]) for line in lines if line.get("pixel_error") is not None]


def _score_table(results: dict[str, Any], best: str | None = None) -> Table:
    metrics = [m for m in METRICS if any(scores.get(m) is not None for scores in results.values())]
    rows = [[name, *(value_text(m, scores.get(m)) for m in metrics)] for name, scores in results.items()]
    meanings = {
        "labels_alone": "did not learn from the unlabeled images",
        "mean": "is the mean over the networks that the method reports",
        "ensemble": "averages their heatmaps",
        best: "predicts, unless another is named",
    }
    texts = [f"{name} {meanings[name]}" for name in results if name in meanings]
    text = f"{'; '.join(texts)}." if texts else ""
    return Table("Scores × 100, errors in pixels", ["network", *map(column_title, metrics)], rows, text)


def _video_tables(folder: Path) -> list[Table]:
    """The scores of the videos that were predicted into the run folder."""
    names, rows = [field.name for field in fields(VideoScores)], []
    for path in sorted(folder.rglob(f"*{SCORES_SUFFIX}")):
        with suppress(ValueError, KeyError, TypeError):  # a file of others with such a name
            v = json.loads(path.read_text(encoding="utf-8"))
            rows.append([v["video"], v["model"], *("–" if v[name] is None else f"{v[name]:.4g}" for name in names)])
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
