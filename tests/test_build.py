"""What a configuration describes: new networks, known joints, a precision and a device that work."""

import pytest
import torch
import yaml

from semipose import build
from semipose.build import build_engine, choose, make_method
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import load_splits
from semipose.errors import ConfigError
from semipose.methods.base import Method
from semipose.structures.skeletons import LSP, UNION
from semipose.trainer import train
from semipose.training.monitor import TrainingMonitor


def test_a_method_has_new_networks_for_the_skeleton(tiny):
    torch.manual_seed(0)
    method = make_method(tiny("dual"), LSP, torch.Generator().manual_seed(1))
    assert isinstance(method, Method)
    first, second = method.eval_networks().values()
    images = torch.zeros(1, 3, 64, 64)
    assert first(images).shape == (1, 1, len(LSP), 16, 16)
    assert not torch.equal(first.heads[0].final.weight, second.heads[0].final.weight)


def test_joints_that_nobody_labels_are_known_to_the_method_and_the_monitor(tiny):
    """The union skeleton has joints that the people do not have: what a network says about them changes no sample."""
    own = load_splits(tiny("akm").data).labeled.skeleton
    config = tiny("akm", **{"data.skeleton": "union", "train.precision": "32-true"})
    splits = load_splits(config.data)
    engine = build_engine(config, splits, torch.device("cpu"), torch.Generator())
    assert splits.labeled.skeleton == UNION
    labeled = engine.method.context.learned_joints
    assert {UNION.keys[k] for k in labeled} == {*own.keys}
    geometry = CropGeometry((64, 64), 1.25)
    crops = LazyCrops(splits.labeled, geometry), LazyCrops(splits.unlabeled, geometry)
    before = TrainingMonitor(engine, config.loss.build(), *crops).sample(crops[1])
    with torch.no_grad():
        engine.method.f.heads[0].final.bias[[k for k in range(len(UNION)) if k not in labeled]] += 5
    assert TrainingMonitor(engine, config.loss.build(), *crops).sample(crops[1]) == before


def test_the_measured_precision_is_kept_for_the_resumed_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "MEASURED_FROM", 2)
    monkeypatch.setattr(build, "cpu_precision", lambda *_: "bf16-mixed")
    for steps, precision in ((2, "bf16-mixed"), (1, "32-true")):
        folder = tmp_path / precision
        train(tiny("supervised", **{"train.steps": steps}), folder)
        assert yaml.safe_load((folder / "config.yaml").read_text())["train"]["precision"] == precision


def test_apple_gpus_are_taken_where_the_method_runs(tiny, monkeypatch, caplog):
    """There is none here, so that every operation fails on it."""
    config = tiny("dual", **{"train.device": "auto"})
    splits = load_splits(config.data)
    monkeypatch.setattr(build, "has_apple_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose(config, splits)[1] == torch.device("cpu")
    assert [r.message.partition(":")[0] for r in caplog.records] == ["`train.device`"]
    assert "cpu, because dual fails on Apple's GPU" in caplog.text
    monkeypatch.setattr(build, "dry_run", lambda *_: None)
    assert choose(config, splits)[1] == torch.device("mps")
    assert choose(tiny("dual"), splits)[1] == torch.device("cpu")


def test_a_teacher_with_other_joints_or_another_loss_is_refused(tiny, tmp_path):
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "teacher")
    options = {"train.steps": 1, "method.teacher": str(tmp_path / "teacher")}
    with pytest.raises(ConfigError, match=r"`loss\.kind`: .* was trained with mse, this training has cross_entropy"):
        train(tiny("pseudopose", **options, **{"loss.kind": "cross_entropy"}), tmp_path / "loss")
    with pytest.raises(ConfigError, match="has other joints than the data"):
        train(tiny("pseudopose", **options, **{"data.skeleton": "union"}), tmp_path / "joints")


def test_frozen_stages_need_weights_but_not_in_a_dry_run(tiny):
    """A dry run has random weights, and freezes as the training does, so that it takes as much memory."""
    config = tiny("supervised", **{"model.frozen_stages": 1})
    splits = load_splits(config.data)
    with pytest.raises(ConfigError, match=r"untrained stages can't be frozen; give `model\.weights`"):
        choose(config, splits)
    build.dry_run(config, splits, torch.device("cpu"))


def test_a_backbone_of_one_size_is_refused_before_anything_is_written(tiny, tmp_path):
    given = {"model.backbone": "beit_base_patch16_224", "input.height": 64, "input.width": 64}
    with pytest.raises(ConfigError, match=r"224×224 only, not of 64×64; set input\.height=224 input\.width=224"):
        train(tiny("supervised", **given), tmp_path / "run")
    assert not [*(tmp_path / "run").rglob("state.pt")]
