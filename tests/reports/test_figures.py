"""Which figures runs have, and how they are saved."""

import shutil

import cv2
import numpy as np
import pytest

from semipose.config import load_config
from semipose.data.datasets import read_dataset
from semipose.reports import scores
from semipose.reports.figures import figures_of_runs, mask_figures, network_figures, save_figures, shared_metric
from semipose.reports.page import Page
from semipose.reports.runs import open_run, open_runs
from semipose.reports.sheets import Sheet, SheetRow, Tile
from semipose.trainer import train


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory, tiny_run):
    """TRS with and without multi-level features, and AKM."""
    folder = tmp_path_factory.mktemp("figures")
    options = {**tiny_run, "data.labels": 30, "data.validation": 12}
    train(load_config(None, {**options, "method": "trs", "method.levels": 1}), folder / "levels1")
    train(load_config(None, {**options, "method": "akm"}), folder / "akm")
    return {"MFL": finished_run, "without": folder / "levels1", "akm": folder / "akm"}


@pytest.mark.slow
def test_all_figures_of_runs(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "PERSONS", 20)  # of 24
    figures = figures_of_runs(open_runs(runs))
    assert [chart.title for chart in figures.charts] == [
        "AP on validation over epochs",
        "Parameters against AP",
        "PCK@0.2 by joint of G, R1, F, R2, on 20 poses",
        "Adaptive masks: persons by number of masks",
    ]
    poses, median, harder, networks, masks = figures.sheets
    assert poses.columns == ["ground truth", "MFL", "without", "akm"]
    assert median.columns == harder.columns == ["ground truth", "without", "MFL"]
    assert median.text.startswith("With and without multi-level features")
    assert networks.columns == ["ground truth", "G", "R1", "F", "R2"]
    assert masks.title == "Masks of akm on easy and hard persons"
    assert figures.notes == []
    page = Page("T", [], [], figures.charts, figures.sheets)
    written = save_figures(page, tmp_path)
    assert len(written) == len(set(written)) == 9
    assert written[1].name == "parameters-against-ap.svg"
    assert written[1].read_text().startswith("<?xml")
    assert written[4].name == "the-same-persons-under-each-run.jpg"
    assert cv2.imread(str(written[4])).shape[1] > 4 * 240


def test_runs_without_their_data_have_charts_only(runs, tmp_path):
    folder = shutil.copytree(runs["akm"], tmp_path / "run")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("train: people", "train: missing.json"))
    figures = figures_of_runs([open_run(folder)])
    assert [chart.title for chart in figures.charts] == ["AP on validation over steps", "Parameters against AP"]
    assert figures.sheets == []
    assert "missing.json" in figures.notes[0]


def test_unfinished_runs_have_curves(runs, tmp_path):
    folder = shutil.copytree(runs["akm"], tmp_path / "run")
    for name in ("scores.json", "predictions.json"):
        (folder / name).unlink()
    figures = figures_of_runs([open_run(folder)])
    assert [chart.title for chart in figures.charts] == ["AP on validation over epochs"]
    (folder / "metrics.jsonl").unlink()
    assert figures_of_runs([open_run(folder)]).notes == ["No scores over epochs: the runs have no validation persons."]


def test_runs_without_weights_have_poses_and_curves(runs, tmp_path):
    folder = shutil.copytree(runs["akm"], tmp_path / "run")
    shutil.rmtree(folder / "weights")
    figures = figures_of_runs([open_run(folder)])
    assert [chart.title for chart in figures.charts] == ["AP on validation over epochs"]
    assert [sheet.title for sheet in figures.sheets] == ["The same persons under each run"]
    both = figures_of_runs(open_runs({"akm": folder, "trs": runs["MFL"]}))
    assert [sheet.columns for sheet in both.sheets[:2]] == [["ground truth", "akm", "trs"], ["ground truth", "trs"]]
    assert mask_figures(open_run(folder), read_dataset("people", None, "val")).sheets == []


def test_figures_of_one_title_are_two_files(tmp_path):
    sheet = Sheet("Person 1", "", ["a"], [SheetRow("", [Tile(np.zeros((8, 8, 3), np.uint8))])])
    written = save_figures(Page("T", [], [], [], [sheet, sheet]), tmp_path / "figures")
    assert [path.name for path in written] == ["person-1.jpg", "person-1-2.jpg"]


def test_figures_that_a_run_does_not_have(runs):
    truth = read_dataset("people", None, "val").subset(range(4))
    akm, trs = open_run(runs["akm"]), open_run(runs["MFL"])
    (sheet,) = network_figures(akm, truth, 0).sheets
    assert len(sheet.columns) == 2  # ground truth and the only network
    assert network_figures(akm, truth, 0).charts == network_figures(trs, truth, 0, scores=False).charts == []
    assert mask_figures(trs, truth).sheets == []


def test_the_metric_is_one_that_all_runs_have(runs):
    found = open_runs(runs)
    assert shared_metric(found) == "AP"
    found[1].results["scores"]["mean"]["AP"] = None
    assert shared_metric(found) == "PCK@0.2"
    assert shared_metric([]) == "AP"
