"""Trainings in several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests.cli.conftest import TINY

TWO = [sys.executable, "-m", "semipose", "train", "paper", *TINY, "--data", "people"]
TWO += ["--method", "supervised", "train.devices=2", "train.select=last"]


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path):
    data = tmp_path / "data.yaml"
    data.write_text("train: people\nlabels: 16\n")  # the processes know which options were given and which were not
    command = [*TWO, "--data", str(data), "--out", str(tmp_path / "run"), "--steps", "2", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["out"] == str(tmp_path / "run")
    assert "supervised: 16 labeled" in result.stderr
    assert "2 processes" in result.stderr
    assert (tmp_path / "run" / "best.safetensors").is_file()


@pytest.mark.parametrize(
    ("exit_code", "message", "code", "line"),
    [
        (1, '_WorkerError: {"code": 2, "lines": ["`data.train`: gone"]}', 2, "semipose: --data: gone"),
        (1, "MemoryError: all gone", 1, "semipose: process 1 of the training ended (MemoryError: all gone)"),
        (-9, None, 1, "semipose: process 1 of the training ended (killed by SIGKILL)"),
    ],
)
def test_a_failure_in_a_process_is_one_line(cli, tmp_path, monkeypatch, exit_code, message, code, line):
    """The process that failed first left the file that torch writes, or none where it was killed."""
    path = tmp_path / "error.json"
    if message is not None:
        path.write_text(json.dumps({"message": {"message": message, "extraInfo": {"timestamp": "1"}}}))

    def fail(*_):
        raise ChildFailedError("training", {1: ProcessFailure(1, 123, exit_code, str(path))})

    monkeypatch.setattr("semipose.cli.launch.elastic_launch", lambda *_: fail)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found, out, err = cli(*TWO[3:], "--out", tmp_path / "run")
    assert (found, out) == (code, "")
    assert err.startswith(line)
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_signal_ends_all_processes(tmp_path):
    out = tmp_path / "run"
    command = [*TWO, "--out", str(out), "--steps", "1000000", "train.log_every=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while not ((out / "metrics.jsonl").is_file() and (out / "metrics.jsonl").stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        err = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert err.endswith("semipose: stopped and saved; continue with --resume\n")
    assert (out / "last" / "state.pt").is_file()
    assert not processes_of(out)


def processes_of(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text and path.parent.name != str(os.getpid()):
            found.append(text)
    return found
