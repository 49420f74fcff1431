"""The benchmarks' usual implementation computes what ours computes, and their evaluations equal those of a training."""

import argparse
import json
import sys

import pytest

from bench import accuracy, end_to_end, predict, step, suggest, tta
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.inference.predictor import Predictor
from semipose.methods import METHODS
from semipose.trainer import train
from semipose.training.engine import Engine
from tests.conftest import slow_but


def step_arguments(*options: str) -> argparse.Namespace:
    return argparse.Namespace(
        backbone="test_resnet", input="64x64", batch=3, device="cpu", precision="32-true", compile=False, graphs=False,
        repeats=1, options=["model.head_channels=8", *options],
    )  # fmt: skip


@pytest.mark.parametrize("name", slow_but(METHODS, "dual", "late_teacher"))
def test_usual_step_has_the_same_loss(name):
    """Same weights and draws; OpenCV's fixed-point resampling differs a little."""
    (found,) = step.measure(name, step_arguments())
    assert found["loss"] == pytest.approx(found["baseline_loss"], rel=0.02)
    assert found["pairs_per_second"] > 0
    assert found["ratio"] > 0


def test_usual_step_has_the_same_cross_entropy():
    (found,) = step.measure("trs", step_arguments("loss.kind=cross_entropy"))
    assert found["loss"] == pytest.approx(found["baseline_loss"], rel=0.002)
    assert found["loss"] > 1


def test_the_timed_step_is_one_with_unlabeled_images():
    """The burn-in of late_teacher is longer than the training of which the step is the last."""
    assert step.step_config("late_teacher", step_arguments()).method.burn_in == 0


def test_predictions_with_the_precision_of_the_device(tmp_path):
    arguments = step_arguments()
    vars(arguments).update(crops="jpeg", persons=6, workers=None)
    found = predict.measure(arguments, tmp_path)
    assert not found["in_16_bit"]
    assert found["persons_per_second"] / found["persons_per_second_32_bit"] == pytest.approx(found["ratio"])


@pytest.mark.parametrize("name", ["supervised", "dual"])
def test_training_with_its_loader_against_ready_batches(name, tmp_path, monkeypatch):
    arguments = step_arguments()
    vars(arguments).update(method=[name], crops="jpeg", persons=6, steps=2, workers=None)
    taken, train_step = [], Engine.train_step
    monkeypatch.setattr(Engine, "train_step", lambda *given: taken.append(given[1].joints) or train_step(*given))
    found = end_to_end.measure(arguments, tmp_path)
    fill = found["workers"] + 1
    assert len(taken) == 2 * (2 + fill + 2)  # ready, then the filled pipeline and the loader; each twice
    assert found["ratio"] == pytest.approx(found["steps_per_second"] / found["ready_steps_per_second"], rel=1e-6)
    assert found["pairs_per_second_16_cores"] == pytest.approx(8 * found["crops_read_per_second_and_core"])
    assert found["loader_pairs_per_second"] > 0


def test_test_time_augmentation(tiny, tmp_path):
    """One view gives the scores of the run, and two views those of the flip test."""
    run = tmp_path / "run"
    scores = train(tiny("dual", **{"train.steps": 2, "train.select": "last"}), run).scores["ensemble"]
    found = tta.measure(run, ["f1", "f2"], ["one", "flip"])
    assert found["one"] == pytest.approx({key: scores[key] for key in tta.METRICS}, abs=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tta, "AveragingPredictor", lambda *given, transforms: Predictor(*given[:2], True, *given[3:]))
        assert found["flip"] == pytest.approx(tta.measure(run, ["f1", "f2"], ["flip"])["flip"], abs=1e-6)


@pytest.mark.slow
def test_accuracy_against_time(tmp_path, capsys, monkeypatch):
    (tmp_path / "images").symlink_to(PEOPLE / "images")
    write_coco(read_dataset("people", None).subset(range(60)), tmp_path / "train.json")
    write_coco(read_dataset("people", None, "val").subset(range(20)), tmp_path / "val.json")
    options = "--backbone test_resnet --input 64 --batch 4 --labels 24 --steps 4 --every 2 --json"
    argv = ["accuracy.py", "--data", str(tmp_path), *options.split(), "--options", "loss.kind=cross_entropy"]
    monkeypatch.setattr(sys, "argv", argv)
    assert accuracy.settings(accuracy.parse())["loss.kind"] == "cross_entropy"
    accuracy.main()
    found = json.loads(capsys.readouterr().out)
    assert [entry["step"] for entry in found["ours"]] == [entry["step"] for entry in found["usual"]] == [2, 4]
    assert 0 < found["ours"][0]["seconds"] < found["ours"][1]["seconds"]
    assert found["final"] == found["usual"][-1]["AP"]
    assert found["ratio"] > 0


@pytest.mark.slow
def test_suggestions_are_simulated_and_a_stopped_simulation_goes_on(tmp_path, monkeypatch):
    write_coco(read_dataset("people", None).subset(range(30)), tmp_path / "pool.json")
    images, tiny_network = PEOPLE / "images", ["model.backbone=test_resnet", "model.weights=none", "train.steps=2"]
    arguments = ["--data", tmp_path / "pool.json", "--images", images, "--test", tmp_path / "pool.json"]
    arguments += ["--test-images", images, "--out", tmp_path / "found.json", "--runs", tmp_path / "runs"]
    arguments += ["--start", 8, "--count", 4, "--rounds", 2, "--seeds", 1, *tiny_network]
    arguments += ["input.height=64", "input.width=64", "model.stage=-1", "data.validation=2"]
    monkeypatch.setattr(sys, "argv", ["suggest.py", *map(str, arguments)])
    suggest.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(r["strategy"], r["labels"]) for r in found["results"] if r["round"] == 2] == [
        ("random", 16),
        ("lowest score", 16),
        ("suggest", 16),
    ]
    assert {line["against_random"] for line in found["summary"] if line["strategy"] == "random"} == {0.0}
    monkeypatch.setattr(suggest, "train", None)  # every run is there
    suggest.main()
    assert json.loads((tmp_path / "found.json").read_text()) == found
