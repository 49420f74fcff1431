"""The process that trains a run: exit codes, resuming, and its end without a parent."""

import logging
import os
import subprocess
import sys
import time

import pytest

from semipose.config import load_config
from semipose.studies import worker


@pytest.fixture
def folder(tmp_path, tiny_run):
    def make(**changed):
        load_config(None, {**tiny_run, "data.labels": 30, "train.device": "cpu", **changed}).save(
            tmp_path / "plan.yaml"
        )
        return tmp_path

    return make


@pytest.fixture
def process(monkeypatch):
    """The worker's `main` in this process, which has a parent."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], logging.getLogger("semipose").level
    monkeypatch.setattr(worker, "stop_without_parent", lambda: None)
    yield worker.main
    root.handlers[:] = handlers
    logging.getLogger("semipose").setLevel(level)


def test_trains_and_resumes(folder, process):
    out = folder()
    assert process(out) == 0
    scores = (out / "scores.json").read_bytes()
    (out / "scores.json").unlink()
    log = (out / "metrics.jsonl").read_text()
    assert process(out) == 0
    assert (out / "metrics.jsonl").read_text() == log
    assert (out / "scores.json").read_bytes() == scores


def test_invalid_input(folder, process, caplog):
    assert process(folder(**{"model.weights": "/nowhere.pth"})) == 2
    assert "no file /nowhere.pth" in caplog.records[-1].getMessage()
    assert "\n" not in caplog.records[-1].getMessage()


@pytest.mark.slow
def test_stops_and_saves_without_its_parent(folder):
    out = folder(**{"train.steps": 100_000, "train.checkpoint_every": 100_000, "train.log_every": 1})
    command = [sys.executable, "-m", "semipose.studies.worker", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text()):
            time.sleep(0.01)
        child.stdin.close()
        assert child.wait(60) == 143, child.stderr.read()
    assert (out / "last" / "state.pt").is_file()


def test_a_run_that_was_stopped_while_its_box_network_trained_is_resumed(folder, process, monkeypatch):
    out, resumed = folder(), []
    monkeypatch.setattr(worker, "train", lambda config, folder, resume: resumed.append(resume))
    assert process(out) == 0
    (out / "box_finder" / "last").mkdir(parents=True)
    (out / "box_finder" / "last" / "state.pt").touch()
    assert process(out) == 0
    assert resumed == [False, True]
