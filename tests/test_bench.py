"""The benchmarks' other side computes what ours computes, and quick rounds of the harnesses find nothing broken."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import accuracy, looks, step
from bench.chaos import annotations, images
from semipose.data.datasets import PEOPLE
from semipose.methods import METHODS


def step_arguments(*options: str) -> argparse.Namespace:
    return argparse.Namespace(
        backbone="test_resnet", input="64x64", batch=3, device="cpu", precision="32-true", compile=False, graphs=False,
        repeats=1,
        options=["model.head_channels=8", *options],
    )  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_the_usual_way_of_a_step_comes_to_the_same_loss(name):
    """Same weights and draws; what is left is OpenCV's fixed-point resampling (a tiny network, its loss near .5)."""
    found = step.measure(name, step_arguments())
    assert found["loss"] == pytest.approx(found["baseline_loss"], rel=0.02)
    assert found["pairs_per_second"] > 0
    assert found["ratio"] > 0


def test_the_usual_way_of_the_cross_entropy_comes_to_the_same_loss():
    found = step.measure("trs", step_arguments("loss.kind=cross_entropy"))
    assert found["loss"] == pytest.approx(found["baseline_loss"], rel=0.002)
    assert found["loss"] > 1


def test_one_look_is_what_the_run_scored(tiny, tmp_path, monkeypatch):
    """And two looks are what `flip_test` makes of them."""
    from semipose.inference.predictor import Predictor
    from semipose.trainer import train

    found = train(tiny("dual", **{"train.steps": 2, "train.select": "last"}), tmp_path / "run").scores
    figures = looks.measure(tmp_path / "run", ["f1", "f2"], ["one", "mirror"])
    assert figures["one"] == pytest.approx({key: found["ensemble"][key] for key in looks.FIGURES}, abs=1e-6)
    monkeypatch.setattr(looks, "ManyLooks", lambda *given, looks: Predictor(*given[:2], len(looks) == 2, *given[3:]))
    assert figures["mirror"] == pytest.approx(
        looks.measure(tmp_path / "run", ["f1", "f2"], ["mirror"])["mirror"], abs=1e-6
    )


def test_accuracy_against_time_of_both_ways(capsys, monkeypatch):
    options = "--backbone test_resnet --input 64 --batch 4 --labels 24 --steps 4 --every 2 --json"
    argv = ["accuracy.py", "--data", str(PEOPLE), *options.split(), "--options", "loss.kind=cross_entropy"]
    monkeypatch.setattr(sys, "argv", argv)
    assert accuracy.settings(accuracy.parse())["loss.kind"] == "cross_entropy"
    accuracy.main()
    found = json.loads(capsys.readouterr().out)
    assert [look["step"] for look in found["ours"]] == [look["step"] for look in found["usual"]] == [2, 4]
    assert 0 < found["ours"][0]["seconds"] < found["ours"][1]["seconds"]
    assert found["final"] == found["usual"][-1]["AP"]
    assert found["ratio"] > 0


def test_mutated_annotations_are_read_or_refused_in_one_line():
    found = annotations.run(700, seed=1)
    assert found["bad"] == []
    assert found["read"] > 20
    assert found["refused"] > 300


def test_mutated_photographs_are_read_or_refused_in_one_line():
    found = images.run(80, seed=1)
    assert found["bad"] == []
    assert found["read"] >= 10


def chaos(*arguments: str) -> dict[str, Any]:
    """A harness in a process of its own: it forks, and this one holds threads."""
    command = [sys.executable, "-m", "bench.chaos", *arguments, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_killed_trainings_end_with_the_same_bits():
    found = chaos("kills", "--count", "2")
    assert found["bad"] == []
    assert found["kills"] == 2


def test_builders_and_readers_of_one_cache_never_meet_a_wrong_crop():
    found = chaos("caches", "--count", "4")
    assert found["bad"] == []
    assert found["built"] >= 8
    assert found["read"] > 0
