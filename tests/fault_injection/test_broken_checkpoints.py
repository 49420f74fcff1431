"""Checkpoints that are damaged, hostile, or can't be written; processes that are killed."""

import errno
import hashlib
import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from semipose.errors import WeightsError
from semipose.trainer import train
from semipose.training.checkpoint import previous, read_checkpoint
from semipose.training.loop import Training
from semipose.training.signals import InterruptedTrainingError
from tests.integration.runs import assert_same_runs, interrupt_at


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO)


class Pickled:
    """Leaves a file behind if anything executes it."""

    def __reduce__(self):
        return os.system, ("touch executed",)


HOSTILE = pickle.dumps(Pickled())


def damage(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "hostile": b"SEMIPOSE" + hashlib.sha256(HOSTILE).digest() + HOSTILE,
        }[how]
    )


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    config = tiny("single", **{"train.steps": 5, "train.checkpoint_every": 2})
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(InterruptedTrainingError):
        interrupt_at(patch, 3)
        train(config, tmp_path / "run")
    path = tmp_path / "run" / "last" / "state.pt"
    assert [read_checkpoint(p)["state"]["step"] for p in (path, previous(path))] == [3, 2]
    damage(path, "flipped")
    train(config, tmp_path / "run", resume=True)
    assert "resuming from the previous one" in caplog.text
    assert_same_runs(tmp_path / "whole", tmp_path / "run")


def test_no_kind_of_damage_is_read_or_executed(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny("single", **{"train.steps": 2, "train.checkpoint_every": 1})
    train(config, tmp_path / "run")
    path = tmp_path / "run" / "last" / "state.pt"
    whole = path.read_bytes()
    for how in ("cut", "flipped", "empty", "hostile"):
        path.write_bytes(whole)
        damage(path, how)
        with pytest.raises(WeightsError):
            read_checkpoint(path)
    assert not (tmp_path / "executed").exists()
    damage(previous(path), "cut")
    with pytest.raises(WeightsError, match=r"state\.previous\.pt is damaged"):
        train(config, tmp_path / "run", resume=True)


def test_a_run_continues_while_the_disk_is_full(tiny, tmp_path, monkeypatch, caplog):
    """No checkpoint, weights or line of the log can be written for a while; in the end nothing is missing."""
    config = tiny("single", **{"train.steps": 12, "train.checkpoint_every": 2, "train.log_every": 1})
    train(config, tmp_path / "whole")
    full = {"now": False}
    take, replace = Training.step, Path.replace

    def step(self, labeled, unlabeled):
        take(self, labeled, unlabeled)
        full["now"] = 4 <= self.state.step < 9

    def refuse(self, target):
        if full["now"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Training, "step", step)
    monkeypatch.setattr(Path, "replace", refuse)
    train(config, tmp_path / "full")
    assert "No space left on device" in caplog.text
    assert "the run continues" in caplog.text
    assert_same_runs(tmp_path / "whole", tmp_path / "full")


@pytest.mark.slow
def test_a_killed_run_resumes_exactly(tiny, tmp_path):
    """SIGKILL at any moment: the run continues from its last checkpoint."""
    config = tiny("mean_teacher", **{"train.steps": 16, "train.checkpoint_every": 2})
    train(config, tmp_path / "whole")
    path, killed = tmp_path / "config.yaml", tmp_path / "killed"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "semipose", "train", str(path), "--out", str(killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        end = time.monotonic() + 120
        while not (killed / "last" / "state.pt").exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
        process.kill()
    assert (killed / "last" / "state.pt").exists()
    train(config, killed, resume=True)
    assert_same_runs(tmp_path / "whole", killed)
