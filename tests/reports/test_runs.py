"""Runs of a report: names, scores, epochs, and the persons that several runs were tested on."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from semipose.data.datasets import load_splits
from semipose.errors import ConfigError, DataError
from semipose.reports.runs import common_persons, evaluated_persons, open_run, open_runs, read_log


@pytest.fixture
def copied(finished_run, tmp_path):
    """Copies the finished run below tmp_path, with other predictions if wanted."""

    def copy(name, change=None):
        folder = shutil.copytree(finished_run, tmp_path / name)
        if change:
            path = folder / "predictions.json"
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return folder

    return copy


def test_scores_are_those_of_the_method(finished_run):
    run = open_run(finished_run, "ours")
    content = json.loads((finished_run / "scores.json").read_text())
    assert run.name == "ours"
    assert run.headline_networks == ["G", "F"]
    assert run.scores == content["scores"]["mean"]
    assert list(run.networks()) == ["G", "R1", "F", "R2"]
    assert run.network().name == "G"
    assert len(run.ensemble().networks) == 2


def test_names_are_the_shortest_that_differ(copied):
    first, second = copied("a/run"), copied("b/run")
    assert [run.name for run in open_runs([first, second])] == ["a/run", "b/run"]
    assert [run.name for run in open_runs([first])] == ["run"]
    assert [run.name for run in open_runs([first, first])] == ["run"]
    assert [run.name for run in open_runs({"ours": first, "dual": second})] == ["ours", "dual"]


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"contains no run \(config\.yaml\)"):
        open_runs([tmp_path])
    with pytest.raises(DataError, match=r"no line in metrics\.jsonl yet"):
        read_log(tmp_path)


def test_epochs_of_a_step(copied):
    """From the unlabeled persons and their batch, or from the epochs of a finished training."""
    run = open_run(copied("run"))
    unlabeled = 1598 - 12  # all persons but those for validation, the labeled ones included
    assert run.epochs_per_step == pytest.approx(1 / math.ceil(unlabeled / 2))
    train = run.config.train.model_copy(update={"steps": None, "epochs": 5.0})
    by_epochs = type(run)(run.name, run.folder, run.config.model_copy(update={"train": train}), {"step": 40})
    assert by_epochs.epochs_per_step == pytest.approx(5 / 40)


def test_common_persons_have_a_prediction_of_every_run(copied):
    whole, half = copied("whole"), copied("half", lambda predictions: predictions[::2])
    moved = copied("moved", lambda ps: [{**p, "keypoints": [v + 1 for v in p["keypoints"]]} for p in ps])
    common = common_persons(open_runs([whole, half, moved]))
    assert len(common.truth) == 12
    assert list(common.predictions) == ["whole", "half", "moved"]
    for index in (0, 7, 11):
        first, second, third = (found[index] for found in common.predictions.values())
        assert first.annotation_id == second.annotation_id == common.truth[index].annotation_id
        assert np.allclose(first.joints + 1, third.joints)
    assert common.left_out == []


def test_joints_that_the_training_had_no_labels_of_are_not_tested(finished_run):
    splits = load_splits(open_run(finished_run).config.data)
    assert evaluated_persons(finished_run, splits).instances.labeled_joints.all()
    splits = replace(splits, unlearned_joints=("nose",))
    assert evaluated_persons(finished_run, splits).unlabeled_joints == ("nose",)
    assert evaluated_persons(finished_run, replace(splits, test=None, validation=None)) is None


def test_runs_tested_on_other_files_are_left_out(copied, tmp_path):
    own, other = copied("own"), copied("other")
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["data"]["test"] = "elsewhere.json"
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    common = common_persons(open_runs([own, other]))
    assert list(common.predictions) == ["own"]
    assert common.left_out == ["other"]
    (own / "predictions.json").unlink()
    (other / "predictions.json").unlink()
    assert common_persons(open_runs([own, other])) is None
