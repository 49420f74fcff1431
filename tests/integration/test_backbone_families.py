"""One backbone of each family that people start from: shapes, parameters, a step, resume, export and prediction."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import torch
from timm.models import _registry as timm_registry
from torch import nn

import semipose
from semipose.data.crops import CropGeometry
from semipose.inference.pose_model import PoseModel
from semipose.losses import LossConfig
from semipose.methods.base import Method
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.models.vitpose import SIZES
from semipose.structures.skeletons import COCO
from semipose.trainer import train
from semipose.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from semipose.training.config import TrainConfig
from semipose.training.optim import build_optimizer
from tests.conftest import slow_but
from tests.integration.runs import assert_same_runs
from tests.integration.test_resume import interrupted

FAMILIES = {
    "resnet10t": "resnet",
    "convnextv2_atto": "convnext",
    "hrnet_w18_small": "hrnet",
    "tf_efficientnet_lite0": "efficientnet",
    "mobilenetv4_conv_small_035": "mobilenet",
    "swin_tiny_patch4_window7_224": "swin",
    "hiera_tiny_224": "hiera",
    "vit_tiny_patch16_224": "plain: MAE and AugReg",
    "vit_small_patch14_dinov2": "plain: DINOv2",
    "vit_tiny_patch16_dinov3_qkvb": "plain: DINOv3",
    "eva02_tiny_patch14_224": "plain: EVA-02",
    "vit_base_patch16_sapiens2": "plain: Sapiens2",
    "vitpose_small": "plain: ViTPose",
}
"""A small network of each family."""

TRAINED = ("convnextv2_atto", "vit_small_patch14_dinov2", "vit_tiny_patch16_dinov3_qkvb")
"""Those that are trained and exported at the size of the papers."""

SHALLOW = {
    "convnextv2_atto": {"depths": (1, 1, 1, 1)},
    "swin_tiny_patch4_window7_224": {"depths": (1, 2, 1, 1)},
    "hiera_tiny_224": {"stages": (1, 1, 2, 1)},
    **{name: {"depth": 4} for name, family in FAMILIES.items() if family.startswith("plain")},
    "vit_base_patch16_sapiens2": {"depth": 4, "embed_dim": 192, "num_heads": 4, "num_kv_heads": (4, 2, 2, 4)},
}
"""Sizes that make the same kinds of blocks fast to train and to export."""


@pytest.fixture(autouse=True)
def _shallow(monkeypatch):
    """timm builds shallow networks under the names of deep ones."""
    for name, depths in SHALLOW.items():
        if name == "vitpose_small":
            monkeypatch.setitem(SIZES, name, replace(SIZES[name], depth=4))
        else:
            monkeypatch.setitem(timm_registry._model_entrypoints, name, partial(timm.model_entrypoint(name), **depths))


def make(backbone, **options):
    levels = options.pop("levels", 1)
    return PoseNet(ModelConfig(backbone=backbone, weights="none", head_channels=8, **options), 5, levels)


@pytest.mark.parametrize("head", ["deconvolution", "simple"])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_levels_have_a_quarter_of_the_input_of_any_size(backbone, head):
    network = make(backbone, head=head, levels=2).eval()
    with torch.no_grad():
        for height, width in ((256, 192), (64, 96)):
            images = torch.randn(1, 3, height, width)
            outputs = network(images)
            assert outputs.shape == (1, 2, 5, height // 4, width // 4)
            torch.testing.assert_close(outputs[:, 0], network.forward_main(images))
    assert not torch.allclose(outputs[:, 0], outputs[:, 1])


def test_hrnet_has_the_published_number_of_parameters():
    """28.5 million with W32 (Sun et al., CVPR 2019, table 1), where the coarser branches end unused."""
    with torch.device("meta"):
        network = PoseNet(ModelConfig(backbone="hrnet_w32", weights="none"), 17)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(28.5, abs=0.05)


@pytest.mark.parametrize("backbone", [name for name in FAMILIES if not name.startswith(("hrnet", "vitpose"))])
def test_parameters_are_timms_without_the_classifier(backbone, monkeypatch):
    """In full depth; ViTPose is compared with the published sizes in test_vitpose.py."""
    monkeypatch.undo()
    patch = {"patch_size": 16} if "patch14" in backbone else {}
    with torch.device("meta"):
        network, whole = make(backbone), timm.create_model(backbone, num_classes=0, **patch)
    unused = ("head.", "norm_head.", "conv_head", "bn2", *(["norm."] if "swin" in backbone else []))
    found = sum(p.numel() for p in network.backbone.parameters())
    assert found == sum(p.numel() for n, p in whole.named_parameters() if not n.startswith(unused))


@pytest.mark.parametrize("frozen", [0, 3])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_step_trains_what_is_not_frozen(backbone, frozen):
    torch.manual_seed(0)
    network = make(backbone).train()
    if frozen:
        network.backbone.freeze(frozen)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    still = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert not moved & still
    assert bool(still) is bool(frozen)
    # a ResNet begins with blocks that add nothing: their inner weights have no gradient yet
    assert len(moved) > 0.6 * (len(before) - len(still))


class OneNetwork(Method):
    """The part of a method that checkpoints and optimizers see."""

    def __init__(self, backbone):
        nn.Module.__init__(self)
        torch.manual_seed(0)
        self.network = make(backbone)

    def losses(self, labeled, unlabeled, info):
        raise NotImplementedError

    def eval_networks(self):
        return {"f": self.network}


@pytest.mark.parametrize("backbone", slow_but(FAMILIES, "resnet10t", "vit_small_patch14_dinov2"))
def test_a_step_after_a_checkpoint_is_the_step_without_it(backbone, tmp_path):
    """With the parameter groups of a decay by layers; BatchNorm and dropped paths included."""
    config = TrainConfig(optimizer="adamw", weight_decay=0.1, layer_decay=0.9, backbone_rate=0.5)
    images = torch.randn(2, 3, 64, 64)

    def build():
        method = OneNetwork(backbone).train()
        return method, build_optimizer(config, method, torch.device("cpu"))

    def step(method, optimizer, seed):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        method.network(images).square().mean().backward()
        optimizer.step()

    method, optimizer = build()
    step(method, optimizer, 1)
    save_checkpoint(tmp_path / "state.pt", TrainingState(), method, optimizer)
    step(method, optimizer, 2)
    again, other = build()
    step(again, other, 3)
    load_checkpoint(tmp_path / "state.pt", {}, again, other)
    step(again, other, 2)
    expected = method.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize("backbone", slow_but([name for name in FAMILIES if name not in TRAINED], "resnet10t"))
def test_the_exported_file_equals_the_network(backbone, tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = PoseNet(ModelConfig(backbone=backbone, weights="none", head_channels=8), len(COCO)).eval()
    model = PoseModel(network, "f", COCO, CropGeometry((64, 64)), LossConfig())
    assert semipose.export(model, tmp_path / "pose.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", TRAINED)
def test_a_training_at_the_size_of_the_papers_resumes_predicts_and_is_exported(backbone, tiny, tmp_path, monkeypatch):
    onnxruntime, size = pytest.importorskip("onnxruntime"), (256, 192)
    options = {
        "model.backbone": backbone, "input.height": size[0], "input.width": size[1], "train.steps": 2,
        "train.batch": 2, "train.unlabeled_batch": 2, "train.log_every": 1, "train.optimizer": "adamw",
        "train.layer_decay": 0.9, "train.select": "last", "data.labels": 4, "data.validation": 1,
    }  # fmt: skip
    config = tiny("supervised", **options)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "stopped", monkeypatch, 1)
    train(config, tmp_path / "stopped", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")
    model = semipose.load(tmp_path / "whole")
    poses = model.predict(np.full((90, 70, 3), 128, np.uint8))
    assert np.isfinite(poses.keypoints).all()
    path = semipose.export(model, tmp_path / "pose.onnx")
    images = torch.randn(1, 3, *size)
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    assert found.shape == (1, len(model.skeleton), size[0] // 4, size[1] // 4)
