"""Several processes: the same gradients as one, one decision for all, whoever starts, stops or dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from semipose.errors import ConfigError
from semipose.trainer import train
from semipose.training.checkpoint import read_checkpoint
from semipose.training.distributed import LostProcessError, Plan, plan_processes
from semipose.training.loop import InterruptedTrainingError, Training
from tests.training import pair

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found that ran the program of `pair` together, and what this one finds alone."""
    from semipose.data.datasets import read_dataset
    from semipose.data.formats.coco_writer import write_coco

    folder = tmp_path_factory.mktemp("pair")
    people = folder / "people.json"
    write_coco(read_dataset("people", None).subset(range(20)), people)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in place.items()}}
        command = [sys.executable, "-m", "tests.training.pair", str(people), str(folder)]
        running.append(subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    told = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], pair.alone(people)


@pytest.mark.parametrize("name", pair.VARIANTS)
def test_two_processes_are_one_with_the_joint_batch(two, name):
    """Losses, weights, moving averages and BatchNorm's, after two steps through all of a method's phases."""
    (first, _), alone = two
    assert first["synchronized"][name].keys() == alone[name].keys()
    for key, value in alone[name].items():
        found = first["synchronized"][name][key]
        assert torch.allclose(found.double(), value.double(), rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("name", pair.APART)
def test_processes_stay_the_same(two, name):
    """With BatchNorm in each process alone: every weight and every average is the same in both, to the bit."""
    (first, second), alone = two
    for key, value in first["apart"][name].items():
        assert torch.equal(value, second["apart"][name][key]), key
    assert any(not torch.equal(v, alone[name][k]) for k, v in first["apart"][name].items())


def test_a_step_that_fails_in_one_process_is_left_out_in_all(two):
    (first, second), _ = two
    assert first["not finite"] == second["not finite"] == [0.5, 0.5, 0.0]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    paths = sorted((folder / "weights").glob("*.safetensors"))
    return {f"{path.stem}.{n}": t for path in paths for n, t in load_file(path).items()}


def same_runs(a: Path, b: Path) -> None:
    """Asserts equal weights, draws of every process, log and scores."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert first
    assert all(torch.equal(first[n], second[n]) for n in first)
    states = [read_checkpoint(p / "last" / "state.pt")["state"]["extra"]["processes"] for p in (a, b)]
    assert len(states[0]) == len(states[1])
    assert all(torch.equal(x["generator"], y["generator"]) for x, y in zip(*states, strict=True))
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    scores = [json.loads((p / "scores.json").read_text())["scores"] for p in (a, b)]
    assert scores[0] == scores[1]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run of two processes, in seconds."""
    from semipose.config import load_config
    from semipose.data.datasets import PEOPLE, read_dataset
    from semipose.data.formats.coco_writer import write_coco
    from tests.conftest import TINY

    people = tmp_path_factory.mktemp("processes") / "people.json"
    write_coco(read_dataset("people", None).subset(range(60)), people)
    changes = {
        "train.devices": 2, "train.batch": 2, "train.unlabeled_batch": 2, "train.evaluate_every": 0.6,
        "train.checkpoint_every": 3, "data.train": str(people), "data.images": str(PEOPLE / "images"),
        "method": "mean_teacher",
    }  # fmt: skip
    return load_config(None, {**TINY, **changes})


def command_line(config, folder, *words):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return [*words, "-m", "semipose", "train", str(path), "--out", str(folder / "run")]


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """What torchrun said of the undisturbed run, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    launched = config.model_copy(update={"train": config.train.model_copy(update={"devices": 1})})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(command_line(launched, folder, *launcher), capture_output=True, text=True, timeout=200)
    return done, folder / "run"


def at_step(monkeypatch, step, do):
    """Calls `do` in this process while it makes step number `step`."""
    record = Training._record

    def recording(self, terms, taken):
        if self.state.step == step:
            do()
        record(self, terms, taken)

    monkeypatch.setattr(Training, "_record", recording)


def test_under_torchrun(whole):
    """The launcher's environment decides, whatever the options say; one process writes and speaks, both draw."""
    done, folder = whole
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes on cpu") == 1
    assert done.stdout.splitlines().count(str(folder)) == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    extra = read_checkpoint(folder / "last" / "state.pt")["state"]["extra"]
    assert extra["joint_batch"] == [4, 4]
    assert not torch.equal(*(process["generator"] for process in extra["processes"]))
    assert len(json.loads((folder / "predictions.json").read_text())) == 8
    assert len(list((folder / "events").iterdir())) == 1


def test_whoever_dies_the_run_goes_on_to_the_same_bits(config, whole, tmp_path, monkeypatch, capfd):
    """SIGKILL to the first process, then to its helper, then SIGINT to the first: resumed each time."""
    run = tmp_path / "run"
    first_process_is_killed(config, tmp_path)
    helper_is_killed(config, run, monkeypatch)
    at_step(monkeypatch, 10, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(InterruptedTrainingError):
        train(config, run, resume=True)
    monkeypatch.undo()
    assert read_checkpoint(run / "last" / "state.pt")["state"]["step"] == 10
    shutil.copytree(run, tmp_path / "alone")
    train(config, run, resume=True)
    same_runs(whole[1], run)
    assert "Traceback" not in capfd.readouterr().err
    alone = {"devices": 1, "batch": 4, "unlabeled_batch": 4}
    one = config.model_copy(update={"train": config.train.model_copy(update=alone)})
    train(one, tmp_path / "alone", resume=True)
    assert "the joint batch was" not in capfd.readouterr().err
    extra = read_checkpoint(tmp_path / "alone" / "last" / "state.pt")["state"]["extra"]
    assert (extra["joint_batch"], len(extra["processes"])) == ([4, 4], 1)


def first_process_is_killed(config, folder):
    """The helper, whose standard error ends when it does, leaves in time with one line of its own."""
    command = command_line(config, folder, sys.executable)
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not (folder / "run" / "last" / "state.pt").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
        killed = time.monotonic()
        _, told = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert told.count("\nsemipose: a process of this training is gone") == 1, told
    assert "Traceback" not in told


@pytest.mark.parametrize(("lost", "rank", "told"), [(True, "1", True), (True, "2", False), (False, "1", False)])
def test_an_orphan_tells_it_though_its_parent_takes_its_time_to_die(monkeypatch, lost, rank, told):
    """A killed process closes its connections first; the system hands its children on a moment later."""
    parents = iter([7] * 4)
    monkeypatch.setattr(processes, "_parent", 7)
    monkeypatch.setattr(processes.os, "getppid", lambda: next(parents, 1))
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert processes.speaks(lost) is told


HELPER = """import time
from semipose.training import distributed
processes.GRACE = 0.3
processes.read_message()
print("busy", flush=True)
time.sleep(60)
"""
FIRST = f"""import subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", {HELPER!r}], stdin=subprocess.PIPE)
helper.stdin.write(b"{{}}\\n")
helper.stdin.flush()
time.sleep(60)
"""


def test_a_helper_that_never_meets_the_others_again_tells_it_as_well():
    """Its main thread is busy when the first process is killed: it leaves, with the line."""
    environment, pipe = {**os.environ, "RANK": "1", "LOCAL_RANK": "1"}, subprocess.PIPE
    command = [sys.executable, "-c", FIRST]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.kill()
        _, told = process.communicate(timeout=30)
    assert told == "semipose: a process of this training is gone; go on from the last checkpoint with --resume\n"


def helper_is_killed(config, folder, monkeypatch):
    """One line says which process is gone and how."""
    started, start = [], processes._start
    monkeypatch.setattr(processes, "_start", lambda *a: started.append(start(*a)) or started[-1])
    times = []
    at_step(monkeypatch, 5, lambda: (times.append(time.monotonic()), started[0].kill()))
    with pytest.raises(LostProcessError, match=r"process 1 of 2 on this machine, killed by SIGKILL.*--resume"):
        train(config, folder, resume=True)
    assert time.monotonic() - times[0] < 60
    monkeypatch.undo()


def test_another_joint_batch_is_told(tiny, tmp_path, capfd):
    train(tiny("single", **{"train.steps": 2}), tmp_path / "run")
    train(tiny("single", **{"train.steps": 4, "train.batch": 2}), tmp_path / "run", resume=True)
    assert "the joint batch was 4 + 4 and is 2 + 4 now" in capfd.readouterr().err


LAUNCHED = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "GROUP_RANK": "1", "MASTER_ADDR": "first",
            "MASTER_PORT": "29500"}  # fmt: skip


def test_plans(monkeypatch):
    assert plan_processes("cpu", 1, 1) == plan_processes("cpu", 0, 1) == Plan()
    alone = plan_processes("cpu", 3, 1)
    assert (alone.world, alone.rank, alone.started) == (3, 0, False)
    assert alone.port
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    plan = plan_processes("cpu", 1, 1)
    assert plan == Plan(2, 2, 1, 1, "first", 29500, started=True)
    assert (plan.world, plan.rank) == (4, 3)
    assert plan_processes("cpu", 2, 2) == plan
    with pytest.raises(ConfigError, match="3 × 1 asked, the launcher started 2 × 2"):
        plan_processes("cpu", 3, 1)
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(ConfigError, match="MASTER_PORT"):
        plan_processes("cpu", 1, 1)
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(ConfigError, match="2 machines need MASTER_ADDR"):
        plan_processes("cpu", 1, 2)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("NODE_RANK", "1")
    assert plan_processes("cpu", 4, 2) == Plan(4, 2, 0, 1, "first", 29500)
    with pytest.raises(ConfigError, match="cuda:1 is one GPU"):
        plan_processes("cuda:1", 2, 1)


def test_one_process_cuts_and_the_others_wait(tmp_path, monkeypatch):
    from semipose.data.crops import CropGeometry
    from semipose.data.datasets import read_dataset

    persons, built, build = read_dataset("people", None).subset(range(4)), [], packed._build

    def slowly(*arguments):
        built.append(arguments)
        time.sleep(0.3)
        build(*arguments)

    monkeypatch.setattr(packed, "_build", slowly)
    opened = []
    threads = [
        threading.Thread(
            target=lambda: opened.append(packed.open_crop_cache(persons, CropGeometry((32, 32)), cache=tmp_path))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(built)) == (3, 1)
