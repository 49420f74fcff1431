"""The runner: what it refuses, skips, and hands to the processes that train."""

import json
import subprocess
import threading

import pytest
import yaml

from semipose.config import with_absolute_paths
from semipose.errors import ConfigError
from semipose.studies import runner
from semipose.studies.grid import StudyGrid
from semipose.studies.runner import run_folder, save_grid, train_runs


@pytest.fixture
def grid(tiny_run):
    rows = {name: {"options": {"method": name}} for name in ("supervised", "single")}
    return StudyGrid(title="Tiny", rows=rows, labels=[30], shared=tiny_run)


@pytest.fixture
def workers(monkeypatch):
    """Stands in for the processes: writes scores.json, or what `act` does, and returns its exit code."""
    started = []

    class Worker:
        act = staticmethod(lambda folder, log: (folder / "scores.json").write_text("{}") and 0)

        def __init__(self, command, *, env, stdin, stdout, stderr):
            self.folder, self.log = runner.Path(command[-1]), stdout
            assert stdin is subprocess.PIPE  # its end stops the worker
            started.append((self.folder, env))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self):
            return Worker.act(self.folder, self.log)

    monkeypatch.setattr(runner.subprocess, "Popen", Worker)
    monkeypatch.setattr(runner.torch.cuda, "device_count", lambda: 0)
    Worker.started = started
    return Worker


def test_plan_of_a_run(grid, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "available_cpus", lambda: 8)
    outcomes = train_runs(grid, tmp_path, jobs=2)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    for run in grid.runs():
        plan = yaml.safe_load((run_folder(tmp_path, run) / "plan.yaml").read_text())
        assert plan["method"]["name"] == run.row
        assert (plan["data"]["labels"], plan["train"]["device"]) == (30, "cpu")
    assert {env["OMP_NUM_THREADS"] for _, env in workers.started} == {"4"}


def test_jobs_are_spread_over_gpus(grid, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.torch.cuda, "device_count", lambda: 2)
    train_runs(grid.model_copy(update={"seeds": list(range(4))}), tmp_path, jobs=2)
    plans = [yaml.safe_load((folder / "plan.yaml").read_text()) for folder, _ in workers.started]
    assert {plan["train"]["device"] for plan in plans} == {"cuda:0", "cuda:1"}


def test_finished_runs_are_skipped(grid, workers, tmp_path):
    train_runs(grid, tmp_path)
    train_runs(grid, tmp_path)
    assert len(workers.started) == 2


def test_failed_run_does_not_stop_the_others(grid, workers, tmp_path):
    def fail(folder, log):
        log.write(b"reading data\nmodel.weights: no file x.pth\n\n")
        log.flush()
        return 2

    workers.act = staticmethod(fail)
    outcomes = train_runs(grid, tmp_path)
    assert [outcome.failure for outcome in outcomes] == ["model.weights: no file x.pth"] * 2


def test_interrupted_run_ends_the_study(grid, workers, tmp_path):
    workers.act = staticmethod(lambda folder, log: 143)
    with pytest.raises(KeyboardInterrupt):
        train_runs(grid, tmp_path)


def test_an_interrupted_study_stops_its_other_trainings(grid, workers, tmp_path):
    """One training is stopped by a signal; the other one goes on until the study stops it."""
    begun, stopped = threading.Event(), threading.Event()
    workers.terminate = lambda process: stopped.set()

    def act(folder, log):
        if folder.name.startswith("supervised"):
            return 143 if begun.wait(60) else 1
        begun.set()
        return stopped.wait(60) or 1

    workers.act = staticmethod(act)
    with pytest.raises(KeyboardInterrupt):
        train_runs(grid, tmp_path, jobs=2)
    assert stopped.is_set()


def test_resumed_run_keeps_its_resolved_configuration(grid, workers, tmp_path):
    run = grid.runs()[0]
    folder = run_folder(tmp_path, run)
    (folder / "last").mkdir(parents=True)
    (folder / "last" / "state.pt").touch()
    config = grid.run_config(run)
    train = config.train.model_copy(update={"precision": "bf16-mixed"})
    config.model_copy(update={"train": train}).save(folder / "config.yaml")
    train_runs(grid, tmp_path)
    assert yaml.safe_load((folder / "plan.yaml").read_text())["train"]["precision"] == "bf16-mixed"


def test_folder_of_another_study(grid, workers, tmp_path):
    train_runs(grid, tmp_path)
    (run_folder(tmp_path, grid.runs()[0]) / "last").mkdir()
    (run_folder(tmp_path, grid.runs()[0]) / "last" / "state.pt").touch()
    changed = grid.overridden({"train.lr": 1.0})
    with pytest.raises(ConfigError, match="another study"):
        train_runs(changed, tmp_path)
    several = StudyGrid(
        title="T", rows={"single": {"options": {"method": "single"}}}, datasets={"people": {"labels": [30]}}
    )
    with pytest.raises(ConfigError, match="another study"):
        train_runs(several, tmp_path)
    more = grid.model_copy(update={"seeds": [0, 1]})
    train_runs(more, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["seeds"] == [0, 1]


def test_runs_on_other_data_and_with_other_schedules_are_not_mixed(grid, workers, tmp_path):
    own = grid.model_copy(
        update={
            "data": {"data.train": "labels.json"},
            "schedules": {"single": {30: {"train.lr": 0.1}}},
            "shared": {key: value for key, value in grid.shared.items() if key != "data.train"},
        }
    )
    train_runs(own, tmp_path, data=tmp_path / "a")
    run = own.runs()[0]
    (run_folder(tmp_path, run) / "last").mkdir()
    (run_folder(tmp_path, run) / "last" / "state.pt").touch()
    with_absolute_paths(own.run_config(run, tmp_path / "a")).save(run_folder(tmp_path, run) / "config.yaml")
    train_runs(own, tmp_path, data=tmp_path / "a")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "labels.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    save_grid(own, tmp_path, tmp_path / "link")
    with pytest.raises(ConfigError, match=r"`data`: .* is a run on .*/a/labels.json, and now it is .*/b/labels.json"):
        train_runs(own, tmp_path, data=tmp_path / "b")
    with pytest.raises(ConfigError, match="with other options"):
        train_runs(
            own.model_copy(update={"schedules": {"single": {30: {"train.lr": 0.2}}}}), tmp_path, data=tmp_path / "a"
        )
