"""Runs the cells of a study, each in a process of its own: what is done is skipped, what stopped goes on."""

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

from semipose.errors import ConfigError
from semipose.studies.grid import Cell, Grid
from semipose.training.checkpoint import has_checkpoint
from semipose.training.run_dir import wait_until_free
from semipose.utils.cpu import available_cpus
from semipose.utils.files import make_folder, write_text

log = logging.getLogger(__name__)


LAST_SAVE = 60.0
"""Seconds that a cell of an earlier, killed study is given to save and leave."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its scores, or the reason why there are none."""

    cell: Cell
    folder: Path
    failure: str | None


def run_grid(grid: Grid, out: Path, *, data: Path | None = None, jobs: int = 1) -> list[Outcome]:
    """Trains every cell that is not done, `jobs` at a time; a failed cell is reported and the rest goes on.

    On a machine with several GPUs the jobs take them by turns; on a CPU they share its cores. Raises ConfigError when
    `out` holds another study.
    """
    _claim(grid, out)
    cells, count = grid.cells(), torch.cuda.device_count()
    devices: SimpleQueue[str] = SimpleQueue()
    for job in range(jobs):
        devices.put(f"cuda:{job % count}" if count else "cpu")
    threads = max(1, available_cpus() // jobs)

    def work(numbered: tuple[int, Cell]) -> Outcome:
        number, cell = numbered
        folder = out / "cells" / cell.name
        if (folder / "scores.json").is_file():
            return Outcome(cell, folder, None)
        device = devices.get()
        started = time.perf_counter()
        try:
            log.info(f"{number + 1} of {len(cells)}: {cell.name} on {device}")
            failure = _train(grid, cell, folder, data, device, threads)
        finally:
            devices.put(device)
        took = f"{time.perf_counter() - started:.0f} s"
        log.info(
            f"{number + 1} of {len(cells)}: {cell.name} " + (f"failed: {failure}" if failure else f"done in {took}")
        )
        return Outcome(cell, folder, failure)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, enumerate(cells)))


def _claim(grid: Grid, out: Path) -> None:
    path, content = out / "study.json", grid.model_dump_json(indent=1)
    began = any(has_checkpoint(cell / "last" / "state.pt") for cell in (out / "cells").glob("*"))
    if path.is_file() and began:
        before = json.loads(path.read_text())
        same = {k: before.get(k) for k in ("shared", "data")} == {k: json.loads(content)[k] for k in ("shared", "data")}
        rows = json.loads(content)["rows"]
        if not same or any(rows.get(n, r)["options"] != r["options"] for n, r in before["rows"].items()):
            raise ConfigError(f"{out} holds another study or other options of this one; choose another --out")
    make_folder(out)
    write_text(path, content)


def _train(grid: Grid, cell: Cell, folder: Path, data: Path | None, device: str, threads: int) -> str | None:
    """Runs `semipose train` on the cell; the reason when it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    wait_until_free(folder, LAST_SAVE)
    command = [sys.executable, "-m", "semipose", "train", "--stop-with-stdin", "--out", str(folder), "--device", device]
    if has_checkpoint(folder / "last" / "state.pt"):
        command.append("--resume")
    else:
        plan = folder / "plan.yaml"
        grid.configuration(cell, data).save(plan)
        command.insert(4, str(plan))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)} if device == "cpu" else dict(os.environ)
    with (
        (folder / "log.txt").open("ab") as log,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        code = process.wait()
    if code == 0 and (folder / "scores.json").is_file():
        return None
    if code in (-2, -15, 130, 143):
        raise KeyboardInterrupt
    lines = [line for line in (folder / "log.txt").read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit code {code}"
