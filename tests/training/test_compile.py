"""`train.compile`: the same figures, faster."""

import shutil
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import torch
from torch import nn
from torch._dynamo.utils import counters
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.training.compiling import compile_networks, uncompiled

torch.manual_seed(0)
config = ModelConfig(backbone="resnet10t", weights="none", head_channels=8)
plain, compiled = PoseNet(config, 3, 1).double(), PoseNet(config, 3, 1).double()
compiled.load_state_dict(plain.state_dict())
compile_networks(nn.ModuleDict({"f": compiled}))
assert compiled.backbone._compiled_call_impl is not None
images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
first, second = plain(images), compiled(images)
torch.testing.assert_close(first, second)
first.square().sum().backward()
second.square().sum().backward()
for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-10, msg=name)
assert list(plain.state_dict()) == list(compiled.state_dict())  # checkpoints and exports know nothing of compiling
graphs = counters["stats"]["unique_graphs"]
plain.eval(), compiled.eval()
for batch in (1, 2, 3):
    other = torch.randn(batch, 3, 32, 32, dtype=torch.float64)
    with uncompiled(), torch.no_grad():
        torch.testing.assert_close(compiled(other), plain(other))
assert counters["stats"]["unique_graphs"] == graphs
compiled.train()(images)
assert counters["stats"]["unique_graphs"] == graphs  # a step after looking is the compiled one
print("same")
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPU")
def test_compiled_networks_compute_the_same():
    """In a process of its own: the run-time type checks of the tests can't be compiled."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_what_looks_outside_of_steps_runs_uncompiled(tiny, tmp_path, monkeypatch):
    """Every pass without gradient of a supervised run: evaluations and the watch."""
    from contextlib import contextmanager

    from semipose.models.pose_net import PoseNet
    from semipose.run import train

    passes: list[tuple[bool, bool]] = []
    uncompiled = []

    @contextmanager
    def spy():
        uncompiled.append(True)
        yield
        uncompiled.pop()

    main, forward = PoseNet.main, PoseNet.forward

    def noted(call):
        def run(self, images):
            passes.append((torch.is_grad_enabled(), bool(uncompiled)))
            return call(self, images)

        return run

    monkeypatch.setattr("semipose.training.engine.uncompiled", spy)
    monkeypatch.setattr(PoseNet, "main", noted(main))
    monkeypatch.setattr(PoseNet, "forward", noted(forward))
    train(tiny("supervised", **{"train.steps": 4, "train.evaluate_every": 1}), tmp_path / "run")
    assert set(passes) == {(True, False), (False, True)}
