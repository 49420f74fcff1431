"""Frozen stages of backbones."""

import pytest
import torch

from semipose.errors import ConfigError
from semipose.models.pose_net import ModelConfig, PoseNet


@pytest.mark.parametrize(
    ("backbone", "stages", "first"),
    [
        ("resnet18", 2, "layer2.0.conv1.weight"),
        ("convnext_atto", 2, "stages_2.downsample.0.weight"),
        ("mobilenetv3_small_100", 2, "blocks.1.0.conv_pw.weight"),
        ("tf_efficientnet_lite0", 3, "blocks.3.0.conv_pw.weight"),
        ("hrnet_w18_small", 2, "transition2.2.0.0.weight"),
        ("swin_tiny_patch4_window7_224", 3, "model.layers.3.downsample.norm.weight"),
        ("hiera_tiny_224", 1, "model.blocks.1.norm1.weight"),
        ("vit_tiny_patch16_dinov3_qkvb", 3, "model.blocks.9.gamma_1"),
        ("vitpose_small", 2, "model.blocks.6.norm1.weight"),
    ],
)
def test_frozen_stages_stay_unchanged(backbone, stages, first):
    """Weights and BatchNorm statistics up to the stage stay, in training mode too; everything after it is trained."""
    config = ModelConfig(backbone=backbone, weights="none", frozen_stages=stages)
    network = PoseNet(config, 14, pretrained=False).train()
    learning = [n.removeprefix("backbone.features.") for n, p in network.named_parameters() if p.requires_grad]
    assert learning[0] == first
    before = {n: t.clone() for n, t in network.state_dict().items()}
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    frozen = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(p.grad is not None for n, p in network.named_parameters() if n not in frozen)
    owners = {n.rpartition(".")[0] for n in frozen}
    for name, tensor in network.state_dict().items():
        if name.rpartition(".")[0] in owners:
            assert torch.equal(tensor, before[name]), name
    network.eval().train()
    assert not network.backbone.features.get_submodule(
        frozen[-1].removeprefix("backbone.features.").rpartition(".")[0]
    ).training


def test_freezing_every_stage_raises():
    with pytest.raises(ConfigError, match="the last"):
        PoseNet(ModelConfig(backbone="resnet18", weights="none", frozen_stages=5), 14, pretrained=False)
    with pytest.raises(ConfigError, match="the last"):
        config = ModelConfig(backbone="tf_efficientnet_lite0", stage=-2, weights="none", frozen_stages=4)
        PoseNet(config, 14, pretrained=False)
    with pytest.raises(ConfigError, match="4 of 4 stages; the last"):
        PoseNet(ModelConfig(backbone="vit_tiny_patch16_224", weights="none", frozen_stages=4), 14, pretrained=False)
