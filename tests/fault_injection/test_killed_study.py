"""SIGKILL of a study while a run trains: the study continues to the same table."""

import re
import subprocess
import sys
import time

import pytest
import yaml

from semipose.studies.grid import StudyGrid
from semipose.studies.study import run_study


@pytest.mark.slow
def test_killed_study_continues_to_the_same_table(tmp_path, tiny_run):
    options = {"method": "single", "model.backbone": "test_resnet", "train.steps": 60, "train.evaluate_every": 9.0}
    grid = StudyGrid(title="Tiny", shared=tiny_run, rows={"single": {"options": options}}, labels=[30])
    path, whole, killed = tmp_path / "tiny.yaml", tmp_path / "whole", tmp_path / "killed"
    path.write_text(yaml.safe_dump(grid.model_dump()))
    run_study(grid, whole, jobs=2)  # two jobs have one thread each: faster on a busy machine
    command = [sys.executable, "-m", "semipose", "study", str(path), "--out", str(killed), "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not (killed / "runs" / "single-30-0" / "last" / "state.pt").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert not (killed / "runs" / "single-30-0" / "scores.json").exists()
    run_study(grid, killed, jobs=2, resume=True)
    tables = [(folder / "table.md").read_text() for folder in (killed, whole)]
    timeless = [re.sub(r"[\d.]+ \|$", "", text, flags=re.MULTILINE) for text in tables]  # minutes are the last column
    assert timeless[0] == timeless[1]
    assert "| single | 30 | 1 |" in timeless[0]
