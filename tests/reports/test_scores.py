"""Charts of scores: the numbers behind them."""

import json
import shutil

import pytest

from semipose.data.crops import LazyCrops
from semipose.data.datasets import read_dataset
from semipose.metrics.scores import score
from semipose.reports.runs import open_run, open_runs
from semipose.reports.scores import (
    count_parameters,
    epoch_chart,
    joint_chart,
    joint_scores,
    parameter_chart,
    parameters_and_scores,
    scores_over_epochs,
)


@pytest.fixture
def logged(finished_run, tmp_path):
    """Copies the run with a log of made validation scores."""

    def copy(name, lines, **scores):
        folder = shutil.copytree(finished_run, tmp_path / name)
        log = [{"step": step, "kind": f"validation/{network}", "AP": value} for step, network, value in lines]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, log)))
        if scores:
            content = json.loads((folder / "scores.json").read_text())
            content["scores"]["mean"] |= scores
            (folder / "scores.json").write_text(json.dumps(content))
        return folder

    return copy


def test_scores_over_epochs(logged):
    """The mean over the headline networks if it is logged, else the first of them; a run without scores is left out."""
    mean = logged("mean", [(10, "G", 0.9), (10, "mean", 0.2), (20, "mean", 0.3), (20, "R1", 0.8)])
    one = logged("one", [(10, "R1", 0.9), (10, "F", 0.8), (10, "G", 0.1), (20, "G", None)])
    none = logged("none", [])
    (none / "metrics.jsonl").write_text(json.dumps({"step": 1, "kind": "train"}))
    runs = open_runs([mean, one, none])
    per_step = runs[0].epochs_per_step
    found, unit = scores_over_epochs(runs, "AP")
    assert unit == "epoch"
    assert list(found) == ["mean", "one"]
    assert found["mean"] == [(pytest.approx(10 * per_step), 20), (pytest.approx(20 * per_step), 30)]
    assert found["one"] == [(pytest.approx(10 * per_step), 10)]
    assert epoch_chart(runs, "AP")[0].title == "AP on validation over epochs"
    assert epoch_chart(runs[2:], "AP") == []


def test_without_data_the_unit_is_steps(logged):
    folder = logged("run", [(10, "mean", 0.2)])
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("train: people", "train: missing.json"))
    assert scores_over_epochs([open_run(folder)], "AP") == ({"run": [(10, 20)]}, "step")


def test_parameters_are_those_that_predict(finished_run):
    """Both headline networks of TRS, each without the head of level p, which only the training uses."""
    run = open_run(finished_run)
    networks = run.networks()
    expected = 0
    for name in ("G", "F"):
        for key, tensor in networks[name].network.named_parameters():
            expected += tensor.numel() if not key.startswith("heads.1.") else 0
    assert count_parameters(run.ensemble()) == expected
    assert count_parameters(networks["G"]) == expected // 2


def test_scores_of_seeds_are_averaged(logged):
    runs = [open_run(logged(f"run{n}", [], AP=ap), "trs") for n, ap in enumerate((0.1, 0.3))]
    found = parameters_and_scores(runs, "AP")
    assert found == {"trs": (pytest.approx(count_parameters(runs[0].ensemble()) / 1e6), pytest.approx(20))}
    assert parameter_chart(runs, "AP")[0].title == "Parameters against AP"
    assert parameter_chart(runs, "PCKh@0.5") == []


def test_scores_by_joint_of_every_network(finished_run):
    truth = read_dataset("people", None, "val").subset(range(30))
    run = open_run(finished_run)
    metric, found = joint_scores(run.networks(), truth)
    assert metric == "PCK@0.2"
    assert list(found) == ["G", "R1", "F", "R2"]
    model = run.networks()["R2"]
    expected = score(truth, model.predictor().predict(LazyCrops(truth, model.geometry))).by_joint["PCK@0.2"]
    assert found["R2"] == {joint: pytest.approx(100 * value) for joint, value in expected.items()}
    assert joint_chart(run.networks(), truth)[0].title == "PCK@0.2 by joint of G, R1, F, R2, on 30 poses"
