"""The papers' figures of any runs: which of them the runs allow, and how they are saved as picture files."""

import base64
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semipose.errors import DataError, WeightsError
from semipose.inference.draw import save_image
from semipose.inference.pose_model import weights_of
from semipose.metrics.registry import METRICS, is_error
from semipose.reports.heatmaps import heatmap_sheet, joint_heatmaps, levels_pair, run_heatmaps
from semipose.reports.masks import mask_chart, mask_sheet, masked_persons, masks_of
from semipose.reports.page import Page, Picture
from semipose.reports.poses import compare_persons, pose_sheet
from semipose.reports.runs import CommonPersons, ReportedRun, common_persons
from semipose.reports.scores import epoch_chart, joint_chart, parameter_chart
from semipose.reports.sheets import Sheet, sheet_image
from semipose.structures.instances import PoseDataset
from semipose.utils.files import make_folder

MOST_RUNS = 4
"""Largest number of runs whose heatmaps are compared joint by joint."""


@dataclass
class Figures:
    """Charts and sheets of runs, and lines on what they lack."""

    charts: list[Picture] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        """Adds the content of other figures."""
        self.charts += other.charts
        self.sheets += other.sheets
        self.notes += other.notes


def figures_of_runs(runs: Sequence[ReportedRun], metric: str | None = None) -> Figures:
    """Returns the figures that compare several runs.

    These are the score over epochs, parameters against score, the same persons under each run, heatmaps by joint (of
    two runs that differ in multi-level features only, if there are such, else of the first `MOST_RUNS`), and, of the
    runs that allow them, the networks by joint and the masks.

    Args:
        runs: The runs; one name for one method. Of several seeds the first is shown, and the mean in the scatter plot.
        metric: The metric of the charts; the first that all finished runs have if not given.
    """
    metric = metric or shared_metric(runs)
    by_name: dict[str, ReportedRun] = {}
    for run in runs:
        by_name.setdefault(run.name, run)
    first = list(by_name.values())
    figures = Figures(epoch_chart(first, metric))
    if not figures.charts:
        figures.notes.append("No scores over epochs: the runs have no validation persons.")
    try:
        figures.charts += parameter_chart(runs, metric)
        common = common_persons(first)
        if common is not None:
            figures.add(_figures_of_persons(first, common, metric))
    except (DataError, WeightsError) as error:  # the folders were copied without their data, or cleaned
        figures.notes.append(f"Figures are missing: {error}")
    return figures


def _figures_of_persons(runs: Sequence[ReportedRun], common: CommonPersons, metric: str) -> Figures:
    """The figures that show persons."""
    figures = Figures()
    if common.left_out:
        figures.notes.append(f"Tested on other persons, and not drawn: {', '.join(common.left_out)}.")
    if not len(common.truth):
        figures.notes.append("No persons are drawn: the runs were tested on different persons.")
        return figures
    figures.sheets.append(pose_sheet(common))
    finished = [run for run in runs if run.name in common.predictions and run.has_weights]
    pair = levels_pair(finished)
    text = "With and without multi-level features; all other options are equal." if pair else ""
    compared = compare_persons(common, 5)
    if not compared or not finished:
        return figures
    middle, harder = compared[len(compared) // 2], compared[3 * len(compared) // 4]
    for index, person in {c.index: c.person for c in (middle, harder)}.items():
        heatmaps = run_heatmaps(pair or finished[:MOST_RUNS], common.truth, index)
        title = f"Heatmaps by joint, person {person.annotation_id}"
        figures.sheets.append(heatmap_sheet(heatmaps, common.truth.skeleton.joints, title, text))
    best = _best([run for run in finished if len(weights_of(run.folder)) > len(run.headline_networks)], metric)
    if best is not None:
        figures.add(network_figures(best, common.truth, middle.index))
    masking = next((run for run in finished if masks_of(run.config.method)), None)
    if masking is not None:
        figures.add(mask_figures(masking, common.truth))
    return figures


def network_figures(run: ReportedRun, truth: PoseDataset, index: int, *, scores: bool = True) -> Figures:
    """Returns the heatmaps and the scores by joint of all networks of a run: in TRS, of teachers and reviewers.

    Reference: TRS, figure 6.

    Args:
        run: A finished run; without its weights there are no such figures, and of one network no scores.
        truth: Annotated persons.
        index: Position of the person that is drawn.
        scores: Whether the scores are drawn, too.
    """
    models = run.networks()
    if not models:
        return Figures()
    columns = {name: joint_heatmaps(model, truth, index) for name, model in models.items()}
    title = f"Heatmaps by joint, networks of {run.name}, {truth[index].image.name}"
    charts = joint_chart(models, truth) if scores and len(models) > 1 else []
    return Figures(charts, [heatmap_sheet(columns, truth.skeleton.joints, title)])


def mask_figures(run: ReportedRun, persons: PoseDataset) -> Figures:
    """Returns where the masks of a run fall, adaptive and of fixed number, on easy and hard persons.

    Reference: AKM, figures 3 and 4.

    Args:
        run: A finished run whose method has adaptive masks; without them, or its weights, there are no such figures.
        persons: The persons; they need no labels.
    """
    masks = masks_of(run.config.method)
    if masks is None or not run.has_weights:
        return Figures()
    model = run.network()
    title = f"Masks of {run.name} on easy and hard persons"
    found = masked_persons(model, persons, *masks)
    return Figures([mask_chart(found)], [mask_sheet(model, persons, found, masks[1], title=title)])


def shared_metric(runs: Sequence[ReportedRun]) -> str:
    """Returns the first metric of the registry that all finished runs have; AP if there is none."""
    finished = [run.scores for run in runs if run.scores]
    return next((m for m in METRICS if finished and all(scores.get(m) is not None for scores in finished)), "AP")


def save_figures(page: Page, folder: Path) -> list[Path]:
    """Writes the charts of a page as .svg and its sheets as .jpg, named by their titles; returns the files."""
    written: list[Path] = []
    make_folder(folder)
    for chart in page.charts:
        written.append(_path(folder, chart.title, ".svg", written))
        written[-1].write_bytes(base64.b64decode(chart.url.partition("base64,")[2]))
    for sheet in page.sheets:
        written.append(_path(folder, sheet.title, ".jpg", written))
        save_image(sheet_image(sheet), written[-1])
    return written


def _path(folder: Path, title: str, suffix: str, taken: Sequence[Path]) -> Path:
    """A path that is named by a title and not taken yet."""
    name = re.sub(r"[^\w@.]+", "-", title.lower())[:100].strip("-")
    candidates = (folder / f"{name}{'' if n == 1 else f'-{n}'}{suffix}" for n in itertools.count(1))
    return next(path for path in candidates if path not in taken)


def _best(runs: Sequence[ReportedRun], metric: str) -> ReportedRun | None:
    sign = -1 if is_error(metric) else 1
    return max(runs, key=lambda run: sign * (run.scores.get(metric) or 0.0), default=None)
