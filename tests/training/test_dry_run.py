"""Dry runs before a training: the kinds of steps, and blank batches of its sizes."""

import pytest
import torch

from semipose.build import build_engine, dry_run
from semipose.data.crops import CropGeometry
from semipose.data.datasets import load_splits
from semipose.methods.base import Losses, StepInfo
from semipose.training.dry_run import dry_run_training, kinds_of_steps


def test_the_kinds_of_steps_of_a_training(tiny):
    config = tiny("dual", **{"method.burn_in": 0.5, "train.precision": "32-true"})
    method = build_engine(config, load_splits(config.data), torch.device("cpu"), torch.Generator()).method

    def kinds(start, steps):
        return [info.step for info in kinds_of_steps(method, lambda step: StepInfo(step, steps), start, steps)]

    assert kinds(0, 10) == [0, 5, 9]
    assert kinds(7, 10) == [7, 7, 9]
    assert kinds(0, 5000) == [0, 2500, 4999]
    assert kinds(0, 1) == [0, 0, 0]


@pytest.mark.parametrize("method", ["supervised", "trs"])
def test_a_dry_run_computes_the_batches_of_the_training(tiny, method, monkeypatch):
    config = tiny(
        method, **{"train.batch": 6, "train.unlabeled_batch": 4, "train.accumulate": 2, "train.precision": "32-true"}
    )
    splits = load_splits(config.data)
    engine = build_engine(config, splits, torch.device("cpu"), torch.Generator())
    seen = []
    losses = type(engine.method).losses

    def noted(self, labeled, unlabeled, info):
        seen.append((tuple(labeled.crops.shape), len(unlabeled or ()), tuple(labeled.joints.shape)))
        return losses(self, labeled, unlabeled, info)

    monkeypatch.setattr(type(engine.method), "losses", noted)
    geometry = CropGeometry((64, 64))
    dry_run_training(engine, geometry, config.train, 17, len(splits.labeled))
    assert seen == [((3, 3, *geometry.crop_size), 0 if method == "supervised" else 2, (3, 17, 2))] * 3
    seen.clear()
    before = torch.get_rng_state()
    dry_run(config, splits, torch.device("cpu"))
    assert len(seen) == 3
    assert not torch.equal(before, torch.get_rng_state())  # weights are drawn; the training seeds afterwards


def test_an_adaptation_without_labels_has_empty_labeled_batches(tiny, monkeypatch):
    config = tiny("late_teacher", **{"train.precision": "32-true", "method.burn_in": 0.0})
    engine = build_engine(config, load_splits(config.data), torch.device("cpu"), torch.Generator())
    seen = []

    def losses(engine, labeled, unlabeled, info):
        seen.append((len(labeled), len(unlabeled)))
        return Losses.from_terms(line=sum(p.sum() for p in engine.method.parameters() if p.requires_grad))

    monkeypatch.setattr(type(engine), "losses", losses)
    dry_run_training(engine, CropGeometry((64, 64)), config.train, 17, labeled=0)
    assert seen == [(0, 4)] * 3
