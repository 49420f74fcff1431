"""Comparison of run folders."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from semipose.training.checkpoint import TrainingState, read_checkpoint
from semipose.training.loop import Training


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a finished run, by network and name."""
    paths = sorted((folder / "weights").glob("*.safetensors"))
    return {f"{path.stem}.{name}": t for path in paths for name, t in load_file(path).items()}


def saved_state(folder: Path) -> TrainingState:
    """The state in the last checkpoint of a run."""
    return TrainingState.from_dict(read_checkpoint(folder / "last" / "state.pt")["state"])


def assert_same_runs(a: Path, b: Path) -> None:
    """Asserts equal weights, random states of every process, log and scores."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert first
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    methods = [read_checkpoint(folder / "last" / "state.pt")["method"] for folder in (a, b)]
    assert all(torch.equal(tensor, methods[1][name]) for name, tensor in methods[0].items())
    states = [saved_state(folder).processes for folder in (a, b)]
    for one, other in zip(*states, strict=True):
        assert torch.equal(one.generator, other.generator)
        assert torch.equal(one.torch_rng, other.torch_rng)
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    scores = [json.loads((folder / "scores.json").read_text())["scores"] for folder in (a, b)]
    assert scores[0] == scores[1]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGINT arrives during the step after which `step` steps are finished."""
    take = Training.step

    def interrupted(self: Training, *batches: Any) -> None:
        if self.state.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        take(self, *batches)

    monkeypatch.setattr(Training, "step", interrupted)
