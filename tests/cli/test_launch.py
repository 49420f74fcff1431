"""Trainings in several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TINY

TWO = [sys.executable, "-m", "semipose", "train", "paper", *TINY, "--data", "people", "--labels", "20"]
TWO += ["--method", "supervised", "train.devices=2", "train.select=last"]


def run(*options: object) -> subprocess.CompletedProcess:
    """Runs a training of two processes."""
    return subprocess.run([*TWO, *map(str, options)], capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path):
    result = run("--out", tmp_path / "run", "--steps", 2, "--json", "data.test=people")
    assert result.returncode == 0, result.stderr
    assert list(json.loads(result.stdout)["scores"]) == ["f"]
    assert "2 processes" in result.stderr
    assert (tmp_path / "run" / "best.safetensors").is_file()


@pytest.mark.slow
def test_what_fails_in_every_process_is_one_line(tmp_path):
    result = run("--data", tmp_path / "gone.json", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "gone.json" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


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
