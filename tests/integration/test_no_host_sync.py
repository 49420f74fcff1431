"""Within a step the host never waits for a GPU: found on tensors that only claim to lie on one."""

import traceback
import warnings
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semipose.augment.views import ViewSampler, ViewsConfig, eval_view
from semipose.inference.predictor import Predictor
from semipose.losses import LossConfig
from semipose.methods import METHODS, build_method
from semipose.methods.base import MethodContext, StepInfo
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.ops import geometry
from semipose.ops.heatmaps import Decoder, decode
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.structures.skeletons import COCO
from semipose.training.engine import Engine
from tests.methods.test_battery import CASES

EVERYTHING = ["keypoint_mix", "joint_cutout", "cut_occlude", "cutout", "mixup", "cut_mix", "rand_augment"]
MORE = {
    "trs, everything": (
        "trs",
        {"augmentations": [*EVERYTHING, "adaptive_joint_cutout"], "teacher_mode": "eval", "levels": 3},
    ),
    "dual, looks": ("dual", {"teacher_flip": True, "teacher_scales": (1, 0.8), "bn_stats_from_hard_views": False}),
    "dual, merged": ("dual", {"merge_passes": True, "target": "gaussian", "min_peak": 0.2}),
}
SIZE = (64, 32)


class Copies(TorchDispatchMode):
    """Notes where a step copies between host and device, which makes one wait for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        kinds = {leaf.device.type for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)}
        if len(kinds) > 1 and not (kwargs or {}).get("non_blocking"):
            ours = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack() if "semipose" in f.filename]
            self.found.append(f"{func} at {ours[-1] if ours else 'the test'}")
        return out


@pytest.fixture
def pretended():
    """The tensors made within lie on a GPU and hold nothing; asking for their values fails."""
    geometry.cached_tensor.cache_clear()
    with FakeTensorMode():
        yield torch.device("cuda", 0)
    geometry.cached_tensor.cache_clear()


def make(name, options, device):
    """A method with tiny networks and a generator for `device`."""
    views = ViewSampler(ViewsConfig(), COCO, SIZE, 2.0, torch.Generator(device))
    model = ModelConfig(backbone="test_resnet", weights="none", head_channels=8)

    def network(backbone, levels):
        return PoseNet(model, len(COCO), levels)

    context = MethodContext(views, LossConfig().build(), network, lambda path: network(None, 1))  # type: ignore[arg-type]
    return build_method(METHODS[name][0](**options), context).train()


def pretend(module, device):
    """Puts a module's weights and buffers where nothing is."""
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                part._parameters[name] = nn.Parameter(torch.empty(old.shape, device=device), old.requires_grad)
        for name, old in list(part._buffers.items()):
            if old is not None:
                part._buffers[name] = torch.empty(old.shape, dtype=old.dtype, device=device)


def batches(device, count=4):
    crops = torch.zeros(count, 3, 96, 80, dtype=torch.uint8, device=device)
    to_input = torch.eye(3, device=device).repeat(count, 1, 1)
    joints = torch.ones(count, len(COCO), 2, device=device)
    return LabeledBatch(crops, to_input, joints, joints[..., 0]), UnlabeledBatch(crops, to_input)


def make_step(method, engine, device):
    """One step as `semipose train` does it, late in the training."""
    labeled, unlabeled = batches(device)

    def step():
        info = StepInfo(60, 100, 0)
        losses = engine.losses(labeled, unlabeled, info)
        taken = engine.step(losses.total, 1.0)
        method.after_step(info)
        return taken

    return step


@pytest.mark.parametrize("case", CASES | MORE)
def test_a_step_copies_nothing_between_host_and_gpu(case, request):
    """The second step: what never changes is copied once. Backward and the optimizer are torch's own."""
    method = make(*(CASES | MORE)[case], torch.device("cpu"))
    device = request.getfixturevalue("pretended")
    pretend(method, device)

    def backward(total):
        assert total.device == device
        for parameter in method.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    fabric = SimpleNamespace(
        backward=backward,
        autocast=torch.no_grad,
        world_size=1,
        clip_gradients=lambda module, optimizer, max_norm, error_if_nonfinite: nn.utils.clip_grad_norm_(
            module.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite
        ),
        _precision=None,
    )
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], fused=True)
    engine = Engine(fabric, method, optimizer, method.losses)  # type: ignore[arg-type]
    step, copies = make_step(method, engine, device), Copies()
    step()
    with copies:
        assert step().device == device
    assert copies.found == []


@pytest.mark.parametrize("decoder", get_args(Decoder))
def test_looking_stays_on_a_gpu_until_joints_are_known(decoder, request):
    networks = [PoseNet(ModelConfig(backbone="test_resnet", weights="none"), len(COCO), 2) for _ in range(2)]
    device = request.getfixturevalue("pretended")
    for network in networks:
        pretend(network.eval(), device)
    predictor = Predictor(networks, LossConfig().build(), flip_test=True, decoder=decoder, device=device)

    def look():
        maps = predictor.heatmaps(eval_view(batches(device)[1], SIZE), COCO.flip_order)
        return decode(maps, 4, decoder, 2.0)

    look()
    with Copies() as copies:
        joints, scores = look()
    assert copies.found == []
    assert joints.device == scores.device == device


def test_what_would_wait_is_found(pretended):
    values = torch.rand(3, device=pretended)
    with pytest.raises(DataDependentOutputException):
        float(values.sum())
    with Copies() as copies:
        values.new_tensor([1, 2])
        torch.zeros(2).to(pretended)
        values.cpu()
    assert len(copies.found) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", CASES | MORE)
def test_a_step_never_waits_for_this_gpu(case):
    """The whole step, with torch's own watch over synchronizing calls."""
    from semipose.training.engine import make_engine, start_fabric

    device = torch.device("cuda", 0)
    method = make(*(CASES | MORE)[case], device).to(device)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], fused=True)
    engine = make_engine(start_fabric("cuda:0", "32-true"), method, optimizer)
    step = make_step(method, engine, device)
    for _ in range(3):
        assert bool(step())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode is a prototype, says torch
            torch.cuda.set_sync_debug_mode("error")
        taken = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(taken)
