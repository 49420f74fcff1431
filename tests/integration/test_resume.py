"""A run that is interrupted anywhere and resumed ends with the same weights and the same log, bit for bit."""

import json
import logging
import os
import shutil
import signal

import pytest
import torch
import yaml
from PIL import Image

from semipose.config import load_config
from semipose.data.datasets import PEOPLE
from semipose.errors import ConfigError, WeightsError
from semipose.methods import METHODS
from semipose.trainer import train
from semipose.training.signals import InterruptedTrainingError
from tests.conftest import TINY, slow_but
from tests.integration.runs import assert_same_runs, interrupt_at, saved_state, weights


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO)


def interrupted(config, folder, monkeypatch, step, *, resume=False):
    """Trains until a signal arrives in a step."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(InterruptedTrainingError) as error:
            train(config, folder, resume=resume)
    assert error.value.signal == signal.SIGINT
    assert saved_state(folder).step == step


@pytest.mark.parametrize("method", slow_but(METHODS, "late_teacher", "trs"))
def test_an_interrupted_run_resumes_exactly(method, tiny, tmp_path, monkeypatch):
    """Three times: in the first step, within a line of the log, and in the last step but one."""
    small = {"input.height": 32, "input.width": 32}
    options = {"train.steps": 6, "train.log_every": 4, "train.checkpoint_every": 4, "train.evaluate_every": 0.3}
    config = tiny(method, **small, **options)
    train(config, tmp_path / "whole")
    for step in (1, 3, 5):
        interrupted(config, tmp_path / "stopped", monkeypatch, step, resume=step > 1)
    train(config, tmp_path / "stopped", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_groups_of_parameters_and_parts_of_batches_resume_exactly(tiny, tmp_path, monkeypatch):
    """Factors of the rate by layer, by network and by method, and the rate itself in the log."""
    options = {
        "train.optimizer": "adamw", "train.weight_decay": 0.05, "train.backbone_rate": 0.5, "train.layer_decay": 0.75,
        "train.schedule": "cosine", "train.warm_up": 2, "train.accumulate": 2, "train.batch": 4,
        "train.unlabeled_batch": 4, "train.lr": 0.01, "train.steps": 6, "train.log_every": 1, "method.burn_in": 0.3,
    }  # fmt: skip
    config = tiny("late_teacher", **options)
    train(config, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[:2] == pytest.approx([0.005, 0.01 * 0.9330127])
    interrupted(config, tmp_path / "stopped", monkeypatch, 3)
    train(config, tmp_path / "stopped", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_averages_of_weights_resume_exactly(tiny, tmp_path, monkeypatch):
    config = tiny("supervised", **{"train.average": 0.9, "train.select": "last", "train.steps": 6})
    result = train(config, tmp_path / "whole")
    assert (set(result.scores), result.headline_networks) == ({"f", "f_average"}, ("f",))
    found = weights(tmp_path / "whole")
    assert any(not torch.equal(t, found[f"f_average{n[1:]}"]) for n, t in found.items() if n.startswith("f."))
    interrupted(config, tmp_path / "stopped", monkeypatch, 3)
    with pytest.raises(WeightsError, match=r"averages 'train.average', but this run has 'none'"):
        train(tiny("supervised", **{"train.select": "last", "train.steps": 6}), tmp_path / "stopped", resume=True)
    train(config, tmp_path / "stopped", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_the_scale_of_fp16_resumes_exactly(tiny, tmp_path, monkeypatch, fp16_scale):
    """The scale doubles after every two steps here."""
    small = {"input.height": 32, "input.width": 32, "train.batch": 2, "train.unlabeled_batch": 2}
    config = tiny(
        "supervised", **small, **{"train.steps": 7, "train.precision": "16-mixed", "train.evaluate_every": 99}
    )
    fp16_scale(4.0, growth_interval=2)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "stopped", monkeypatch, 5)
    train(config, tmp_path / "stopped", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")
    first, second = (saved_state(tmp_path / name).scaler for name in ("whole", "stopped"))
    assert first == second
    assert (first["scale"], first["_growth_tracker"]) == (4.0 * 2**3, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_stochastic_depth_on_a_gpu_draws_as_without_an_interruption(tiny, tmp_path, monkeypatch):
    swin = {"model.backbone": "swin_tiny_patch4_window7_224", "input.height": 224, "input.width": 224}
    swin |= {"train.steps": 3, "train.device": "cuda"}
    config = tiny("supervised", **swin, **{"train.compile": False})
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "stopped", monkeypatch, 2)
    train(config, tmp_path / "stopped", resume=True)
    first, second = (saved_state(tmp_path / name).processes[0].cuda_rng for name in ("whole", "stopped"))
    assert first is not None and torch.equal(first, second)


def test_a_run_that_has_ended_stays_as_it_is(tiny, tmp_path):
    config = tiny("dual", **{"train.steps": 2})
    result = train(config, tmp_path / "run")
    before = weights(tmp_path / "run")
    again = train(config, tmp_path / "run", resume=True)
    assert (again.scores, again.best, again.intervals) == (result.scores, result.best, result.intervals)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "run").items())


def test_another_joint_batch_warns(tiny, tmp_path, caplog):
    train(tiny("single", **{"train.steps": 2}), tmp_path / "run")
    train(tiny("single", **{"train.steps": 4, "train.batch": 2}), tmp_path / "run", resume=True)
    assert "the global batch was 4 + 4 and is now 2 + 4" in caplog.text


def test_a_burn_in_that_is_a_fraction_of_the_steps_keeps_their_number(tiny, tmp_path):
    options = {"method.burn_in": 0.5}
    train(tiny("late_teacher", **options, **{"train.steps": 2}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"`train\.steps`: this run has 2 steps, of which `method\.burn_in` is a f"):
        train(tiny("late_teacher", **options, **{"train.steps": 4}), tmp_path / "run", resume=True)
    assert load_config(tmp_path / "run" / "config.yaml").train.steps == 2
    train(tiny("late_teacher", **{"train.steps": 2}), tmp_path / "auto")
    train(tiny("late_teacher", **{"train.steps": 3}), tmp_path / "auto", resume=True)
    assert saved_state(tmp_path / "auto").step == saved_state(tmp_path / "auto").steps == 3


def test_a_run_is_not_resumed_with_another_configuration(tiny, tmp_path):
    config = tiny("single", **{"train.steps": 2})
    train(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="already contains a run; set `resume`"):
        train(config, tmp_path / "run")
    with pytest.raises(WeightsError, match="method"):
        train(tiny("mean_teacher", **{"train.steps": 2}), tmp_path / "run", resume=True)
    with pytest.raises(WeightsError, match="split"):
        train(tiny("single", **{"train.steps": 2, "data.split_seed": 5}), tmp_path / "run", resume=True)
    with pytest.raises(WeightsError, match="does not exist"):
        train(config, tmp_path / "none", resume=True)


def test_a_resumed_run_warns_of_images_that_changed(tiny, small_people, tmp_path, caplog):
    """Its images include those of before."""
    images = tmp_path / "images"
    images.mkdir()
    for record in json.loads(small_people.read_text())["images"]:
        shutil.copy(PEOPLE / "images" / record["file_name"], images)
    config = {"data.images": str(images), "train.steps": 1}
    train(tiny("single", **config), tmp_path / "run")
    before = json.loads((tmp_path / "run" / "images.json").read_text())
    for image in images.iterdir():
        os.utime(image, ns=(0, 0))  # cut anew, but the same
    train(tiny("single", **config | {"train.steps": 2}), tmp_path / "run", resume=True)
    assert "changed since the run started" not in caplog.text
    assert json.loads((tmp_path / "run" / "images.json").read_text()) == before

    split = json.loads((tmp_path / "run" / "split.json").read_text())
    persons = {a["id"]: a["image_id"] for a in json.loads(small_people.read_text())["annotations"]}
    names = {i["id"]: i["file_name"] for i in json.loads(small_people.read_text())["images"]}
    changed = images / names[persons[split["labeled_ids"][0]]]
    with Image.open(changed) as image:
        image.rotate(180).save(changed)
    train(tiny("single", **config | {"train.steps": 3}), tmp_path / "run", resume=True)
    text = caplog.text
    assert "of the labeled set changed since the run started" in text
    assert f"(1 new image, the first: {changed})" in text
    after = json.loads((tmp_path / "run" / "images.json").read_text())
    assert set(before["labeled"]) < set(after["labeled"])
    assert len(after["labeled"]) == len(before["labeled"]) + 1

    train(tiny("single", **config | {"train.steps": 4}), tmp_path / "run", resume=True)
    assert "of the labeled set changed since the run started: the run continues" in caplog.text


def test_a_resumed_run_warns_of_images_that_changed_places(tiny, small_people, tmp_path, caplog):
    images = tmp_path / "images"
    images.mkdir()
    names = [record["file_name"] for record in json.loads(small_people.read_text())["images"]]
    for name in names:
        shutil.copy(PEOPLE / "images" / name, images)
    config = {"data.images": str(images), "train.steps": 1, "train.select": "last"}
    train(tiny("supervised", **config), tmp_path / "run")
    for one, other in zip(names[::2], names[1::2], strict=True):
        (images / one).rename(images / "aside")
        (images / other).rename(images / one)
        (images / "aside").rename(images / other)
    train(tiny("supervised", **config | {"train.steps": 2}), tmp_path / "run", resume=True)
    assert "images of the labeled and validation set changed" in caplog.text


def test_a_run_from_a_data_file_resumes_from_anywhere_on_the_same_data(tiny, small_people, tmp_path, monkeypatch):
    """config.yaml holds absolute paths; neither the data file nor the working folder is needed."""
    images = tmp_path / "data" / "more"
    images.mkdir(parents=True)
    for image in sorted((PEOPLE / "images").iterdir())[:6]:
        shutil.copy(image, images)
    content = {"train": str(small_people), "images": str(PEOPLE / "images"), "unlabeled": "more", "labels": 24}
    (tmp_path / "data" / "mine.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path / "data")
    config = load_config(None, {**TINY, "method": "single", "data.train": "mine.yaml", "train.steps": 6})
    interrupted(config, tmp_path / "run", monkeypatch, 3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mine.yaml").unlink()
    saved = load_config(tmp_path / "run" / "config.yaml")
    assert saved.data.unlabeled == str(images)
    train(saved, tmp_path / "run", resume=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("unlabeled" in line for line in lines if line["kind"] == "train" and line["step"] > 3)
    shutil.copy(next((PEOPLE / "images").iterdir()), images / "one_more.jpg")
    with pytest.raises(WeightsError, match="made with data"):
        train(saved, tmp_path / "run", resume=True)
