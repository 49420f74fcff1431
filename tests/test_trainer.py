"""A run from its configuration: where networks start, paths, what is refused."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from semipose import load
from semipose.errors import ConfigError
from semipose.trainer import train
from semipose.training.loop import Training


def test_a_training_starts_from_an_earlier_one(tiny, tmp_path):
    """Every network of its backbone; heads, too, if the joints are the same."""
    train(tiny("supervised", **{"train.steps": 2}), tmp_path / "before")
    before = load(tmp_path / "before").network.state_dict()
    config = tiny("dual", **{"train.steps": 1, "train.lr": 1e-12, "train.start": str(tmp_path / "before")})
    train(config, tmp_path / "after")
    for name in ("f1", "f2"):
        after = load(tmp_path / "after" / "weights" / f"{name}.safetensors").network.state_dict()
        learned = [n for n in before if "running" not in n and "batches" not in n]
        assert all(torch.allclose(before[n], after[n], atol=1e-6) for n in learned)
    other = tiny("supervised", **{"model.backbone": "test_efficientnet", "train.start": str(tmp_path / "before")})
    with pytest.raises(ConfigError, match=r"`train\.start`: .*has the backbone test_resnet"):
        train(other, tmp_path / "other")


def test_results_of_a_shorter_training_do_not_outlive_its_continuation(tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(tiny("supervised", **{"train.steps": 2}), run)
    assert (run / "scores.json").is_file()
    monkeypatch.setattr(Training, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(tiny("supervised", **{"train.steps": 2}), run, resume=True)
    assert (run / "scores.json").is_file(), "nothing is left to do"
    with pytest.raises(ZeroDivisionError):
        train(tiny("supervised", **{"train.steps": 4}), run, resume=True)
    assert not (run / "scores.json").exists()


def test_a_start_that_was_trained_in_other_boxes_is_reported(tiny, tmp_path, caplog):
    whole = {"train.steps": 1, "data.boxes": "whole"}
    train(tiny("supervised", **whole), tmp_path / "whole")
    again = {"train.start": str(tmp_path / "whole")}
    train(tiny("supervised", **whole, **again), tmp_path / "same")
    assert "was trained in" not in caplog.text
    train(tiny("supervised", **{"train.steps": 1}, **again), tmp_path / "other")
    assert (
        f"{tmp_path / 'whole'} was trained in the whole image, and the labels are in boxes from a file" in caplog.text
    )
    assert "it has to learn another size first; take `data.boxes=whole`" in caplog.text


@pytest.mark.parametrize(("method", "steps"), [("supervised", 24 / 4), ("single", (60 - 24 - 8) / 4)])
def test_an_epoch_is_a_pass_over_the_unlabeled_persons_or_else_the_labeled_ones(tiny, tmp_path, method, steps):
    """So are the supervised rows of published tables, whose length the papers do not state."""
    train(tiny(method, **{"train.steps": None, "train.epochs": 1, "data.validation": 8}), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["step"] == steps


def test_the_run_keeps_absolute_paths(tiny, tmp_path, monkeypatch):
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "before")
    monkeypatch.chdir(tmp_path)
    train(tiny("pseudopose", **{"train.steps": 1, "method.teacher": "before"}), tmp_path / "run")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["method"]["teacher"] == str(tmp_path / "before")
    assert Path(saved["data"]["train"]).is_absolute()


def test_several_processes_need_torchrun(tiny, tmp_path):
    with pytest.raises(ConfigError, match="start with torchrun"):
        train(tiny("supervised", **{"train.devices": 2}), tmp_path / "run")
