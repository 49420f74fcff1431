"""Charts of scores: over epochs (figure 5 of AKM), against parameters (figure 6), and by joint and network (TRS, 6)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from semipose.data.crops import LazyCrops
from semipose.inference.pose_model import PoseModel
from semipose.metrics.registry import axis_title, in_words, shown
from semipose.metrics.scores import score
from semipose.reports import plots
from semipose.reports.page import Picture
from semipose.reports.runs import ReportedRun, read_log, validation_lines
from semipose.structures.instances import PoseDataset
from semipose.utils.device import resolve_device

PERSONS = 100
"""Largest number of persons on which networks are compared by joint."""

Points = list[tuple[float, float]]


def scores_over_epochs(runs: Sequence[ReportedRun], metric: str) -> tuple[dict[str, Points], str]:
    """Returns the validation scores of each run during its training, and the unit of their positions.

    The score is that of the method: the mean over its headline networks.

    Args:
        runs: The runs; one without validation scores is left out.
        metric: The metric; scores are in the unit that they are shown in (× 100, or pixels).

    Returns:
        Points (epoch, score) by run, and "epoch"; steps and "step" if the data of a run is missing.
    """
    steps: dict[str, Points] = {}
    factors: dict[str, float] = {}
    for run in runs:
        if (run.folder / "metrics.jsonl").is_file() and (points := _validation_scores(run, metric)):
            steps[run.name], factors[run.name] = points, run.epochs_per_step
    if any(map(math.isnan, factors.values())):
        return steps, "step"
    return {name: [(x * factors[name], y) for x, y in points] for name, points in steps.items()}, "epoch"


def _validation_scores(run: ReportedRun, metric: str) -> Points:
    lines = [(n, line) for n, line in validation_lines(read_log(run.folder)) if line.get(metric) is not None]
    names = {name for name, _ in lines}
    name = next((n for n in ["mean", *run.headline_networks, *sorted(names)] if n in names), None)
    return sorted({line["step"]: shown(metric, line[metric]) for n, line in lines if n == name}.items())


def epoch_chart(runs: Sequence[ReportedRun], metric: str) -> list[Picture]:
    """Draws the validation score of several runs over epochs; no chart if no run has validation scores.

    Reference: AKM, figure 5.
    """
    series, unit = scores_over_epochs(runs, metric)
    if not series:
        return []
    return [Picture(f"{in_words(metric)} on validation over {unit}s", plots.curves(series, unit, axis_title(metric)))]


def parameters_and_scores(runs: Sequence[ReportedRun], metric: str) -> dict[str, tuple[float, float]]:
    """Returns the parameters in millions, and the score, of each finished run that has its weights, by its name.

    Scores are means over seeds.

    Parameters are those of the networks whose mean score is the method's, without heads that only the training uses.
    """
    millions: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    for run in runs:
        value = run.scores.get(metric)
        if value is None or not run.has_weights:
            continue
        if run.name not in millions:
            millions[run.name] = count_parameters(run.ensemble()) / 1e6
        scores.setdefault(run.name, []).append(shown(metric, value))
    return {name: (millions[name], float(np.mean(values))) for name, values in scores.items()}


def count_parameters(model: PoseModel) -> int:
    """Returns the number of parameters that predict: backbone and main head of each network."""
    parts = [part for network in model.networks for part in (network.backbone, network.heads[0])]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def parameter_chart(runs: Sequence[ReportedRun], metric: str) -> list[Picture]:
    """Draws the score of several runs against the parameters; no chart if no run has a score.

    Reference: AKM, figure 6.
    """
    points = parameters_and_scores(runs, metric)
    if not points:
        return []
    x = "parameters of the networks that the score is of (millions)"
    return [Picture(f"Parameters against {in_words(metric)}", plots.scatter(points, x, axis_title(metric)))]


def joint_scores(models: Mapping[str, PoseModel], truth: PoseDataset) -> tuple[str, dict[str, dict[str, float]]]:
    """Returns the scores of several networks by joint, on up to `PERSONS` persons in even steps.

    Returns:
        The metric (the first of PCK@0.2, PCKh@0.5 and pixel_error that the data allows), and for each network the
        scores by joint and their total, in the unit that they are shown in.
    """
    usable = truth.trainable()
    chosen = np.unique(np.linspace(0, len(usable) - 1, min(PERSONS, len(usable))).round().astype(int))
    persons, device = usable.subset(chosen.tolist()), resolve_device("auto")
    found = {}
    for name, model in models.items():
        model.to(device)
        found[name] = score(persons, model.predictor().predict(LazyCrops(persons, model.geometry))).by_joint
        model.to("cpu")
    for metric in ("PCK@0.2", "PCKh@0.5", "pixel_error"):
        if all(scores.get(metric) for scores in found.values()):
            return metric, {name: {j: shown(metric, v) for j, v in s[metric].items()} for name, s in found.items()}
    return "", {}


def joint_chart(models: Mapping[str, PoseModel], truth: PoseDataset) -> list[Picture]:
    """Draws the scores of the networks of a run by joint: in TRS, those of each teacher and its reviewer.

    Reference: TRS, figure 6.
    """
    metric, scores = joint_scores(models, truth)
    if not scores:
        return []
    persons = min(PERSONS, len(truth.trainable()))
    title = f"{in_words(metric)} by joint of {', '.join(scores)}, on {persons} poses"
    return [Picture(title, plots.grouped_bars(scores, axis_title(metric)))]
