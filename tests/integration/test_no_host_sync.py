"""In a step of a method and in prediction the host never waits for a GPU: found on tensors without memory."""

import traceback
import warnings
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
from tests.conftest import slow_but
from tests.integration.test_all_methods import CASES

EVERYTHING = [
    "keypoint_mix", "joint_cutout", "cut_occlude", "cutout", "cutout_patches", "mixup", "cut_mix", "cut_mix_patches",
    "rand_augment",
]  # fmt: skip
SYNC_CASES = {name: CASES[name] for name in [*METHODS, "akm, mixup", "multi_augs, two"]} | {
    "trs, everything": (
        "trs",
        {"augmentations": [*EVERYTHING, "adaptive_joint_cutout"], "teacher_mode": "eval", "levels": 3},
    ),
    "dual, gaussian": ("dual", {"target": "gaussian", "min_peak": 0.2, "bn_stats_from_hard_views": False}),
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
def fake_gpu():
    """A device whose tensors have no memory; reading their values fails."""
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


def move(module, device):
    """Replaces a module's weights and buffers by tensors without memory."""
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


@pytest.mark.parametrize("case", slow_but(SYNC_CASES, "late_teacher", "trs, everything"))
def test_a_step_copies_nothing_between_host_and_gpu(case, request):
    """In the second step: constants are copied once. Backward and the optimizer are torch's own."""
    method = make(*SYNC_CASES[case], torch.device("cpu"))
    device = request.getfixturevalue("fake_gpu")
    move(method, device)
    labeled, unlabeled = batches(device)

    def step():
        info = StepInfo(60, 100)  # late in the training
        losses = method.losses(labeled, unlabeled, info)
        with torch.no_grad():
            method.after_step(info)
        return losses.total

    step()
    with Copies() as copies:
        assert step().device == device
    assert copies.found == []


@pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast then does nothing
@pytest.mark.parametrize("decoder", get_args(Decoder))
def test_prediction_stays_on_a_gpu_until_joints_are_known(decoder, request):
    networks = [PoseNet(ModelConfig(backbone="test_resnet", weights="none"), len(COCO), 2) for _ in range(2)]
    device = request.getfixturevalue("fake_gpu")
    for network in networks:
        move(network.eval(), device)
    predictor = Predictor(networks, LossConfig().build(), flip_test=True, decoder=decoder, device=device)

    def predict():
        maps = predictor.heatmaps(eval_view(batches(device)[1], SIZE), COCO.flip_order)
        return decode(maps, 4, decoder, 2.0)

    predict()
    with Copies() as copies:
        joints, scores = predict()
    assert copies.found == []
    assert joints.device == scores.device == device


def test_synchronizing_calls_are_found(fake_gpu):
    values = torch.rand(3, device=fake_gpu)
    with pytest.raises(DataDependentOutputException):
        float(values.sum())
    with Copies() as copies:
        values.new_tensor([1, 2])
        torch.zeros(2).to(fake_gpu)
        values.cpu()
    assert len(copies.found) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", SYNC_CASES)
def test_a_step_never_waits_for_this_gpu(case):
    """With torch's own check of synchronizing calls."""
    device = torch.device("cuda", 0)
    method = make(*SYNC_CASES[case], device).to(device)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], fused=True)
    labeled, unlabeled = batches(device)

    def step():
        info = StepInfo(60, 100)
        optimizer.zero_grad(set_to_none=True)
        method.losses(labeled, unlabeled, info).total.backward()
        optimizer.step()
        method.after_step(info)

    for _ in range(3):
        step()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
