"""A run is a job of its own: what submitit is asked for, what a job does when its time ends, and real local jobs."""

import logging
import os
import signal
import sys
from types import SimpleNamespace

import pytest
import yaml

from semipose.errors import ConfigError
from semipose.studies import slurm
from semipose.studies.grid import StudyGrid
from semipose.studies.runner import run_folder
from semipose.studies.slurm import RunJob, train_in_jobs
from semipose.studies.study import run_study
from semipose.trainer import train
from semipose.training.signals import StopSignals


@pytest.fixture
def grid(tiny_run):
    rows = {name: {"options": {"method": name}} for name in ("supervised", "single")}
    return StudyGrid(title="Tiny", rows=rows, labels=[30], shared=tiny_run)


@pytest.fixture
def submitit(monkeypatch):
    """Stands in for submitit: a job ends at once, with scores unless `error` says why it has none."""
    seen = SimpleNamespace(options={}, folders=[], error=None, cancelled=0, interrupt=False)

    class Job:
        def __init__(self, folder):
            if seen.error is None:
                (folder / "scores.json").write_text("{}")

        def exception(self):
            return seen.error

        def cancel(self, check):
            seen.cancelled += 1

    class AutoExecutor:
        def __init__(self, folder, cluster):
            seen.logs, seen.cluster = folder, cluster

        def update_parameters(self, **options):
            if "partition" in options:
                raise NameError("Unknown argument partition")
            seen.options = options

        def map_array(self, function, folders):
            assert function == RunJob()
            seen.folders = folders
            return [Job(folder) for folder in folders]

    def as_completed(jobs, poll_frequency):
        if seen.interrupt:
            raise KeyboardInterrupt
        return jobs

    helpers = SimpleNamespace(as_completed=as_completed, DelayedSubmission=lambda *arguments: arguments)
    module = SimpleNamespace(AutoExecutor=AutoExecutor, helpers=helpers, JobEnvironment=SimpleNamespace(USR_SIG="USR2"))
    monkeypatch.setitem(sys.modules, "submitit", module)
    return seen


def test_each_missing_run_is_a_job_of_one_array(grid, submitit, tmp_path):
    outcomes = train_in_jobs(grid, tmp_path, {"timeout_min": 9, "gpus_per_node": 1}, jobs=3)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert submitit.options == {"name": "semipose", "slurm_array_parallelism": 3, "timeout_min": 9, "gpus_per_node": 1}
    assert (submitit.cluster, submitit.logs) == ("slurm", tmp_path / "jobs")
    first, second = (run_folder(tmp_path, run) for run in grid.runs())
    assert submitit.folders == [first, second]
    assert yaml.safe_load((first / "plan.yaml").read_text())["train"]["device"] == "auto"
    (second / "scores.json").unlink()
    train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert submitit.folders == [second]
    assert "slurm_array_parallelism" not in submitit.options


def test_a_job_without_scores_has_failed(grid, submitit, tmp_path):
    submitit.error = RuntimeError("Job failed:\n  Traceback\nMemoryError: too small\n")
    outcomes = train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert [outcome.failure for outcome in outcomes] == ["MemoryError: too small"] * 2


def test_ctrl_c_cancels_the_jobs(grid, submitit, tmp_path):
    submitit.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert submitit.cancelled == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "timeout_min"), ({"timeout_min": 9, "partition": "gpu"}, "Unknown argument partition")],
)
def test_wrong_options(grid, submitit, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        train_in_jobs(grid, tmp_path / "study", options)
    assert not (tmp_path / "study").exists()


def test_without_submitit(grid, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"semipose\[slurm\]"):
        run_study(grid, tmp_path, slurm={"timeout_min": 9})


@pytest.fixture
def handlers():
    """Restores logging and the handler of SIGUSR2, which a job changes for its process."""
    root = logging.getLogger()
    kept, level, handler = root.handlers[:], root.level, signal.getsignal(signal.SIGUSR2)
    yield
    logging.getLogger("submitit").propagate = True
    for new in {*root.handlers} - {*kept}:
        new.close()
    root.handlers[:] = kept
    root.setLevel(level)
    signal.signal(signal.SIGUSR2, handler)


@pytest.mark.parametrize(("number", "queued"), [(signal.SIGUSR2, [signal.SIGUSR2]), (signal.SIGTERM, [])])
def test_a_job_saves_before_it_is_queued_again_and_a_cancelled_one_is_not(
    submitit, handlers, tmp_path, monkeypatch, number, queued
):
    found = []
    signal.signal(signal.SIGUSR2, lambda received, _: found.append(received))

    def train_planned(folder):
        with StopSignals() as signals:
            os.kill(os.getpid(), number)
            assert signals.received == signal.SIGTERM and not found  # the training saves now
        return 128 + signals.received

    monkeypatch.setattr(slurm, "train_planned", train_planned)
    assert RunJob()(tmp_path) == 143
    assert found == queued
    assert RunJob().checkpoint(tmp_path) == (RunJob(), tmp_path)


@pytest.mark.slow
def test_local_jobs_train_and_continue_stopped_runs(grid, tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs submitit: pip install 'semipose[slurm]'")
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stopped, other = grid.runs()
    folder = run_folder(tmp_path, stopped)
    train(grid.run_config(stopped), folder)
    (folder / "scores.json").unlink()
    wrong = {"method": "single", "model.weights": "/nowhere.pth"}
    rows = {**grid.rows, other.row: grid.rows[other.row].model_copy(update={"options": wrong})}
    outcomes = train_in_jobs(grid.model_copy(update={"rows": rows}), tmp_path, {"timeout_min": 5}, cluster="local")
    assert outcomes[0].failure is None
    assert "resuming at step 2" in (folder / "log.txt").read_text()
    assert "no file /nowhere.pth" in outcomes[1].failure
