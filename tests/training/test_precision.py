"""The arithmetic of a training: measured on a CPU, kept in the run folder, the random state untouched."""

import pytest
import torch
import yaml
from torch import nn

from semipose.models.pose_net import ModelConfig
from semipose.training import precision
from semipose.training.engine import make_engine, start_fabric
from semipose.training.precision import choose_precision

MODEL = ModelConfig(backbone="test_resnet", weights="none", head_channels=8)


@pytest.fixture(autouse=True)
def _own_memory(tmp_path, monkeypatch):
    """What was measured before is not remembered here."""
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))


def test_what_was_measured_once_is_remembered(monkeypatch):
    """The same training is the same arithmetic again, however busy the machine is; another network is measured anew."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no bf16")
    for gain, size, chosen in ((2, 64, "bf16-mixed"), (0.5, 64, "bf16-mixed"), (0.5, 96, "32-true")):
        monkeypatch.setattr(precision, "_seconds", lambda network, images, half, gain=gain: 1 / gain if half else 1.0)
        assert choose_precision(MODEL, 14, torch.device("cpu"), (size, size)) == chosen
    other = MODEL.model_copy(update={"head_channels": 16})
    assert choose_precision(other, 14, torch.device("cpu"), (64, 64)) == "32-true"


@pytest.mark.parametrize(("gain", "chosen"), [(1.5, "bf16-mixed"), (1.05, "32-true"), (0.5, "32-true")])
def test_what_is_faster_is_taken(monkeypatch, gain, chosen):
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no bf16")
    monkeypatch.setattr(precision, "_seconds", lambda network, images, half: 1 / gain if half else 1.0)
    assert choose_precision(MODEL, 14, torch.device("cpu"), (64, 64)) == chosen


def test_measuring_leaves_the_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert choose_precision(MODEL, 14, torch.device("cpu"), (64, 64)) in ("bf16-mixed", "32-true")
    assert torch.equal(before, torch.get_rng_state())


def test_the_choice_is_kept_for_the_resumed_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "MEASURED_FROM", 2)
    monkeypatch.setattr(run, "choose_precision", lambda *_: "bf16-mixed")
    run.train(tiny("supervised", **{"train.steps": 2}), tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["precision"] == "bf16-mixed"
    run.train(tiny("supervised", **{"train.steps": 1}), tmp_path / "short")
    assert yaml.safe_load((tmp_path / "short" / "config.yaml").read_text())["train"]["precision"] == "32-true"


class TrainingImages(nn.Module):
    """A method that notes the type its layer computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def losses(self, values):
        found = self.layer(values)
        self.type = found.dtype
        return found.float().sum()


@pytest.mark.parametrize(("name", "type_"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_losses_are_computed_in_the_precision_of_the_run(name, type_):
    method = TrainingImages()
    engine = make_engine(start_fabric("cpu", name), method, torch.optim.Adam(method.parameters()))
    engine.step(engine.losses(torch.randn(2, 3)), None)
    assert method.type is type_
