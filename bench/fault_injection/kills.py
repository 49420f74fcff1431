"""SIGKILL at random moments: resumed trainings must end with the same bits as undisturbed ones."""

import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from semipose.config import load_config
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.methods import METHODS, VARIANTS
from semipose.trainer import train
from semipose.training.checkpoint import has_checkpoint

TINY: dict[str, Any] = {
    "data.images": str(PEOPLE / "images"),
    "data.labels": 24,
    "data.validation": 8,
    "input.height": 64,
    "input.width": 64,
    "model.backbone": "test_resnet",
    "model.weights": "none",
    "model.head_channels": 8,
    "train.steps": 14,
    "train.batch": 4,
    "train.unlabeled_batch": 4,
    "train.select": "last",
    "train.checkpoint_every": 2,
    "train.log_every": 3,
    "train.device": "cpu",
}


def run(count: int, seed: int) -> dict[str, Any]:
    """Kills trainings of all methods `count` times; reports what was lost."""
    torch.set_num_threads(1)
    random.seed(seed)
    names = [*METHODS, *VARIANTS]
    kills = runs = 0
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMIPOSE_CACHE"] = f"{folder}/cache"
        some = Path(folder) / "people.json"
        write_coco(read_dataset("people", None).subset(range(60)), some)
        whole: dict[str, tuple[Path, float]] = {}
        while kills < count:
            name = names[runs % len(names)]
            config = load_config(None, {**TINY, "data.train": str(some), "method": name})
            if name not in whole:
                path = Path(folder) / f"{name}-whole"
                started = time.perf_counter()
                _finish(config, path)
                whole[name] = (path, time.perf_counter() - started)
            path = Path(folder) / f"{name}-{runs}"
            kills += _disturbed(config, path, whole[name][1], count - kills)
            problem = difference(whole[name][0], path)
            if problem:
                bad.append(f"{name}, run {runs}: {problem}")
            runs += 1
    return {"kills": kills, "runs": runs, "methods": len(whole), "bad": bad}


def _child(config: Any, path: Path) -> int:
    """Trains in a forked process, so that nothing is imported again; returns its pid.

    This process itself must not compute with torch: its thread pools do not survive a fork.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train(config, path, resume=has_checkpoint(path / "last" / "state.pt"))
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


def _finish(config: Any, path: Path) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(_child(config, path), 0)[1])


def _disturbed(config: Any, path: Path, usual: float, most: int) -> int:
    """Kills and resumes a training until it finishes or was killed `most` times; returns the number of kills."""
    kills = 0
    while kills < most and kills < 12:
        pid = _child(config, path)
        end = time.monotonic() + random.uniform(0, usual)
        while time.monotonic() < end:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return kills
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            kills += 1
    _finish(config, path)
    return kills


def difference(whole: Path, other: Path) -> str | None:
    """Returns what differs between two finished runs, or None."""
    if not (other / "scores.json").is_file():
        return f"did not finish: {other.with_suffix('.log').read_text(errors='replace')[-300:]}"
    if (whole / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
        return "another metrics log"
    scores = [json.loads((p / "scores.json").read_text())["scores"] for p in (whole, other)]
    if scores[0] != scores[1]:
        return "other scores"
    for path in sorted((whole / "weights").glob("*.safetensors")):
        first, second = load_file(path), load_file(other / "weights" / path.name)
        if any(not np.array_equal(first[n], second[n]) for n in first):
            return f"other weights in {path.name}"
    return None
