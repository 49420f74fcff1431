"""The loop: schedule, burn-in and ramp, what is evaluated and kept when, clipping, the log."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import semipose
from semipose.errors import ConfigError
from semipose.losses import HeatmapMSE
from semipose.trainer import train
from semipose.training.checkpoint import read_checkpoint
from semipose.training.engine import make_engine, start_fabric
from semipose.training.evaluator import Evaluator
from semipose.training.loop import TrainConfig


def test_schedule():
    config = TrainConfig(lr=0.1, drops=(0.7, 0.9), drop_factor=0.1, warm_up=4)
    rates = [config.rate(step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[69] == pytest.approx(0.1)
    assert rates[70] == rates[89] == pytest.approx(0.01)
    assert rates[90] == rates[99] == pytest.approx(0.001)
    assert TrainConfig(epochs=2.5).total_steps(10) == 25
    assert TrainConfig(epochs=2.5, steps=7).total_steps(10) == 7


class Linear(nn.Module):
    """A method of one number, to see what a step does to it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def losses(self, slope: float) -> torch.Tensor:
        return self.weight.sum() * slope


@pytest.mark.parametrize(("clip", "moved"), [(None, -100.0), (1.0, -1.0), (1000.0, -100.0)])
def test_clipping(clip, moved):
    method = Linear()
    engine = make_engine(start_fabric("cpu", "32-true"), method, torch.optim.SGD(method.parameters(), lr=1.0))
    engine.step(engine.losses(100.0), clip)
    assert method.weight.item() == pytest.approx(moved, rel=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_clipping_of_scaled_gradients(half_precision, fused):
    """With fp16's scale they are clipped as what they are without it."""
    half_precision(1024.0)
    method = Linear()
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0, fused=fused)
    engine = make_engine(run.start_fabric("cpu", "16-mixed"), method, optimizer)
    engine.step(engine.losses(100.0), 1.0)
    assert method.weight.item() == pytest.approx(-1.0, rel=1e-4)


def test_best_on_validation_is_kept(tiny, tmp_path, monkeypatch):
    """Validation figures by the hand of the test: the second of four evaluations is the best one."""
    figures = iter([0.1, 0.4, 0.3, 0.2])
    kept = []
    monkeypatch.setattr(Evaluator, "_leading", lambda self, scores: next(figures))
    keep = Evaluator.keep

    def collect_errors(self, current):
        if current:
            kept.append(self.engine.method.state_dict()["f.heads.0.final.weight"].clone())
        keep(self, current)

    monkeypatch.setattr(Evaluator, "keep", collect_errors)
    result = train(tiny("supervised", **{"train.steps": 12, "train.evaluate_every": 0.5}), tmp_path / "run")
    assert len(kept) == 2
    best = load_file(tmp_path / "run" / "best.safetensors")
    assert torch.equal(best["heads.0.final.weight"], kept[1])
    state = read_checkpoint(tmp_path / "run" / "last" / "state.pt")["state"]
    assert (state["best_score"], state["step"]) == (0.4, 12)
    assert state["best_step"] < 12
    assert "best weights on validation (the same persons)" in result.protocol


def test_pck_decides_while_ap_is_nothing(tiny, tmp_path, monkeypatch):
    """With few labels AP is 0 for long: step and network of the best PCK are kept."""
    pcks = iter([(0.05, 0.02), (0.10, 0.12), (0.01, 0.02)])

    def score(self, which, save=False):
        if not save:
            score.latest = next(pcks)
        g, f = ({"AP": 0.0, "PCK@0.2": pck, "PCKh@0.5": None} for pck in score.latest)
        mean = {**g, "PCK@0.2": sum(score.latest) / 2}
        return {"f1": g, "f2": f, "mean": mean, "ensemble": mean}

    monkeypatch.setattr(Evaluator, "_score", score)
    result = train(tiny("dual", **{"train.steps": 3, "train.evaluate_every": 0.1}), tmp_path / "run")
    state = read_checkpoint(tmp_path / "run" / "last" / "state.pt")["state"]
    assert state["best_step"] == 2
    assert result.best == "f2"


def test_last_weights_and_test_split(tiny, tmp_path, small_people):
    from semipose.data.datasets import PEOPLE

    changes = {"train.select": "last", "data.test": str(small_people), "data.test_images": str(PEOPLE / "images")}
    result = train(tiny("dual", **changes), tmp_path / "run")
    assert "last weights" in result.protocol
    assert "60 persons" in result.protocol
    assert set(result.scores) == {"f1", "f2", "mean", "ensemble"}
    for key, value in result.scores["mean"].items():
        pair = [result.scores[n][key] for n in ("f1", "f2")]
        assert value is None if None in pair else value == pytest.approx(sum(pair) / 2)
    state = read_checkpoint(tmp_path / "run" / "last" / "state.pt")["method"]
    best = load_file(tmp_path / "run" / "weights" / "f1.safetensors")
    assert all(torch.equal(best[name], state[f"f1.{name}"]) for name in best)


def test_log_has_every_term(tiny, tmp_path):
    train(tiny("trs", **{"train.steps": 6, "method.burn_in": 0.4}), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in losses] == [2, 4, 6]
    assert "unlabeled_1" not in losses[0]
    assert {"supervised", "unlabeled_1", "unlabeled_2", "lr"} <= set(losses[2])
    assert list((tmp_path / "run" / "events").iterdir())


def test_bf16_trains(tiny, tmp_path):
    result = train(tiny("trs", **{"train.steps": 3, "train.precision": "bf16-mixed"}), tmp_path / "run")
    assert result.scores["mean"]["PCK@0.2"] is not None


def test_heatmap_mse_is_the_default_loss(tiny):
    assert isinstance(tiny("trs").loss.build(), HeatmapMSE)


def test_a_training_starts_from_an_earlier_one(tiny, tmp_path):
    """Every network of its backbone: heads too where the joints are the same."""
    train(tiny("supervised", **{"train.steps": 2}), tmp_path / "before")
    before = semipose.load(tmp_path / "before").network.state_dict()
    config = tiny("dual", **{"train.steps": 1, "train.lr": 1e-12, "train.start": str(tmp_path / "before")})
    train(config, tmp_path / "after")
    for name in ("f1", "f2"):
        after = semipose.load(tmp_path / "after" / "weights" / f"{name}.safetensors").network.state_dict()
        learned = [n for n in before if "running" not in n and "batches" not in n]
        assert all(torch.allclose(before[n], after[n], atol=1e-6) for n in learned)
    other = tiny("supervised", **{"model.backbone": "test_efficientnet", "train.start": str(tmp_path / "before")})
    with pytest.raises(ConfigError, match=r"train\.start: .*holds a test_resnet"):
        train(other, tmp_path / "other")
