"""Training of the runs of a study, each in its own process; finished runs are skipped, unfinished runs resumed."""

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch
import yaml

from semipose.config import load_config, with_absolute_paths
from semipose.errors import ConfigError
from semipose.studies.grid import StudyGrid, StudyRun
from semipose.studies.worker import PLAN
from semipose.training.checkpoint import is_begun
from semipose.training.run_dir import wait_until_free
from semipose.utils.cpu import available_cpus
from semipose.utils.files import make_folder, write_text

logger = logging.getLogger(__name__)

SECONDS_TO_SAVE = 60.0
"""Longest time that a run waits while a process from a killed study still saves the same run."""

STOPPED = (-2, -15, 130, 143)
"""Exit codes of a process that was stopped by SIGINT or SIGTERM."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: its folder, and the reason if it failed."""

    run: StudyRun
    folder: Path
    failure: str | None


def run_folder(out: Path, run: StudyRun) -> Path:
    """Returns the folder of a run in the study's folder."""
    return out / "runs" / run.name


def train_runs(grid: StudyGrid, out: Path, *, data: Path | None = None, jobs: int = 1) -> list[Outcome]:
    """Trains every run of the study that is not finished; a run that fails does not stop the others.

    Args:
        grid: The study.
        out: Folder of the study.
        data: Folder of the study's data files.
        jobs: Number of runs trained at the same time. They are distributed over the GPUs, or share the CPU.

    Raises:
        ConfigError: If `out` contains another study.
    """
    save_grid(grid, out, data)
    runs, gpus = grid.runs(), torch.cuda.device_count()
    devices: SimpleQueue[str] = SimpleQueue()
    for job in range(jobs):
        devices.put(f"cuda:{job % gpus}" if gpus else "cpu")
    threads = max(1, available_cpus() // jobs)
    workers = _Workers()

    def work(number: int, run: StudyRun) -> Outcome:
        folder, label = run_folder(out, run), f"{number} of {len(runs)}: {run.name}"
        if is_finished(folder):
            return Outcome(run, folder, None)
        device, started = devices.get(), time.perf_counter()
        try:
            logger.info(f"{label} on {device}")
            write_plan(grid, run, folder, data, device)
            failure = _train(folder, threads if device == "cpu" else None, workers)
        finally:
            devices.put(device)
        logger.info(
            f"{label} failed: {failure}" if failure else f"{label} done in {time.perf_counter() - started:.0f} s"
        )
        return Outcome(run, folder, failure)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(work, range(1, len(runs) + 1), runs))
        except KeyboardInterrupt:  # also of a signal that this process alone gets
            pool.shutdown(wait=False, cancel_futures=True)
            workers.stop()
            raise


class _Workers:
    """The processes that train; when the study is stopped, they save their state and end."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def add(self, process: "subprocess.Popen[bytes]") -> None:
        self._running.add(process)
        if self._stopped:
            self.stop()

    def remove(self, process: "subprocess.Popen[bytes]") -> None:
        self._running.discard(process)

    def stop(self) -> None:
        """Sends SIGTERM; on Windows the console's Ctrl-C has reached them, and `terminate` would kill them at once."""
        self._stopped = True
        for process in list(self._running) if os.name != "nt" else ():
            process.terminate()


def save_grid(grid: StudyGrid, out: Path, data: Path | None) -> None:
    """Writes study.json; raises ConfigError if `out` has runs of another study, or with other options or data."""
    path, content = out / "study.json", grid.model_dump_json(indent=1)
    if path.is_file() and any(map(is_begun, (out / "runs").glob("*"))):
        before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(content)
        sets = {"": (before, now), **{n: (d, now["datasets"].get(n, d)) for n, d in before["datasets"].items()}}
        same = all(old[key] == new[key] for old, new in sets.values() for key in ("shared", "data"))
        same &= all(
            new["schedules"].get(method, {}).get(n) == options
            for old, new in sets.values()
            for method, by_labels in old["schedules"].items()
            for n, options in by_labels.items()
        )
        if not same or any(now["rows"].get(n, row)["options"] != row["options"] for n, row in before["rows"].items()):
            raise ConfigError(f"{out} contains another study, or this study with other options; choose another `out`")
    _refuse_other_data(grid, out, data)
    make_folder(out)
    write_text(path, content)


def _refuse_other_data(grid: StudyGrid, out: Path, data: Path | None) -> None:
    """Raises ConfigError if a run in `out`, finished or not, is on another file, unless that one is gone."""
    for run in grid.runs():
        folder = run_folder(out, run)
        if is_begun(folder) and (folder / "config.yaml").is_file():
            given = str(with_absolute_paths(grid.run_config(run, data)).data.train)
            known = str(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["data"]["train"])
            if Path(known).exists() and os.path.realpath(known) != os.path.realpath(given):
                raise ConfigError(
                    f"`data`: {folder} is a run on {known}, and now it is {given}; give the same folder again"
                )


def write_plan(grid: StudyGrid, run: StudyRun, folder: Path, data: Path | None, device: str) -> None:
    """Writes the configuration of the run; a resumed run keeps its saved configuration, which is fully resolved."""
    folder.mkdir(parents=True, exist_ok=True)
    wait_until_free(folder, SECONDS_TO_SAVE)
    begun = is_begun(folder)
    config = load_config(folder / "config.yaml") if begun else grid.run_config(run, data)
    train = config.train.model_copy(update={"device": device})
    config.model_copy(update={"train": train}).save(folder / PLAN)


def _train(folder: Path, threads: int | None, workers: _Workers) -> str | None:
    """Trains the run in a process of its own; returns the reason if it fails."""
    command = [sys.executable, "-m", "semipose.studies.worker", str(folder)]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with (
        (folder / "log.txt").open("ab") as log,
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log) as process,
    ):
        workers.add(process)
        code = process.wait()
        workers.remove(process)
    if code == 0 and is_finished(folder):
        return None
    if code in STOPPED:
        raise KeyboardInterrupt
    return last_line(folder) or f"exit code {code}"


def last_line(folder: Path) -> str:
    """Returns the last line of a run's log, which is the reason if the run failed; "" without any."""
    path = folder / "log.txt"
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return next((line[:300] for line in reversed(lines) if line.strip()), "")


def is_finished(folder: Path) -> bool:
    """Returns whether a run has its scores."""
    return (folder / "scores.json").is_file()
