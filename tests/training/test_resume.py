"""A run that is stopped anywhere and resumed ends with the same weights and the same log, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from semipose.errors import ConfigError, WeightsError
from semipose.methods import METHODS
from semipose.run import train
from semipose.training.loop import InterruptedTrainingError, Training

RUN = "import sys; from semipose.cli import main; sys.argv = ['semipose', *sys.argv[1:]]; main()"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a finished run, by candidate and name."""
    found = {}
    for path in sorted((folder / "weights").glob("*.safetensors")):
        found |= {f"{path.stem}.{n}": t for n, t in load_file(path).items()}
    return found


def same_runs(a: Path, b: Path) -> None:
    """Asserts equal weights, training state and log."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert first
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    states = [torch.load(p / "last" / "state.pt", weights_only=True) for p in (a, b)]
    for name, tensor in states[0]["method"].items():
        assert torch.equal(tensor, states[1]["method"][name]), name
    assert torch.equal(states[0]["generator"], states[1]["generator"])
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert (
        json.loads((a / "scores.json").read_text())["scores"] == json.loads((b / "scores.json").read_text())["scores"]
    )


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGINT arrives while step number `step` is under way."""
    record = Training._record

    def interrupting(self, terms):
        if self.state.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        record(self, terms)

    monkeypatch.setattr(Training, "_record", interrupting)


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_and_resumed(method, tiny, tmp_path, monkeypatch):
    config = tiny(method)
    train(config, tmp_path / "whole")
    for step in (1, 6, 11):
        stop_at(monkeypatch, step)
        with pytest.raises(InterruptedTrainingError) as stopped:
            train(config, tmp_path / f"at{step}")
        assert stopped.value.signal == signal.SIGINT
        monkeypatch.undo()
        train(config, tmp_path / f"at{step}", resume=True)
        same_runs(tmp_path / "whole", tmp_path / f"at{step}")


def test_killed_and_resumed(tiny, tmp_path):
    """SIGKILL in another process, wherever it happens to be; the last checkpoint is gone back to."""
    config = tiny("trs", **{"train.steps": 30, "train.checkpoint_every": 3})
    train(config, tmp_path / "whole")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", RUN, "train", str(path), "--out", str(killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        end = time.monotonic() + 120
        while not (killed / "last" / "state.pt").exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
        process.kill()
    assert (killed / "last" / "state.pt").exists()
    train(config, killed, resume=True)
    same_runs(tmp_path / "whole", killed)


def test_resume_refuses_what_does_not_fit(tiny, tmp_path):
    config = tiny("single", **{"train.steps": 2})
    train(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="--resume"):
        train(config, tmp_path / "run")
    with pytest.raises(WeightsError, match="method"):
        train(tiny("mean_teacher", **{"train.steps": 2}), tmp_path / "run", resume=True)
    with pytest.raises(WeightsError, match="split"):
        train(tiny("single", **{"train.steps": 2, "data.split_seed": 5}), tmp_path / "run", resume=True)
    with pytest.raises(WeightsError, match="no checkpoint"):
        train(config, tmp_path / "none", resume=True)
    (tmp_path / "run" / "last" / "state.pt").write_bytes(b"no checkpoint at all")
    with pytest.raises(WeightsError, match="can't be read"):
        train(config, tmp_path / "run", resume=True)
