"""Training of the runs of a study as jobs of a Slurm array, through submitit."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

REQUEUE = {"slurm_additional_parameters": {"requeue": True}}
"""Option that lets a job be queued again where that is not Slurm's default (JobRequeue=0)."""


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
            while code == 128 + signal.SIGTERM and not warned:
                time.sleep(1.0)  # until Slurm ends the job; one that ends before would not be queued again
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
    """Trains the run and returns the exit code, also if a signal ends the process before or after the training."""
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

    Jobs of this study that are in the queue are not submitted again.

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
    save_grid(grid, out, data)
    runs = grid.runs()
    folders = {run.name: run_folder(out, run).absolute() for run in runs}
    missing = [run for run in runs if not is_finished(folders[run.name])]
    jobs_of = _find_queued(submitit, out / "jobs") if cluster == "slurm" else {}
    queued = {run.name: jobs_of[folders[run.name]] for run in missing if folders[run.name] in jobs_of}
    new = [run for run in missing if run.name not in queued]
    for run in new:
        write_plan(grid, run, folders[run.name], data, "auto")
    submitted = _submit(executor, [folders[run.name] for run in new]) if new else []
    number = f" as {submitted[0].job_id.partition('_')[0]}" if submitted else ""
    before = f"{len(queued)} in the queue and {len(runs) - len(missing)} finished before"
    log.info(f"{plural(len(new), 'job')} submitted{number}, {before}")
    by_name = {**queued, **{run.name: job for run, job in zip(new, submitted, strict=True)}}
    failures = _wait(by_name, folders, cluster)
    return [Outcome(run, run_folder(out, run), failures.get(run.name)) for run in runs]


def _wait(jobs: Mapping[str, Any], folders: Mapping[str, Path], cluster: str) -> dict[str, str]:
    """Waits for the jobs, by names of runs, and returns why runs failed; an interrupt cancels the jobs."""
    failures: dict[str, str] = {}
    try:
        for name in _ended(jobs, cluster):
            if failure := _failure(jobs[name], folders[name]):
                failures[name] = failure
            log.info(f"{name} failed: {failure}" if failure else f"{name} done")
    except KeyboardInterrupt:
        for job in jobs.values():
            job.cancel(check=False)  # a training that is cancelled saves its state
        raise
    return failures


def _executor(submitit: Any, logs: Path, options: Mapping[str, Any], jobs: int | None, cluster: str) -> Any:
    if "timeout_min" not in options:
        raise ConfigError("`slurm` needs timeout_min, the time limit of each training in minutes")
    try:
        executor = submitit.AutoExecutor(logs, cluster=cluster)
        parallel = {} if jobs is None else {"slurm_array_parallelism": jobs}
        executor.update_parameters(**{"name": "semipose", **REQUEUE, **parallel, **options})
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


def _ended(jobs: Mapping[str, Any], cluster: str) -> Iterator[str]:
    """Yields the name of each run whose job has a result or left the queue.

    Slurm's accounting, which submitit asks, is off on some clusters, and knows states of jobs that submitit takes for
    their end (suspended, for example). A result may be visible some seconds after its job left the queue.
    """
    waiting, gone = dict(jobs), set()
    while waiting:
        queued = _queued(waiting.values(), cluster)
        for name, job in tuple(waiting.items()):
            has_result = job.paths.result_pickle.exists() and (cluster == "slurm" or job.job_id not in queued)
            if has_result or (name in gone and job.job_id not in queued):
                del waiting[name]
                yield name
        gone = {name for name, job in waiting.items() if job.job_id not in queued}
        if waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _queued(jobs: Iterable[Any], cluster: str) -> set[str]:
    """Returns the ids of the jobs that have not ended, whether they wait, run or are suspended."""
    if cluster != "slurm":
        return {job.job_id for job in jobs if not job.done()}
    try:
        return _squeue()
    except ConfigError as error:
        log.warning(f"{error}; waiting")
        return {job.job_id for job in jobs}


def _find_queued(submitit: Any, logs: Path) -> dict[Path, Any]:
    """Returns the jobs of the study that are in the queue, by folder of the run, after their command was killed."""
    ids = _squeue("-t", "PENDING,RUNNING,SUSPENDED")  # not those that were cancelled and still save their state
    jobs = [submitit.SlurmJob(logs, number) for number in ids if (logs / f"{number}_submitted.pkl").exists()]
    return {job.submission().args[0]: job for job in jobs}


def _squeue(*options: str) -> set[str]:
    command = ["squeue", "-u", str(os.getuid()), "-r", "-h", "-o", "%i", *options]  # a line for each job of an array
    try:
        return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"`slurm`: squeue failed: {' '.join(error.stderr.split())[:200]}") from None


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
