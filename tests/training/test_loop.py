"""The loop: what is logged, evaluated and kept when; divergence; the scale of fp16."""

import itertools
import json
import logging
import math

import pytest
import torch
from safetensors.torch import load_file

from semipose.config import load_config
from semipose.errors import RunError
from semipose.methods.single import Single
from semipose.trainer import train
from semipose.training.checkpoint import read_checkpoint
from semipose.training.evaluator import Evaluator, Validation
from tests.integration.runs import saved_state

OPTIONS = {"train.steps": 12, "train.log_every": 4, "train.checkpoint_every": 4}
FP16 = {
    **OPTIONS, "train.precision": "16-mixed", "input.height": 32, "input.width": 32, "train.batch": 2,
    "train.unlabeled_batch": 2, "train.steps": 8, "train.evaluate_every": 100, "data.validation": 0,
}  # fmt: skip
"""fp16 is slow on CPUs."""


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO)


def poison(monkeypatch, steps, always=False):
    """The loss is not a number at these steps, the first time they are taken or `always`."""
    losses, left = Single.losses, set(steps)

    def poisoned(self, labeled, unlabeled, info):
        found = losses(self, labeled, unlabeled, info)
        if info.step not in left:
            return found
        if not always:
            left.discard(info.step)
        return type(found)(found.total * math.nan, {n: t * math.nan for n, t in found.terms.items()})

    monkeypatch.setattr(Single, "losses", poisoned)


def log_of(folder, kind):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def is_finite(folder):
    return all(t.isfinite().all() for t in read_checkpoint(folder / "last" / "state.pt")["method"].values())


def test_a_line_of_the_log_has_every_term(tiny, tmp_path):
    train(tiny("trs", **{"train.steps": 6, "method.burn_in": 0.4}), tmp_path / "run")
    lines = log_of(tmp_path / "run", "train")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert "unlabeled_1" not in lines[0]
    assert {"supervised", "unlabeled_1", "unlabeled_2", "lr"} <= set(lines[2])


def test_the_best_weights_on_validation_are_kept(tiny, tmp_path, monkeypatch):
    """The second of four evaluations has the highest score."""
    scores, kept, keep = iter([0.1, 0.4, 0.3, 0.2]), [], Evaluator.keep_weights
    monkeypatch.setattr(Evaluator, "validate", lambda *_: Validation(next(scores), "f"))

    def keep_weights(self, best_network):
        kept.append(self.engine.method.state_dict()["f.heads.0.final.weight"].clone())
        keep(self, best_network)

    monkeypatch.setattr(Evaluator, "keep_weights", keep_weights)
    result = train(tiny("supervised", **{"train.steps": 12, "train.evaluate_every": 0.5}), tmp_path / "run")
    assert len(kept) == 2
    best = load_file(tmp_path / "run" / "best.safetensors")
    assert torch.equal(best["heads.0.final.weight"], kept[1])
    state = saved_state(tmp_path / "run")
    assert (state.best_score, state.best_network, state.step) == (0.4, "f", 12)
    assert state.best_step < 12
    assert "best weights on validation (the same persons)" in result.protocol


def test_the_last_weights_are_kept_if_asked_for(tiny, tmp_path):
    result = train(tiny("dual", **{"train.select": "last"}), tmp_path / "run")
    assert "last weights" in result.protocol
    state = read_checkpoint(tmp_path / "run" / "last" / "state.pt")["method"]
    kept = load_file(tmp_path / "run" / "weights" / "f1.safetensors")
    assert all(torch.equal(kept[name], state[f"f1.{name}"]) for name in kept)


def test_a_step_that_does_not_fit_the_memory_says_what_to_lower(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(Single, "losses", full)
    with pytest.raises(RunError, match=r"step 0: 4 \+ 4 persons do not fit the memory of cpu; lower `train\.batch`"):
        train(tiny("single", **OPTIONS), tmp_path / "run")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_with_little_memory_the_batch_is_chosen_or_the_error_says_what_to_lower(tiny, tmp_path, gpu_memory):
    """16 persons at 256×192 need about 1.4 GiB with ResNet-50."""
    large = {"model.backbone": "resnet50", "input.height": 256, "input.width": 192, "train.device": "cuda"}
    with gpu_memory(1000):
        train(tiny("supervised", **large, **{"train.steps": 2, "train.batch": "auto"}), tmp_path / "chosen")
        assert 1 <= load_config(tmp_path / "chosen" / "config.yaml").train.batch < 16
        with pytest.raises(RunError, match=r"16 \+ 0 persons do not fit the memory of cuda:0; lower `train\.batch`"):
            train(tiny("supervised", **large, **{"train.steps": 2, "train.batch": 16}), tmp_path / "given")


def test_steps_that_are_not_finite_are_left_out_and_counted(tiny, tmp_path, monkeypatch, caplog):
    poison(monkeypatch, [5])
    train(tiny("single", **OPTIONS), tmp_path / "run")
    lines = log_of(tmp_path / "run", "train")
    assert [line.get("skipped") for line in lines] == [None, 1, None]
    assert all(math.isfinite(line["supervised"]) for line in lines)
    assert is_finite(tmp_path / "run")
    assert "1 of 4 steps skipped" in caplog.text
    optimizer = read_checkpoint(tmp_path / "run" / "last" / "state.pt")["optimizer"]
    assert {float(values["step"]) for values in optimizer["state"].values()} == {11.0}


def test_a_diverged_training_goes_back_with_a_lower_rate(tiny, tmp_path, monkeypatch, caplog):
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **OPTIONS), tmp_path / "run")
    assert "not finite in 3 of the last 4 steps; back to step 4 with 0.1 times the learning rate" in caplog.text
    lines = log_of(tmp_path / "run", "train")
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert [line["what"] for line in log_of(tmp_path / "run", "warning")] == ["diverged"]
    assert lines[1]["lr"] == pytest.approx(lines[0]["lr"] / 10)
    assert is_finite(tmp_path / "run")
    assert (saved_state(tmp_path / "run").rollbacks, saved_state(tmp_path / "run").rate_factor) == (1, 0.1)


def test_going_back_keeps_the_best_weights(tiny, tmp_path, monkeypatch):
    """They are of step 5, between the checkpoint of step 4 and the divergence; later evaluations are worse."""
    scores = itertools.chain([0.1] * 4, [0.9], itertools.repeat(0.1))
    monkeypatch.setattr(Evaluator, "validate", lambda *_: Validation(next(scores), "f"))
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **OPTIONS, **{"train.evaluate_every": None}), tmp_path / "run")
    state = saved_state(tmp_path / "run")
    assert (state.rollbacks, state.best_score, state.best_step) == (1, 0.9, 5)


@pytest.mark.parametrize(
    ("method", "burn_in", "passes"),
    [
        ("supervised", None, 400 * 12 + 10 * 8),
        ("single", None, 400 * 44 + 10 * 8),
        ("late_teacher", 0.5, 200 * 12 + 200 * 44 + 10 * 2 * 8),
    ],
)
def test_the_expected_duration_counts_batches_and_evaluations(
    tiny, tmp_path, caplog, monkeypatch, method, burn_in, passes
):
    """A trained pass counts as three: 4 labeled images are 12, and with 8 unlabeled ones, seen by a teacher too, 44."""
    clock = itertools.count()
    monkeypatch.setattr("semipose.training.loop.time.perf_counter", lambda: 3.0 * next(clock))
    monkeypatch.setattr(Evaluator, "validate", lambda *_: 1 / 0)
    sizes = {"train.unlabeled_batch": 8, "train.steps": 400, "train.evaluate_every": None}
    options = {} if burn_in is None else {"method.burn_in": burn_in}
    with pytest.raises(ZeroDivisionError):  # at the first evaluation
        train(tiny(method, **sizes, **options), tmp_path / "run")
    minutes = 3 / (44 if method == "single" else 12) * passes / 60
    assert f"expected duration: {minutes:.0f} minutes for 400 steps" in caplog.text


def test_a_training_that_diverges_again_and_again_ends_with_its_last_good_state(tiny, tmp_path, monkeypatch):
    poison(monkeypatch, [5, 6, 7], always=True)
    with pytest.raises(RunError, match=r"after 2 returns.+state\.pt is the last good checkpoint: lower `train\.lr`"):
        train(tiny("single", **OPTIONS), tmp_path / "run")
    assert saved_state(tmp_path / "run").step == 4
    assert is_finite(tmp_path / "run")


def test_going_back_keeps_the_present_scale_of_fp16(tiny, tmp_path, monkeypatch, fp16_scale):
    """Each step that overflowed has halved it; with the earlier scale they would overflow again."""
    fp16_scale(4.0)
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **FP16), tmp_path / "run")
    assert [line["what"] for line in log_of(tmp_path / "run", "warning")] == ["diverged"]
    assert saved_state(tmp_path / "run").scaler["scale"] == 0.5


def test_fp16_that_still_searches_its_scale_has_not_diverged(tiny, tmp_path, monkeypatch, fp16_scale):
    fp16_scale(64.0)
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **{**FP16, "train.log_every": 1}), tmp_path / "run")
    assert [line["step"] for line in log_of(tmp_path / "run", "train") if line.get("skipped")] == [6, 7, 8]
    assert log_of(tmp_path / "run", "warning") == []
