"""Training of the runs of a study as jobs of a Slurm array, through submitit."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from semipose.errors import ConfigError
from semipose.studies.grid import StudyGrid
from semipose.studies.runner import Outcome, is_finished, last_line, run_folder, save_grid, write_plan
from semipose.studies.worker import train_planned
from semipose.utils.extras import import_extra
from semipose.utils.text import plural

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 30.0
"""Seconds between questions about the state of the jobs."""


@dataclass(frozen=True)
class RunJob:
    """Trains a run in a job, which saves its state before its time limit, is queued again and continues there."""

    def __call__(self, folder: Path) -> int:
        """Trains the run, with its log in log.txt, and returns the exit code of `train_planned`.

        Raises:
            SystemExit: If a signal ended the training; the job then has no result, for it may be queued again.
        """
        logging.basicConfig(level=logging.WARNING, format="%(message)s", filename=folder / "log.txt", force=True)
        logging.getLogger("submitit").propagate = False  # its own log is in the folder jobs
        number, queue_again = _warning_signal(), signal.getsignal(_warning_signal())
        warned = False

        def stop(received: int, frame: FrameType | None) -> None:
            sys.exit(128 + received)

        def save(received: int, frame: FrameType | None) -> None:
            nonlocal warned
            warned = True
            os.kill(os.getpid(), signal.SIGTERM)  # a training saves its state after the present step; all else stops

        signal.signal(signal.SIGTERM, stop)
        signal.signal(number, save)
        try:
            code = _train_until_stopped(folder)
            if code <= 128:
                return code
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm sends it to a job that is queued again
            if warned and callable(queue_again):
                queue_again(number, None)
        except Exception:
            log.exception("the job failed")
            raise
        sys.exit(code)

    def checkpoint(self, folder: Path) -> Any:
        """Returns what submitit queues in place of a job that reached its time limit or was preempted: the same run."""
        return import_extra("submitit", "slurm", "`slurm`").helpers.DelayedSubmission(self, folder)


def _train_until_stopped(folder: Path) -> int:
    """Trains the run and returns the exit code, also if the process is told to exit before or after the training."""
    try:
        return train_planned(folder)
    except SystemExit as stopped:
        return int(stopped.code or 0)


def _warning_signal() -> int:
    """The signal that submitit has Slurm send some time before it ends a job."""
    name = import_extra("submitit", "slurm", "`slurm`").JobEnvironment.USR_SIG
    return int(getattr(signal, f"SIG{name}"))


def train_in_jobs(
    grid: StudyGrid,
    out: Path,
    options: Mapping[str, Any],
    *,
    data: Path | None = None,
    jobs: int | None = None,
    cluster: str = "slurm",
) -> list[Outcome]:
    """Trains every run of the study that is not finished in a job of its own, and waits for all jobs.

    Args:
        grid: The study.
        out: Folder of the study, on a file system that all machines share; logs of the jobs are in its folder jobs.
        options: Options of the jobs by submitit's names, for example timeout_min, gpus_per_node, slurm_partition.
        data: Folder of the study's data files.
        jobs: Largest number of jobs at the same time; as many as Slurm starts if not given.
        cluster: submitit's name of the cluster; `local` starts processes on this machine.

    Raises:
        ConfigError: If submitit is not installed, there is no Slurm, or an option is unknown or missing.
    """
    submitit = import_extra("submitit", "slurm", "`slurm`")
    executor = _executor(submitit, out / "jobs", options, jobs, cluster)
    save_grid(grid, out)
    runs = grid.runs()
    folders = {run.name: run_folder(out, run) for run in runs}
    missing = [run for run in runs if not is_finished(folders[run.name])]
    for run in missing:
        write_plan(grid, run, folders[run.name], data, "auto")
    submitted = _submit(executor, [folders[run.name].absolute() for run in missing]) if missing else []
    number = f" as {submitted[0].job_id.partition('_')[0]}" if submitted else ""
    finished = plural(len(runs) - len(missing), "run")
    log.info(f"{plural(len(missing), 'job')} submitted{number}, {finished} finished before")
    names = {id(job): run.name for job, run in zip(submitted, missing, strict=True)}
    failures: dict[str, str] = {}
    try:
        for job in _ended(submitted, cluster):
            name = names[id(job)]
            if failure := _failure(job, folders[name]):
                failures[name] = failure
            log.info(f"{name} failed: {failure}" if failure else f"{name} done")
    except KeyboardInterrupt:
        for job in submitted:
            job.cancel(check=False)  # a training that is cancelled saves its state
        raise
    return [Outcome(run, folders[run.name], failures.get(run.name)) for run in runs]


def _executor(submitit: Any, logs: Path, options: Mapping[str, Any], jobs: int | None, cluster: str) -> Any:
    if "timeout_min" not in options:
        raise ConfigError("`slurm` needs timeout_min, the time limit of each training in minutes")
    try:
        executor = submitit.AutoExecutor(logs, cluster=cluster)
        parallel = {} if jobs is None else {"slurm_array_parallelism": jobs}
        executor.update_parameters(name="semipose", **parallel, **options)
    except (NameError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"`slurm`: {' '.join(str(error).split())[:300]}") from None
    return executor


def _submit(executor: Any, folders: Sequence[Path]) -> Any:
    """Submits the jobs; if this process is itself in a job, they inherit none of its limits of memory and cores."""
    hidden = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
    kept = {name: os.environ.pop(name) for name in hidden}
    try:
        return executor.map_array(RunJob(), folders)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"`slurm`: {reason}; correct it, then continue with `resume`") from None
    finally:
        os.environ.update(kept)


def _ended(jobs: Sequence[Any], cluster: str) -> Iterator[Any]:
    """Yields each job when it has a result or left the queue.

    Slurm's accounting, which submitit asks, is off on some clusters, and knows states of jobs that submitit takes for
    their end (suspended, for example). A result may be visible some seconds after its job left the queue.
    """
    waiting, gone = list(jobs), set()
    while waiting:
        queued = _queued(waiting, cluster)
        for job in tuple(waiting):
            if job.paths.result_pickle.exists() or (job.job_id in gone and job.job_id not in queued):
                waiting.remove(job)
                yield job
        gone = {job.job_id for job in waiting} - queued
        if waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _queued(jobs: Sequence[Any], cluster: str) -> set[str]:
    """Returns the ids of the jobs in the queue, whether they wait, run or are suspended."""
    if cluster != "slurm":
        return {job.job_id for job in jobs if not job.done()}
    try:
        command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
        return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    except subprocess.CalledProcessError as error:
        log.warning(f"Slurm's queue can't be read ({' '.join(error.stderr.split())[:200]}); waiting")
        return {job.job_id for job in jobs}


def _failure(job: Any, folder: Path) -> str | None:
    """The reason why the run of a job has no scores; None if it has."""
    if is_finished(folder):
        return None
    if not job.paths.result_pickle.exists():
        errors = [line for line in (job.stderr() or "").splitlines() if "error: " in line or "fatal: " in line]
        return f"{errors[-1][:300] if errors else 'the job ended without a result'}; see {job.paths.stderr}"
    error = job.exception()
    if error is None:
        return last_line(folder) or f"the job ended without scores; see {folder / 'log.txt'}"
    trace = str(error).partition("\nYou can check")[0]  # submitit adds the paths of its logs
    lines = [line for line in trace.splitlines() if line.strip(" -")]
    return lines[-1][:300] if lines else type(error).__name__
