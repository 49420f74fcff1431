"""SIGKILL of one of two processes at random moments: the other ends in time, in one line, and the run can go on."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.fault_injection.kills import TINY, difference
from semipose.config import load_config
from semipose.data.datasets import read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.training.checkpoint import has_checkpoint

IN_TIME = 60.0
"""Seconds in which the other process must end."""

TRAIN = """
import sys
from pathlib import Path
from semipose.config import load_config
from semipose.errors import SemiposeError
from semipose.trainer import train
try:
    train(load_config(sys.argv[1]), Path(sys.argv[2]), resume=sys.argv[3] == "resume")
except SemiposeError as error:
    sys.exit(f"semipose: {error}")
"""


def run(count: int, seed: int) -> dict[str, Any]:
    """Kills the first and the second process in turn, `count` times; reports losses and the longest wait."""
    random.seed(seed)
    bad: list[str] = []
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"SEMIPOSE_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        write_coco(read_dataset("people", None).subset(range(60)), folder / "people.json")
        (folder / "train.py").write_text(TRAIN)
        changed = {"data.train": str(folder / "people.json"), "train.steps": 60, "method": "mean_teacher"}
        load_config(None, {**TINY, **changed}).save(folder / "plan.yaml")
        whole, runs = folder / "whole", 0
        started = time.perf_counter()
        _start(folder, whole).communicate()
        usual = time.perf_counter() - started
        while len(waits) < count:
            runs += 1
            bad += _disturbed(folder, whole, folder / f"run{runs}", usual, waits, count)
    return {"kills": len(waits), "runs": runs, "longest_wait_seconds": round(max(waits), 1), "bad": bad}


def _disturbed(folder: Path, whole: Path, out: Path, usual: float, waits: list[float], count: int) -> list[str]:
    """Kills and resumes one run until it finishes; returns what was wrong."""
    bad: list[str] = []
    while True:
        process = _start(folder, out)
        if len(waits) < count:
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(usual / 3, usual))
        victim = _training_process(process.pid, len(waits) % 2)
        if len(waits) < count and process.poll() is None and victim:
            os.kill(victim, signal.SIGKILL)
            killed = time.perf_counter()
            errors = process.communicate()[1]  # ends when the last process does
            waits.append(time.perf_counter() - killed)
            bad += [f"ended after {waits[-1]:.0f} s"] if waits[-1] > IN_TIME else []
            continue
        errors = process.communicate()[1]
        finished = process.returncode == 0 and (out / "scores.json").is_file()
        problem = difference(whole, out) if finished else f"did not finish: {errors[-300:]}"
        return [*bad, problem] if problem else bad


def _start(folder: Path, out: Path) -> subprocess.Popen[str]:
    begun = has_checkpoint(out / "last" / "state.pt")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(folder / "plan.yaml"), str(out), "resume" if begun else "start"]
    command = [*torchrun, str(folder / "train.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _training_process(launcher: int, rank: int) -> int | None:
    """The process of a rank that torchrun (the launcher) has started, if it runs already."""
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    except OSError:
        return None
    for child in children:
        with suppress(OSError):
            if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
                return int(child)
    return None
