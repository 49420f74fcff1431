"""The public functions as a program uses them: train, load, evaluate, predict, suggest, export."""

import cv2
import numpy as np
import pytest

import semipose
from semipose.data.datasets import PEOPLE
from tests.inference.conftest import untrained


@pytest.fixture
def model():
    return untrained()


def test_train_load_and_evaluate(tiny, small_people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny("supervised", **{"train.steps": 2})
    result = semipose.train(config)
    assert result.folder.absolute() == tmp_path / "runs" / "supervised"
    with pytest.raises(semipose.ConfigError, match="already"):
        semipose.train(config, out=result.folder)
    config.save(tmp_path / "config=1.yaml")
    again = semipose.train(tmp_path / "config=1.yaml", out="again")
    assert again.scores == result.scores
    resumed = semipose.train(out="again", resume=True)
    assert resumed.scores == result.scores
    evaluation = semipose.evaluate("again", small_people, images=PEOPLE / "images")
    assert isinstance(evaluation, semipose.Evaluation)
    assert isinstance(evaluation.scores, semipose.Scores)
    assert isinstance(semipose.load("again"), semipose.PoseModel)


def test_unusable_parameters_of_train_are_named(tmp_path):
    with pytest.raises(semipose.ConfigError, match="`config` is missing"):
        semipose.train()
    with pytest.raises(semipose.ConfigError, match="`resume` needs `out`"):
        semipose.train(resume=True)
    with pytest.raises(semipose.ConfigError, match=r"`resume`: .* contains no run"):
        semipose.train(out=tmp_path, resume=True)
    with pytest.raises(semipose.ConfigError, match="gone"):
        semipose.train("gone", out=tmp_path)


def test_suggest_and_export_take_models_and_paths(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    assert len(semipose.suggest(model, tmp_path, count=1, out=tmp_path / "label")) == 2
    with pytest.raises(semipose.ConfigError, match="`out`"):
        semipose.export(model, tmp_path / "pose.pt")
    with pytest.raises(semipose.WeightsError, match="gone"):
        semipose.export(tmp_path / "gone", tmp_path / "pose.onnx")
