"""Several processes: the gradients of one process with the joint batch, one decision for all, exact resume."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from semipose.errors import ConfigError
from semipose.training.checkpoint import TrainingState, read_checkpoint
from semipose.training.distributed import (
    Launch,
    all_gather,
    all_max,
    all_mean,
    is_main_process,
    launch,
    process_device,
    requested_processes,
)
from tests.integration.runs import assert_same_runs
from tests.training import two_processes

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A COCO file of 20 embedded persons."""
    from semipose.data.datasets import read_dataset
    from semipose.data.formats.coco_writer import write_coco

    path = tmp_path_factory.mktemp("people") / "people.json"
    write_coco(read_dataset("people", None).subset(range(20)), path)
    return path


@pytest.fixture(scope="module")
def two(people, tmp_path_factory):
    """The folder in which two nodes of one process each left what they found, and what each of them found."""
    out = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    command = [*TORCHRUN, *meeting, "-m", "tests.training.two_processes", str(people), str(out)]
    nodes = [subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        errors = [node.communicate(timeout=250)[1] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    for node, error in zip(nodes, errors, strict=True):
        assert node.returncode == 0, error[-3000:]
    with torch.serialization.safe_globals([Launch]):
        return out, [torch.load(out / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", two_processes.MODELS)
def test_two_processes_are_one_with_the_joint_batch(two, people, name):
    """Losses, weights and moving averages after two steps, through all phases of a method."""
    alone = two_processes.train_steps(name, people, batch_norm=False)
    for found in (process["joint batch"][name] for process in two[1]):
        assert found.keys() == alone.keys()
        for key, value in alone.items():
            assert torch.allclose(found[key].double(), value.double(), rtol=1e-3, atol=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("name", two_processes.BATCH_NORM)
def test_processes_stay_equal_with_batch_norm(two, name):
    """BatchNorm normalizes in each process alone; weights and running averages are equal in both, bit for bit."""
    first, second = (process["batch norm"][name] for process in two[1])
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.slow
def test_a_step_that_is_not_finite_in_one_process_is_left_out_in_all(two):
    assert [process["skipped"] for process in two[1]] == [[0.5, 0.5, 0.0]] * 2


@pytest.mark.slow
def test_collectives(two):
    assert [process["launch"] for process in two[1]] == [Launch(0, 2, 0, 1), Launch(1, 2, 0, 1)]
    for process in two[1]:
        assert process["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert process["largest"] == 3


@pytest.mark.slow
def test_an_interrupted_training_of_two_processes_resumes_exactly(two):
    """A signal to one process stops both at the same step; each continues its own draws."""
    out, _ = two
    assert_same_runs(out / "whole", out / "stopped")
    state = TrainingState.from_dict(read_checkpoint(out / "whole" / "last" / "state.pt")["state"])
    assert state.joint_batch == (4, 4)
    assert not torch.equal(*(process.generator for process in state.processes))
    steps = [json.loads(line) for line in (out / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "train"] == [2, 4, 6, 8]
    assert len(list((out / "whole" / "events").iterdir())) == 1


def test_one_process_needs_no_launcher():
    assert launch() == Launch(0, 1, 0, 1)
    assert is_main_process()
    assert torch.equal(all_mean(torch.ones(2)), torch.ones(2))
    assert (all_max(7), all_gather("x")) == (7, ["x"])


def test_torchrun_places_the_process(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert launch() == Launch(3, 4, 1, 2)
    assert not is_main_process()
    assert process_device("cpu", 1) == process_device("cpu", 2) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"`train\.devices`: 3 processes requested, 2 started"):
        process_device("cpu", 3)
    monkeypatch.delenv("RANK")
    with pytest.raises(ConfigError, match=r"not as torchrun sets it \('RANK'\)"):
        launch()


def test_requested_processes(monkeypatch):
    assert requested_processes("cpu", 3) == 3
    assert requested_processes("cpu", 0) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert (requested_processes("auto", 0), requested_processes("cuda", 2), requested_processes("cpu", 0)) == (4, 2, 1)
    with pytest.raises(ConfigError, match=r"`train\.device`: cuda:1 is one GPU"):
        requested_processes("cuda:1", 2)
    with pytest.raises(ConfigError, match="8 requested, this machine has 4 GPUs"):
        requested_processes("cuda", 8)


def test_a_process_trains_alone_only_if_one_is_requested():
    with pytest.raises(ConfigError, match="2 processes requested, 1 started; start with torchrun"):
        process_device("cpu", 2)
