"""SIGKILL of a study while a run trains: the study continues to the same table."""

import os
import re
import subprocess
import sys
import time

import pytest
import yaml


@pytest.mark.slow
def test_killed_study_continues_to_the_same_table(tmp_path, tiny_run):
    options = {"method": "single", "train.checkpoint_every": 1, "train.evaluate_every": 9.0}
    grid = {
        "title": "Tiny",
        "shared": {**tiny_run, "train.steps": 20},
        "rows": {"single": {"options": options}},
        "labels": [30],
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(grid))
    command = [sys.executable, "-m", "semipose", "study", str(path), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    killed = tmp_path / "killed"
    with subprocess.Popen([*command, str(killed)], env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not (killed / "runs" / "single-30-0" / "last" / "state.pt").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert not (killed / "runs" / "single-30-0" / "scores.json").exists()
    subprocess.run([*command, str(killed), "--resume"], env=environment, check=True, capture_output=True)
    tables = [(folder / "table.md").read_text() for folder in (killed, tmp_path / "whole")]
    timeless = [re.sub(r"[\d.]+ \|$", "", text, flags=re.MULTILINE) for text in tables]  # minutes are the last column
    assert timeless[0] == timeless[1]
    assert "| single | 30 | 1 |" in timeless[0]
