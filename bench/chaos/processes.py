"""SIGKILL to one of two processes at random moments: the other leaves in time, in one line, and the run goes on."""

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

import yaml

from bench.chaos.kills import TINY, difference
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.training.checkpoint import has_checkpoint

IN_TIME = 60.0
"""Seconds in which the other process must be gone."""


def run(count: int, seed: int) -> dict[str, Any]:
    """`count` kills, of the first process and its helper by turns; what was lost, and how long the other one took."""
    random.seed(seed)
    bad: list[str] = []
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"SEMIPOSE_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        write_coco(read_dataset("people", None).subset(range(60)), folder / "people.json")
        plan = {
            **TINY, "data.train": str(folder / "people.json"), "data.images": str(PEOPLE / "images"),
            "train.devices": 2, "train.steps": 60, "method": "mean_teacher",
        }  # fmt: skip
        whole, runs = folder / "whole", 0
        started = time.perf_counter()
        _start(plan, whole).communicate()
        usual = time.perf_counter() - started
        while len(waits) < count:
            runs += 1
            bad += _disturbed(plan, whole, folder / f"run{runs}", usual, waits, count)
    return {"kills": len(waits), "runs": runs, "longest_wait_seconds": round(max(waits), 1), "bad": bad}


def _disturbed(plan: dict[str, Any], whole: Path, out: Path, usual: float, waits: list[float], count: int) -> list[str]:
    """One run, killed and resumed until it gets through; what was wrong."""
    bad: list[str] = []
    while True:
        process = _start(plan, out)
        if len(waits) < count:
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(usual / 3, usual))
        victim = process.pid if len(waits) % 2 == 0 else _helper(process.pid)
        if len(waits) < count and process.poll() is None and victim:
            os.kill(victim, signal.SIGKILL)
            killed = time.perf_counter()
            told = process.communicate()[1]  # ends when the last of them does
            waits.append(time.perf_counter() - killed)
            bad += _complaints(told, waits[-1])
            continue
        told = process.communicate()[1]
        finished = process.returncode == 0 and (out / "scores.json").is_file()
        problem = difference(whole, out) if finished else f"did not finish: {told[-300:]}"
        return [*bad, problem] if problem else bad


def _start(plan: dict[str, Any], out: Path) -> subprocess.Popen:
    if has_checkpoint(out / "last" / "state.pt"):
        words = ["--resume"]
    else:
        words = [
            f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for key, value in plan.items()
        ]
    command = [sys.executable, "-m", "semipose", "train", "--out", str(out), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _helper(pid: int) -> int | None:
    """The process that `pid` has started, if it is there yet."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _complaints(told: str, seconds: float) -> list[str]:
    """What is wrong with the end of the process that was left over."""
    found = [f"left after {seconds:.0f} s"] if seconds > IN_TIME else []
    if "Traceback" in told:
        found.append(f"a traceback: {told[-300:]}")
    return found + ([f"said twice: {told[-300:]}"] if told.count("semipose: a process") > 1 else [])
