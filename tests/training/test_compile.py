"""When networks are compiled; compiled ones compute the same, and only steps are compiled."""

import logging
import shutil
import subprocess
import sys

import pytest
import torch

from semipose import trainer
from semipose.models.pose_net import PoseNet
from semipose.trainer import train
from semipose.training.compile import CompilationPlan, plan_compilation
from semipose.training.engine import Engine
from tests.integration.runs import assert_same_runs
from tests.integration.test_resume import interrupted

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
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], fused=True)
    engine = Engine(method, optimizer, device)
    if graphs:
        engine.compile(cuda_graphs=True)
        engine.dry_run(labeled, UnlabeledBatch(crops, to_input), [StepInfo(0, 8), StepInfo(7, 8)] * 3)
    found = []
    for step in range(8):
        info = StepInfo(step, 8)
        loss = engine.losses(labeled, UnlabeledBatch(crops, to_input), info)
        assert bool(engine.step(loss.total, 1.0))
        method.after_step(info)
        found.append(loss.total.detach().clone())
    return torch.stack(found)

torch.testing.assert_close(losses(True), losses(False), rtol=1e-2, atol=1e-5)
print("same")
"""


GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
DUAL = 14


def plan(option="auto", device=GPU, steps=100_000, units=DUAL, parts=1, processes=1):
    return plan_compilation(option, device, steps=steps, units=units, parts=parts, processes=processes)


@pytest.mark.parametrize("device", [CPU, torch.device("mps")])
def test_only_a_gpu_compiles_by_default(device):
    assert plan(device=device) == plan(False) == CompilationPlan(False)
    assert plan(True, device) == CompilationPlan(True)


@pytest.mark.parametrize(("units", "enough"), [(3, 11_142), (7, 4_775), (DUAL, 2_388), (22, 1_520)])
def test_as_many_steps_as_pay_for_the_compilation(units, enough):
    """A step of `pseudopose` with 32 + 32 persons took 33.5 ms, and 20.9 ms as CUDA graphs."""
    saved = (32 / 955 - 32 / 1528) / 7 * units
    assert (enough - 1) * saved < 60 <= enough * saved
    few, many = plan(steps=enough - 1, units=units), plan(steps=enough, units=units)
    assert (few.compiled, many.compiled, many.cuda_graphs) == (False, True, True)
    assert few.reason.endswith(f"{enough - 1} steps would save less time than that takes ({enough} would not)")
    assert plan(True, steps=1).cuda_graphs


@pytest.mark.parametrize(
    ("given", "missing"), [({"processes": 2}, "one process"), ({"parts": 4}, "`train.accumulate`")]
)
def test_without_cuda_graphs_only_a_given_option_compiles(given, missing):
    assert not plan(**given).compiled
    assert f"CUDA graphs need {missing}" in plan(**given).reason
    assert plan(True, **given) == CompilationPlan(True, False, plan(True, **given).reason)


def compile_by(monkeypatch, forward):
    """`forward(part, images)` stands for the compiled code of every part of a network."""

    def fake(method, *, cuda_graphs=False):
        for network in method.modules():
            for part in (network.backbone, *network.heads) if isinstance(network, PoseNet) else ():
                part._compiled_call_impl = lambda images, part=part: forward(part, images)

    monkeypatch.setattr("semipose.training.engine.compile_networks", fake)


@pytest.mark.slow
def test_a_training_whose_compilation_fails_goes_on_as_if_it_had_not_been_tried(tiny, tmp_path, monkeypatch, caplog):
    options = {"train.steps": 6, "method.burn_in": 0.4, "train.accumulate": 2}
    train(tiny("trs", **options), tmp_path / "plain")
    passes = []

    def failing(part, images):
        passes.append(len(images))
        if len(passes) == 20:  # long after the first random draws and updates of BatchNorm
            raise RuntimeError("no compiler\nis here")
        return part._call_impl(images)

    compile_by(monkeypatch, failing)
    train(tiny("trs", **options, **{"train.compile": True}), tmp_path / "failed")
    assert {*passes} == {2}
    assert len(passes) == 20
    assert "networks are not compiled, because that failed: no compiler" in caplog.text
    assert_same_runs(tmp_path / "plain", tmp_path / "failed")


def test_a_dry_run_sees_steps_with_and_without_unlabeled_images(tiny, tmp_path, monkeypatch):
    infos, compiled = [], []
    compile_by(monkeypatch, lambda part, images: compiled.append(part) or part._call_impl(images))
    dry_run = Engine.dry_run
    monkeypatch.setattr(Engine, "dry_run", lambda *given: infos.extend(given[3]) or dry_run(*given))
    train(tiny("dual", **{"train.steps": 6, "method.burn_in": 0.5, "train.compile": True}), tmp_path / "run")
    assert [info.step for info in infos] == [0, 3, 5] * 3
    assert len(compiled) > 6 * 2  # the steps are compiled as well


def test_a_resumed_training_counts_the_steps_that_are_left(tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "semipose.training.loop.plan_compilation", lambda *given, steps, **more: seen.append(steps) or plan(False)
    )
    interrupted(tiny("single", **{"train.steps": 4}), tmp_path / "run", monkeypatch, 3)
    train(tiny("single", **{"train.steps": 4}), tmp_path / "run", resume=True)
    assert seen == [4, 1]


def test_the_decision_is_logged_in_one_line(tiny, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("semipose.training.loop.plan_compilation", lambda *given, steps, **more: plan(steps=steps))
    train(tiny("dual", **{"train.steps": 2}), tmp_path / "run")
    lines = [line.message for line in caplog.records if "compiled" in line.message]
    assert lines == ["networks are not compiled: 2 steps would save less time than that takes (2388 would not)"]


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
        engine._cuda_graphs = True
        return engine

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
