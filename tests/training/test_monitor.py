"""Steps that are not finite are left out, a diverged training goes back, and what looks wrong is said in words."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from semipose.errors import RunError
from semipose.methods.base import ConsistencyConfig
from semipose.methods.single import Single
from semipose.trainer import train
from semipose.training import monitor as watching
from semipose.training.checkpoint import TrainingState, read_checkpoint
from semipose.training.monitor import Sample, TrainingMonitor, entropy


def poison(monkeypatch, steps, also_later=False):
    """The loss is not a number at these steps; each step once, unless `also_later`."""
    losses, left = Single.losses, set(steps)

    def poisoned(self, labeled, unlabeled, progress):
        found = losses(self, labeled, unlabeled, progress)
        if progress.step not in left:
            return found
        if not also_later:
            left.discard(progress.step)
        return type(found)(found.total * math.nan, {n: t * math.nan for n, t in found.terms.items()})

    monkeypatch.setattr(Single, "losses", poisoned)


def log_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def finite(folder):
    return all(t.isfinite().all() for t in read_checkpoint(folder / "last" / "state.pt")["method"].values())


OPTIONS = {"train.steps": 12, "train.log_every": 4, "train.checkpoint_every": 4}


def test_averages_are_not_looked_at(tiny, tmp_path):
    """The second network that a look compares with is one that learns, or the mirror image."""
    for name, average in (("plain", 0.0), ("averaged", 0.9)):
        train(tiny("single", **OPTIONS, **{"train.average": average}), tmp_path / name)
    looks = [[x for x in log_of(tmp_path / n) if x["kind"] == "watch"] for n in ("plain", "averaged")]
    assert looks[0] == looks[1] != []


def test_single_steps_are_left_out_and_counted(tiny, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, [5])
    train(tiny("single", **OPTIONS), tmp_path / "run")
    lines = [line for line in log_of(tmp_path / "run") if line["kind"] == "train"]
    assert [line.get("skipped") for line in lines] == [None, 1, None]
    assert all(math.isfinite(line["supervised"]) for line in lines)
    assert finite(tmp_path / "run")
    assert "1 of 4 steps left out" in capsys.readouterr().err
    taken = {
        float(s["step"]) for s in read_checkpoint(tmp_path / "run" / "last" / "state.pt")["optimizer"]["state"].values()
    }
    assert taken == {11.0}


def test_a_diverged_training_goes_back_with_a_lower_rate(tiny, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **OPTIONS), tmp_path / "run")
    told = capsys.readouterr().err
    assert "not finite in 3 of the last 4 steps; back to step 4 with 0.1 times the learning rate" in told
    lines = log_of(tmp_path / "run")
    assert [line["step"] for line in lines if line["kind"] == "train"] == [4, 8, 12]
    assert [line["what"] for line in lines if line["kind"] == "warning"] == ["diverged"]
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    assert rates[1] == pytest.approx(rates[0] / 10)
    assert finite(tmp_path / "run")


def test_the_scale_of_fp16_is_not_what_it_goes_back_to(tiny, tmp_path, monkeypatch, half_precision):
    """Halved by every step that overflowed: with the scale of before they would overflow again."""
    half_precision(4.0)
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **OPTIONS), tmp_path / "run")
    assert [line["what"] for line in log_of(tmp_path / "run") if line["kind"] == "warning"] == ["diverged"]
    assert read_checkpoint(tmp_path / "run" / "last" / "state.pt")["state"]["extra"]["scaler"]["scale"] == 0.5


def test_fp16_that_looks_for_its_scale_has_not_diverged(tiny, tmp_path, monkeypatch, half_precision):
    half_precision(64.0)
    poison(monkeypatch, [5, 6, 7])
    train(tiny("single", **{**OPTIONS, "train.log_every": 1}), tmp_path / "run")
    lines = log_of(tmp_path / "run")
    assert [line["step"] for line in lines if line.get("skipped")] == [6, 7, 8]
    assert not [line for line in lines if line["kind"] == "warning"]


def test_a_training_that_cannot_be_helped_stops_with_its_last_good_state(tiny, tmp_path, monkeypatch):
    poison(monkeypatch, [5, 6, 7], also_later=True)
    with pytest.raises(RunError, match=r"after 2 returns.+state\.pt is the last good one: lower train\.lr"):
        train(tiny("single", **OPTIONS), tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "last" / "state.pt")["state"]["step"] == 4
    assert finite(tmp_path / "run")


def test_every_look_is_in_the_log(tiny, tmp_path):
    train(tiny("trs", **OPTIONS), tmp_path / "run")
    looks = [line for line in log_of(tmp_path / "run") if line["kind"] == "watch"]
    assert len(looks) >= 3
    assert all(0 <= look["entropy_unlabeled"] <= 1 and look["distance"] >= 0 for look in looks)


HEALTHY = Sample(0.6, 0.5, 0.5, 0.6, 3.0, 0.8)


def told(looks, steps=1000, **options):
    """Warnings after each of the looks (changes of a healthy one, validation figure)."""
    engine = SimpleNamespace(method=SimpleNamespace(config=ConsistencyConfig(**options)))
    watch = TrainingMonitor(engine, None, None, None, TrainingState({}))
    return [
        watch._judge(Sample(**{**vars(HEALTHY), **changes}), 100 * n, steps, figure)
        for n, (changes, figure) in enumerate(looks, start=1)
    ]


def judged(looks, steps=1000):
    """Their names alone."""
    return [list(found) for found in told(looks, steps)]


def test_a_validation_figure_that_stays_below_half_its_best_is_told():
    """The figures of a training with pseudo labels of weight 30: its networks agree less than at their best."""
    figures = (0.0, 0.004, 0.002, 0.0, 0.0, 0.0, 0.0)
    found = told([({"distance": 1 + 0.3 * n}, figure) for n, figure in enumerate(figures)], unlabeled_weight=30)
    assert [list(names) for names in found] == [[], [], [], [], [], ["drift"], ["drift"]]
    assert "from 0.4 to 0.0 while unlabeled images teach with weight 30" in found[5]["drift"]


def test_a_blank_network_is_told_what_may_have_made_it_so():
    blank = [({"peak_labeled": 0.03, "peak_unlabeled": 0.03}, 0.0)] * 6
    assert (
        "unlabeled loss of weight 100: lower method.unlabeled_weight" in told(blank, unlabeled_weight=100)[5]["blank"]
    )
    without = told(blank, unlabeled_weight=100, burn_in=0.9)[5]["blank"]
    assert "raise train.lr or train longer" in without
    assert "unlabeled_weight" not in without


def test_what_is_a_collapse_and_what_is_not():
    assert judged([({}, 0.4), ({"peak_unlabeled": 0.3}, 0.4), ({"peak_unlabeled": 0.2}, 0.4)]) == [[], [], ["collapse"]]
    assert judged([({"peak_labeled": 0.01, "peak_unlabeled": 0.01}, 0.0)] * 6)[4:] == [[], ["blank"]]


def test_drift_is_agreement_that_grows_while_validation_falls():
    closer = [({"distance": 3.0 - n}, figure) for n, figure in enumerate([0.5, 0.42, 0.41, 0.4])]
    assert judged(closer) == [[], [], [], ["drift"]]
    apart = [({"distance": 3.0 + n}, figure) for n, figure in enumerate([0.5, 0.42, 0.41, 0.4])]
    assert judged(apart) == [[], [], [], []]
    recovering = [({"distance": 1.0}, figure) for figure in [0.5, 0.42, 0.41, 0.45, 0.42, 0.41]]
    assert not any(judged(recovering))


def test_each_warning_is_said_once(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watching, "SETTLED", 0)
    monkeypatch.setattr(watching, "COLLAPSED", 100.0)
    monkeypatch.setattr(watching, "BLANK", 0.0)
    train(tiny("single", **OPTIONS), tmp_path / "run")
    assert capsys.readouterr().err.count("unlabeled images collapse to background") == 1
    assert [line["what"] for line in log_of(tmp_path / "run") if line["kind"] == "warning"] == ["collapse"]


def test_entropy():
    uniform, spike = torch.ones(2, 3, 8, 6), torch.zeros(2, 3, 8, 6)
    spike[..., 4, 3] = 1
    assert entropy(uniform) == pytest.approx(1)
    assert entropy(spike) == pytest.approx(0, abs=1e-4)
    assert entropy(spike - 0.5 * (spike == 0)) == pytest.approx(0, abs=1e-4)
