"""Compiled networks compute the same, and only steps are compiled."""

import shutil
import subprocess
import sys

import pytest
import torch

from semipose import trainer
from semipose.models.pose_net import PoseNet
from semipose.trainer import train
from semipose.training.engine import Engine

SCRIPT = """
import torch
from torch import nn
from torch._dynamo.utils import counters
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.training.compile import compile_networks, uncompiled

torch.manual_seed(0)
config = ModelConfig(backbone="test_resnet", weights="none", head_channels=8)
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
assert list(plain.state_dict()) == list(compiled.state_dict())  # compiling does not change names of weights
graphs = counters["stats"]["unique_graphs"]
plain.eval(), compiled.eval()
for batch in (1, 2, 3):
    other = torch.randn(batch, 3, 32, 32, dtype=torch.float64)
    with uncompiled(), torch.no_grad():
        torch.testing.assert_close(compiled(other), plain(other))
assert counters["stats"]["unique_graphs"] == graphs
compiled.train()(images)
assert counters["stats"]["unique_graphs"] == graphs  # a step after other passes is the compiled one
assert not counters["graph_break"]
print("same")
"""


GRAPHS = """
import torch
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.losses import LossConfig
from semipose.methods import METHODS, build_method
from semipose.methods.base import MethodContext, StepInfo
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.structures.skeletons import LSP
from semipose.training.compile import compile_networks
from semipose.training.engine import Engine
from semipose.augment.views import ViewSampler, ViewsConfig

torch.backends.cudnn.allow_tf32 = False
device, joints, config = torch.device("cuda", 0), len(LSP), ModelConfig(backbone="resnet10t", weights="none")
made = torch.Generator(device).manual_seed(3)
crops = torch.randint(0, 256, (4, 3, 96, 96), dtype=torch.uint8, device=device, generator=made)
to_input = torch.eye(3, device=device).repeat(4, 1, 1)
labeled = LabeledBatch(crops, to_input, torch.full((4, joints, 2), 30.0, device=device), to_input.new_ones(4, joints))

def losses(graphs):
    torch.manual_seed(0)
    views = ViewSampler(ViewsConfig(), LSP, (64, 64), 2.0, torch.Generator(device).manual_seed(1))
    context = MethodContext(views, LossConfig().build(), lambda _, levels: PoseNet(config, joints, levels), None)
    method = build_method(METHODS["trs"][0](), context).to(device).train()
    if graphs:
        compile_networks(method, cuda_graphs=True)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], fused=True)
    engine = Engine(method, optimizer, device, cuda_graphs=graphs)
    found = []
    for step in range(8):
        info = StepInfo(step, 8, 0)
        loss = engine.losses(labeled, UnlabeledBatch(crops, to_input), info)
        assert bool(engine.step(loss.total, 1.0))
        method.after_step(info)
        found.append(loss.total.detach().clone())
    return torch.stack(found)

torch.testing.assert_close(losses(True), losses(False), rtol=1e-2, atol=1e-5)
print("same")
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_graphs_compute_the_same():
    done = subprocess.run([sys.executable, "-c", GRAPHS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_each_step_begins_new_graphs(tiny, tmp_path, monkeypatch):
    """On a CPU, where there are none: before each pass of a step and nowhere else."""
    calls: list[str] = []
    monkeypatch.setattr("semipose.training.engine.begin_step", lambda: calls.append("begin"))
    forward = PoseNet.forward
    monkeypatch.setattr(PoseNet, "forward", lambda net, images: calls.append("pass") or forward(net, images))
    build = trainer.build_engine

    def with_graphs(*arguments):
        engine = build(*arguments)
        return Engine(engine.method, engine.optimizer, engine.device, cuda_graphs=True)

    monkeypatch.setattr(trainer, "build_engine", with_graphs)
    train(tiny("supervised", **{"train.steps": 3, "data.validation": 0}), tmp_path / "run")
    assert calls == ["begin", "pass"] * 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPU")
def test_compiled_networks_compute_the_same():
    """In a process of its own: the run-time type checks of the tests can't be compiled."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_passes_outside_of_steps_run_uncompiled(tiny, tmp_path, monkeypatch):
    """Every pass without gradient: those of evaluations and of the monitor."""
    from contextlib import contextmanager

    passes: list[tuple[bool, bool]] = []
    uncompiled = []

    @contextmanager
    def spy():
        uncompiled.append(True)
        yield
        uncompiled.pop()

    main, forward = PoseNet.forward_main, PoseNet.forward

    def noted(call):
        def run(self, images):
            passes.append((torch.is_grad_enabled(), bool(uncompiled)))
            return call(self, images)

        return run

    monkeypatch.setattr("semipose.training.engine.uncompiled", spy)
    monkeypatch.setattr(PoseNet, "forward_main", noted(main))
    monkeypatch.setattr(PoseNet, "forward", noted(forward))
    train(tiny("supervised", **{"train.steps": 4, "train.evaluate_every": 1}), tmp_path / "run")
    assert set(passes) == {(True, False), (False, True)}
