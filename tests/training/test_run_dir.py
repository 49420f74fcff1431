"""One process a run folder; trainings that end with their launcher."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from semipose.errors import ConfigError
from semipose.trainer import train
from semipose.training.run_dir import lock_run_dir, wait_until_free

HOLD = """
import sys, time
from pathlib import Path
from semipose.training.run_dir import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
STOP = """
import time
from semipose.training.run_dir import stop_with_stdin
stop_with_stdin()
print("up", flush=True)
time.sleep(60)
"""


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_went(tmp_path, tiny):
    with python(HOLD, tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"{tmp_path} is in use by process {first.pid} on .+ since 20\d\d-"):
            train(tiny("supervised"), tmp_path)
        assert not wait_until_free(tmp_path, 0.1)
        first.send_signal(signal.SIGKILL)
    assert wait_until_free(tmp_path, 10)
    with lock_run_dir(tmp_path):
        assert json.loads((tmp_path / ".owner.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".owner.json").exists()


def test_a_folder_that_is_not_there_is_free(tmp_path):
    assert wait_until_free(tmp_path / "new", 0.0)
    assert not (tmp_path / "new").exists()


def test_unfinished_files_of_killed_processes_go_away(tmp_path):
    with python("pass") as gone:
        gone.wait(10)
    (tmp_path / "weights").mkdir()
    dead = [tmp_path / f".{gone.pid}.tmp.a.json", tmp_path / "weights" / f".{gone.pid}.tmp.b.safetensors"]
    alive = tmp_path / f".{os.getppid()}.tmp.report.html"
    for path in (*dead, alive):
        path.write_text("half")
    with lock_run_dir(tmp_path):
        assert not any(path.exists() for path in dead)
        assert alive.exists()


def test_a_process_ends_when_its_standard_input_does():
    with python(STOP) as process:
        assert process.stdout.readline() == "up\n"
        time.sleep(0.2)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(10) == -signal.SIGTERM
