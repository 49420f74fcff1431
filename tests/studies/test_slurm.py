"""A run is a job of its own: what submitit is asked for, what a job does when its time ends, and real local jobs."""

import logging
import os
import signal
import sys
from subprocess import CalledProcessError
from types import SimpleNamespace

import pytest
import yaml

from semipose.errors import ConfigError
from semipose.studies import slurm
from semipose.studies.grid import StudyGrid
from semipose.studies.runner import last_line, run_folder
from semipose.studies.slurm import RunJob, train_in_jobs
from semipose.studies.study import run_study
from semipose.trainer import train
from semipose.training.signals import StopSignals


@pytest.fixture
def grid(tiny_run):
    rows = {name: {"options": {"method": name}} for name in ("supervised", "single")}
    return StudyGrid(title="Tiny", rows=rows, labels=[30], shared=tiny_run)


@pytest.fixture
def submitit(monkeypatch, tmp_path):
    """Stands in for submitit and squeue: a job ends at once, with scores unless `error` says why it has none."""
    seen = SimpleNamespace(options={}, folders=[], error=None, cancelled=0, refused=None, queues=[], before={})

    class Job:
        def __init__(self, folder, job_id):
            self.job_id, self.folder = job_id, folder
            self.paths = SimpleNamespace(result_pickle=tmp_path / f"{self.job_id}.pkl", stderr="log.err")
            if seen.error is None:
                (folder / "scores.json").write_text("{}")
            if not seen.queues:
                self.paths.result_pickle.write_bytes(b"")

        def exception(self):
            return seen.error

        def submission(self):
            return SimpleNamespace(args=[self.folder])

        def stderr(self):
            return "srun: error: node1: task 0: Killed\nsrun: Force Terminated StepId=7.0\n"

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
            if seen.refused:
                raise RuntimeError(seen.refused)
            seen.folders, seen.environment = folders, dict(os.environ)
            return [Job(folder, f"7_{number}") for number, folder in enumerate(folders)]

    def squeue(command, **kwargs):
        assert command[0] == "squeue"
        if "--states" in command[-1]:
            return SimpleNamespace(stdout="\n".join(seen.before))
        queue = seen.queues.pop(0) if seen.queues else ""
        if isinstance(queue, BaseException):
            raise queue
        return SimpleNamespace(stdout=queue)

    helpers = SimpleNamespace(DelayedSubmission=lambda *arguments: arguments)
    module = SimpleNamespace(
        AutoExecutor=AutoExecutor,
        SlurmJob=lambda logs, job_id: Job(seen.before[job_id], job_id),
        helpers=helpers,
        JobEnvironment=SimpleNamespace(USR_SIG="USR2"),
    )
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr(slurm.subprocess, "run", squeue)
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0)
    return seen


def test_each_missing_run_is_a_job_of_one_array(grid, submitit, tmp_path):
    outcomes = train_in_jobs(grid, tmp_path, {"timeout_min": 9, "gpus_per_node": 1}, jobs=3)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    options = {"name": "semipose", "slurm_array_parallelism": 3, "timeout_min": 9, "gpus_per_node": 1}
    assert submitit.options == {**options, **slurm.REQUEUE}
    assert (submitit.cluster, submitit.logs) == ("slurm", tmp_path / "jobs")
    first, second = (run_folder(tmp_path, run) for run in grid.runs())
    assert submitit.folders == [first, second]
    assert yaml.safe_load((first / "plan.yaml").read_text())["train"]["device"] == "auto"
    (second / "scores.json").unlink()
    train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert submitit.folders == [second]
    assert "slurm_array_parallelism" not in submitit.options


def test_a_job_without_scores_has_failed(grid, submitit, tmp_path):
    submitit.error = RuntimeError(
        "Job (task=0) failed during processing with trace:\n-----\nTraceback\nMemoryError: too small\n\n-----\n"
        "You can check full logs with 'job.stderr(0)' and 'job.stdout(0)'or at paths:\n  - /jobs/7.err\n  - /jobs/7.out"
    )
    outcomes = train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert [outcome.failure for outcome in outcomes] == ["MemoryError: too small"] * 2


def test_a_job_that_left_the_queue_without_a_result_has_failed(grid, submitit, tmp_path, caplog):
    submitit.error = RuntimeError("not asked")
    unknown = CalledProcessError(1, "squeue", stderr="Unable to contact slurm controller\n")
    submitit.queues = ["7_0\n7_1\n", unknown, "7_1\n8_0\n", "7_0\n", "", ""]  # 7_0 is queued again
    with caplog.at_level("INFO", "semipose.studies.slurm"):
        outcomes = train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert [outcome.failure for outcome in outcomes] == ["srun: error: node1: task 0: Killed; see log.err"] * 2
    assert not submitit.queues
    assert "Unable to contact slurm controller" in caplog.text
    assert "2 jobs submitted as 7, " in caplog.text


def test_jobs_inherit_nothing_from_the_job_that_submits_them(grid, submitit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "500")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert {"SLURM_MEM_PER_CPU", "SLURM_CONF"} & {*submitit.environment} == {"SLURM_CONF"}
    assert os.environ["SLURM_MEM_PER_CPU"] == "500"


def test_jobs_of_a_command_that_was_killed_are_not_submitted_again(grid, submitit, tmp_path):
    first, second = (run_folder(tmp_path, run) for run in grid.runs())
    for folder in (first, second, tmp_path / "jobs"):
        folder.mkdir(parents=True)
    (tmp_path / "jobs" / "5_1_submitted.pkl").touch()
    submitit.before = {"5_1": second, "6": tmp_path / "of another study"}
    outcomes = train_in_jobs(grid, tmp_path, {"timeout_min": 9})
    assert submitit.folders == [first]
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert not (second / "plan.yaml").exists()


def test_a_refused_submission(grid, submitit, tmp_path):
    submitit.refused = "sbatch: error: Invalid partition name specified"
    with pytest.raises(ConfigError, match="Invalid partition name specified"):
        train_in_jobs(grid, tmp_path, {"timeout_min": 9})


def test_ctrl_c_cancels_the_jobs(grid, submitit, tmp_path):
    submitit.queues = [KeyboardInterrupt()]
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
    """Restores logging and the handlers of the signals, which a job changes for its process."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    logging.getLogger("submitit").propagate = True
    for new in {*root.handlers} - {*kept}:
        new.close()
    root.handlers[:] = kept
    root.setLevel(level)
    for number, handler in before.items():
        signal.signal(number, handler)


class SlurmEndsTheJob(BaseException):
    pass


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("numbers", [["SIGUSR2"], ["SIGTERM"], ["SIGTERM", "SIGUSR2"], ["SIGUSR2", "SIGTERM"]])
def test_a_job_saves_before_it_is_queued_again_and_a_cancelled_one_is_not(
    submitit, handlers, tmp_path, monkeypatch, numbers, training
):
    found = []

    def queue_again(received, _):
        os.kill(os.getpid(), signal.SIGTERM)  # as Slurm does
        found.append(received)

    def send():
        for number in numbers:
            os.kill(os.getpid(), getattr(signal, number))

    def sleep(seconds):
        raise SlurmEndsTheJob

    def train_planned(folder):
        if not training:  # while data are read, for example
            send()
            pytest.fail("the signal is lost")
        with StopSignals() as signals:
            send()
            assert signals.received == signal.SIGTERM and not found  # the training saves now
        return 128 + signals.received

    signal.signal(signal.SIGUSR2, queue_again)
    monkeypatch.setattr(slurm, "train_planned", train_planned)
    monkeypatch.setattr(slurm.time, "sleep", sleep)
    warned = "SIGUSR2" in (numbers if training else numbers[:1])
    with pytest.raises(SystemExit if warned else SlurmEndsTheJob):  # without a result: the job may be queued again
        RunJob()(tmp_path)
    assert found == ([signal.SIGUSR2] if warned else [])
    assert RunJob().checkpoint(tmp_path) == (RunJob(), tmp_path)


def test_the_log_has_the_reason_of_a_failed_job(submitit, handlers, tmp_path, monkeypatch):
    def train_planned(folder):
        raise MemoryError("too small")

    monkeypatch.setattr(slurm, "train_planned", train_planned)
    with pytest.raises(MemoryError):
        RunJob()(tmp_path)
    assert last_line(tmp_path) == "MemoryError: too small"


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
