"""The benchmarks' other side computes what ours computes, and quick rounds of the harnesses find nothing broken."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import step
from bench.chaos import annotations, images
from semipose.methods import METHODS


@pytest.mark.parametrize("name", METHODS)
def test_the_usual_way_of_a_step_comes_to_the_same_loss(name):
    """Same weights and draws; what is left is OpenCV's fixed-point resampling (a tiny network, its loss near .5)."""
    arguments = argparse.Namespace(
        backbone="test_resnet", input="64x64", batch=3, device="cpu", precision="32-true", compile=False, repeats=1,
        options=["model.head_channels=8"],
    )  # fmt: skip
    found = step.measure(name, arguments)
    assert found["loss"] == pytest.approx(found["baseline_loss"], rel=0.02)
    assert found["pairs_per_second"] > 0
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


def test_killed_trainings_end_with_the_same_bits():
    command = [sys.executable, "-m", "bench.chaos", "kills", "--count", "2", "--seed", "1"]  # forks: not from here
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert found["kills"] == 2
