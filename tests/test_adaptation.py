"""A network adapts to unlabeled images alone: what it starts from, how it is judged, and what is refused."""

import logging

import pytest
import torch

from semipose import load, load_config
from semipose.adaptation import is_adaptation
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.errors import ConfigError, InputError
from semipose.reports.html import write_report
from semipose.structures.skeletons import LSP
from semipose.trainer import train
from tests.conftest import TINY


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A tiny run on LSP's joints, of which the people have no neck and no head top."""
    out = tmp_path_factory.mktemp("start")
    write_coco(read_dataset("people", None).subset(range(60)), out / "people.json")
    data = {"data.train": str(out / "people.json"), "data.images": str(PEOPLE / "images"), "data.skeleton": "lsp"}
    train(load_config(None, {**TINY, **data, "train.steps": 2, "loss.kind": "cross_entropy"}), out / "run")
    return out / "run"


@pytest.fixture
def adapt(start, tmp_path):
    def run(name="adapted", **changes):
        data = {"data.unlabeled": str(start.parent / "people.json"), "data.images": str(PEOPLE / "images")}
        few = {
            "train.steps": 3,
            "train.unlabeled_batch": 4,
            "train.device": "cpu",
            "train.start": str(start),
            "method.min_peak": 0,
            "train.lr": 1e-5,
        }
        config = load_config("adapt", {**data, **few, **changes})
        return train(config, tmp_path / name), tmp_path / name

    return run


def weights(folder, network=None):
    return load(folder, network).network.state_dict()


def test_without_labels_the_networks_own_predictions_check_it(adapt, start, caplog):
    caplog.set_level(logging.INFO)
    result, folder = adapt()
    assert result.scores == {} and result.gain is None
    assert "held-out persons are confident" in caplog.text and "only labels (`data.val`) show" in caplog.text
    model = load(folder)
    assert (model.name, model.skeleton.joints, model.loss.kind) == ("teacher", LSP.joints, "cross_entropy")
    assert model.network.levels == 1
    assert {*model.unlearned_joints} == {"neck", "head_top"} and model.geometry.input_size == (64, 64)
    before, kept, after = weights(start), weights(folder, "labels_alone"), weights(folder)
    assert all(torch.equal(before[name], kept[name]) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    assert write_report(folder).is_file()


@pytest.mark.slow
def test_a_network_that_drifts_away_is_not_kept(adapt, start, caplog, monkeypatch):
    monkeypatch.setattr("semipose.training.self_check.NEAR", 0.0)
    monkeypatch.setattr("semipose.training.self_check.LEAST_AGREEMENT", 1.1)
    _, folder = adapt()
    assert "joints drift away" in caplog.text and "best.safetensors is the network at the start" in caplog.text
    assert load(folder).name == "labels_alone"
    assert all(torch.equal(weights(start)[n], t) for n, t in weights(folder).items())


@pytest.mark.slow
def test_a_network_that_is_never_confident_learns_nothing(adapt, start, caplog):
    _, folder = adapt(**{"method.min_peak": 50, "train.steps": 1})
    assert "no joint is confident" in caplog.text
    assert all(torch.equal(weights(start)[n], t) for n, t in weights(folder).items())


def test_validation_persons_measure_the_gain_over_the_start(adapt):
    result, _ = adapt(**{"data.val": "people", "train.evaluate_every": 99})
    assert {*result.scores} == {"teacher", "labels_alone"}
    assert "over the network at the start (95 % interval" in result.gain.describe()
    assert "398 validation persons" in result.gain.describe(), "two have no torso"


def test_what_can_not_adapt(adapt):
    with pytest.raises(ConfigError, match=r"`method`: dual needs labels; without `data\.train` take late_teacher"):
        adapt(method="dual")
    assert not is_adaptation(load_config("adapt", data={"train": "people", "unlabeled": "x"}, train={"start": "y"}))
    with pytest.raises(InputError, match=r"`data\.train` is missing.*`train\.start`"):
        adapt(**{"data.unlabeled": None, "data.images": None})


def test_given_options_are_kept_or_refused(adapt):
    _, folder = adapt(**{"model.frozen_stages": 1, "evaluation.decoder": "quarter"})
    saved = load_config(folder / "config.yaml")
    assert (saved.model.frozen_stages, saved.evaluation.decoder) == (1, "quarter")
    assert train(saved, folder, resume=True).folder == folder
    with pytest.raises(ConfigError, match=r"`input\.height`: without `data\.train` it is that of the start, 64; leave"):
        adapt("other", **{"input.height": 96})


def test_an_adapted_network_knows_the_boxes_of_its_start(start, adapt, caplog):
    assert load(adapt()[1]).boxes == load(start).boxes
    assert "unlabeled images help little" not in caplog.text
    adapt("whole", **{"data.boxes": "whole"})
    assert "the boxes of the unlabeled images are the whole image" in caplog.text
