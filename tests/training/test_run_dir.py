"""One process writes to a run folder at a time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from semipose.errors import ConfigError
from semipose.training.run_dir import lock_run_dir, wait_until_free

HOLD = """
import sys, time
from pathlib import Path
from semipose.training.run_dir import lock_run_dir
with lock_run_dir(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ended(tmp_path):
    with python(HOLD, tmp_path) as first:
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=rf"{tmp_path} is in use by process {first.pid} on .+ since 20\d\d-"),
            lock_run_dir(tmp_path),
        ):
            pass
        assert not wait_until_free(tmp_path, 0.1)
        first.send_signal(signal.SIGKILL)
    assert wait_until_free(tmp_path, 10)
    with lock_run_dir(tmp_path):
        assert json.loads((tmp_path / ".owner.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".owner.json").exists()


def test_a_folder_that_does_not_exist_is_free(tmp_path):
    assert wait_until_free(tmp_path / "new", 0.0)
    assert not (tmp_path / "new").exists()


def test_unfinished_files_of_killed_processes_are_removed(tmp_path):
    with python("pass") as ended:
        ended.wait(10)
    (tmp_path / "weights").mkdir()
    dead = [tmp_path / f".{ended.pid}.tmp.a.json", tmp_path / "weights" / f".{ended.pid}.tmp.b.safetensors"]
    alive = tmp_path / f".{os.getppid()}.tmp.report.html"
    for path in (*dead, alive):
        path.write_text("half")
    with lock_run_dir(tmp_path):
        assert not any(path.exists() for path in dead)
        assert alive.exists()
