"""Short rounds of bench/fault_injection find nothing broken."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.fault_injection import annotations, images


def in_process(*arguments: str) -> dict[str, Any]:
    """Runs one in a process of its own: it forks, and this process has threads."""
    command = [sys.executable, "-m", "bench.fault_injection", *arguments, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_mutated_annotations():
    found = annotations.run(700, seed=1)
    assert found["bad"] == []
    assert found["read"] > 20
    assert found["refused"] > 300


def test_mutated_images():
    found = images.run(80, seed=1)
    assert found["bad"] == []
    assert found["read"] >= 10


@pytest.mark.slow
def test_killed_trainings_end_with_the_same_bits():
    found = in_process("kills", "--count", "2")
    assert found["bad"] == []
    assert found["kills"] == 2


@pytest.mark.slow
def test_concurrent_and_killed_processes_of_one_cache():
    found = in_process("caches", "--count", "4")
    assert found["bad"] == []
    assert found["built"] >= 8
    assert found["read"] > 0
