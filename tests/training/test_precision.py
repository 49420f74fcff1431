"""The arithmetic of a training on a CPU: measured once, then remembered."""

import pytest
import torch

from semipose.models.pose_net import ModelConfig
from semipose.training import precision
from semipose.training.precision import bf16_speedup, cpu_precision

MODEL = ModelConfig(backbone="test_resnet", weights="none", head_channels=8)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))


def measure(monkeypatch, speedup, supported=True):
    monkeypatch.setattr(precision, "cpu_supports_bf16", lambda: supported)
    monkeypatch.setattr(precision, "bf16_speedup", lambda *_: speedup)


@pytest.mark.parametrize(("speedup", "chosen"), [(1.5, "bf16-mixed"), (1.05, "32-true"), (0.5, "32-true")])
def test_the_faster_one_is_taken(monkeypatch, speedup, chosen):
    measure(monkeypatch, speedup)
    assert cpu_precision(MODEL, 14, (64, 64)) == chosen


def test_a_cpu_without_bf16_computes_in_fp32(monkeypatch):
    measure(monkeypatch, 2.0, supported=False)
    assert cpu_precision(MODEL, 14, (64, 64)) == "32-true"


def test_a_measurement_is_remembered_for_the_same_network_and_input(monkeypatch):
    for speedup, size, chosen in ((2.0, 64, "bf16-mixed"), (0.5, 64, "bf16-mixed"), (0.5, 96, "32-true")):
        measure(monkeypatch, speedup)
        assert cpu_precision(MODEL, 14, (size, size)) == chosen
    other = MODEL.model_copy(update={"head_channels": 16})
    assert cpu_precision(other, 14, (64, 64)) == "32-true"


def test_measuring_keeps_the_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert bf16_speedup(MODEL, 14, (64, 64)) > 0
    assert torch.equal(before, torch.get_rng_state())
