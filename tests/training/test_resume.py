"""A run that is stopped anywhere and resumed ends with the same weights and the same log, bit for bit."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from semipose.config import load_config
from semipose.data.datasets import PEOPLE
from semipose.errors import ConfigError, WeightsError
from semipose.methods import METHODS
from semipose.trainer import train
from semipose.training.checkpoint import TrainingState, load_checkpoint, previous, read_checkpoint, save_checkpoint
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
    states = [read_checkpoint(p / "last" / "state.pt") for p in (a, b)]
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

    def interrupting(self, terms, taken):
        if self.state.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        record(self, terms, taken)

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


def test_averages_are_judged_written_and_resumed(tiny, tmp_path, monkeypatch):
    config = tiny("supervised", **{"train.average": 0.9, "train.select": "last"})
    result = train(config, tmp_path / "whole")
    assert (set(result.scores), result.headline_networks) == ({"f", "f_average"}, ("f",))
    found = weights(tmp_path / "whole")
    assert any(not torch.equal(t, found[f"f_average{n[1:]}"]) for n, t in found.items() if n.startswith("f."))
    stop_at(monkeypatch, 6)
    with pytest.raises(InterruptedTrainingError):
        train(config, tmp_path / "stopped")
    monkeypatch.undo()
    with pytest.raises(WeightsError, match=r"averages 'train.average', this run has 'none'"):
        train(tiny("supervised", **{"train.select": "last"}), tmp_path / "stopped", resume=True)
    train(config, tmp_path / "stopped", resume=True)
    same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_weights_that_lie_otherwise_than_before_go_on_alike(tmp_path):
    """`train.channels_last` may change: a fused optimizer goes through weights and averages as they lie in memory."""
    generator, path = torch.Generator(), tmp_path / "state.pt"

    def make(layout):
        torch.manual_seed(0)
        network = torch.nn.Conv2d(3, 4, 3).to(memory_format=layout)
        return network, torch.optim.Adam(network.parameters(), lr=0.1, fused=True)

    def step(network, optimizer, seed):
        for p in network.parameters():
            values = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
            p.grad = torch.empty_like(p).copy_(values)
        optimizer.step()

    network, optimizer = make(torch.contiguous_format)
    step(network, optimizer, 1)
    save_checkpoint(path, TrainingState({}), network, optimizer, generator)
    other, its_optimizer = make(torch.channels_last)
    load_checkpoint(path, {}, other, its_optimizer, generator)
    assert other.weight.is_contiguous(memory_format=torch.channels_last)
    step(network, optimizer, 2)
    step(other, its_optimizer, 2)
    assert torch.equal(network.weight, other.weight)


def test_the_scale_of_fp16_goes_on(tiny, tmp_path, monkeypatch, half_precision):
    """16-mixed scales its losses by a factor that it finds on the way: doubled here after every two steps."""
    config = tiny("single", **{"train.steps": 7})
    half_precision(4.0, growth_interval=2)
    train(config, tmp_path / "whole")
    stop_at(monkeypatch, 5)
    with pytest.raises(InterruptedTrainingError):
        train(config, tmp_path / "stopped")
    monkeypatch.undo()
    half_precision(4.0, growth_interval=2)
    train(config, tmp_path / "stopped", resume=True)
    same_runs(tmp_path / "whole", tmp_path / "stopped")
    states = [read_checkpoint(tmp_path / p / "last" / "state.pt")["state"] for p in ("whole", "stopped")]
    first, second = (state["extra"]["scaler"] for state in states)
    assert first == second
    assert (first["scale"], first["_growth_tracker"]) == (4.0 * 2**3, 1)


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


def test_a_resumed_run_says_which_photographs_changed(tiny, small_people, tmp_path, capsys):
    """And still knows the ones it learned from before."""
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
    assert "changed since the run began" not in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "images.json").read_text()) == before

    split = json.loads((tmp_path / "run" / "split.json").read_text())
    persons = {a["id"]: a["image_id"] for a in json.loads(small_people.read_text())["annotations"]}
    names = {i["id"]: i["file_name"] for i in json.loads(small_people.read_text())["images"]}
    changed = images / names[persons[split["labeled_ids"][0]]]
    with Image.open(changed) as image:
        image.rotate(180).save(changed)
    train(tiny("single", **config | {"train.steps": 3}), tmp_path / "run", resume=True)
    told = capsys.readouterr().err
    assert "of the labeled set changed since the run began" in told
    assert f"(1 new one, the first: {changed})" in told
    after = json.loads((tmp_path / "run" / "images.json").read_text())
    assert set(before["labeled"]) < set(after["labeled"])
    assert len(after["labeled"]) == len(before["labeled"]) + 1

    train(tiny("single", **config | {"train.steps": 4}), tmp_path / "run", resume=True)
    assert "of the labeled set changed since the run began: it goes on" in capsys.readouterr().err


def test_a_resumed_run_notices_photographs_that_changed_places(tiny, small_people, tmp_path, capsys):
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
    assert "photographs of the labeled and validation set changed" in capsys.readouterr().err


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


def broken(path, how):
    """Damages a checkpoint file the way disks and people do."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "hostile": b"SEMIPOSE" + hashlib.sha256(HOSTILE).digest() + HOSTILE,
        }[how]
    )


class Pickled:
    """Would leave a file behind if anything executed it."""

    def __reduce__(self):
        return os.system, ("touch executed",)


HOSTILE = pickle.dumps(Pickled())


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "hostile"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_taken(tiny, tmp_path, monkeypatch, caplog, how):
    monkeypatch.chdir(tmp_path)
    config = tiny("single", **{"train.steps": 8, "train.checkpoint_every": 3})
    train(config, tmp_path / "whole")
    stop_at(monkeypatch, 7)
    with pytest.raises(InterruptedTrainingError):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    path = tmp_path / "run" / "last" / "state.pt"
    assert [read_checkpoint(p)["state"]["step"] for p in (path, previous(path))] == [7, 6]
    broken(path, how)
    train(config, tmp_path / "run", resume=True)
    assert "going on from the one before" in caplog.text
    assert not (tmp_path / "executed").exists()
    same_runs(tmp_path / "whole", tmp_path / "run")


def test_both_checkpoints_damaged_is_one_line(tiny, tmp_path):
    config = tiny("single", **{"train.steps": 2, "train.checkpoint_every": 1})
    train(config, tmp_path / "run")
    path = tmp_path / "run" / "last" / "state.pt"
    broken(path, "flipped")
    broken(previous(path), "cut")
    with pytest.raises(WeightsError, match=r"state\.previous\.pt is damaged"):
        train(config, tmp_path / "run", resume=True)


def test_a_full_disk_leaves_the_run_going(tiny, tmp_path, monkeypatch, capsys):
    """No checkpoint, weights or log line can be written for a while; the run goes on and in the end nothing is lost."""
    config = tiny("single", **{"train.steps": 12, "train.checkpoint_every": 2, "train.log_every": 1})
    train(config, tmp_path / "whole")
    full = {"now": False}
    record, replace = Training._record, Path.replace

    def filling(self, terms, taken):
        full["now"] = 4 <= self.state.step < 9
        record(self, terms, taken)

    def refuse(self, target):
        if full["now"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Training, "_record", filling)
    monkeypatch.setattr(Path, "replace", refuse)
    train(config, tmp_path / "full")
    told = capsys.readouterr().err
    assert "No space left on device" in told
    assert "the run goes on" in told
    same_runs(tmp_path / "whole", tmp_path / "full")


def test_a_run_from_a_data_file_resumes_from_anywhere_on_the_same_data(tiny, small_people, tmp_path, monkeypatch):
    """config.yaml says where everything lies; the data file need not be there, nor the folder it was started in."""
    images = tmp_path / "data" / "more"
    images.mkdir(parents=True)
    for photograph in sorted((PEOPLE / "images").iterdir())[:6]:
        shutil.copy(photograph, images)
    content = {"train": str(small_people), "images": str(PEOPLE / "images"), "unlabeled": "more", "labels": 24}
    (tmp_path / "data" / "mine.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path / "data")
    from tests.conftest import TINY

    config = load_config(None, {**TINY, "method": "single", "data.train": "mine.yaml", "train.steps": 6})
    stop_at(monkeypatch, 3)
    with pytest.raises(InterruptedTrainingError):
        train(config, tmp_path / "run")
    monkeypatch.undo()
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
