"""Backbones: levels, normalization, frozen stages and errors."""

import pytest
import timm
import torch

from semipose.errors import ConfigError
from semipose.models.backbone import MEAN, STD
from semipose.models.backbones import build_backbone
from semipose.models.pose_net import ModelConfig, PoseNet

SMALL = "tf_efficientnet_lite0"


def make(backbone="resnet18", *, joints=14, levels=1, device="meta", **options):
    """A network without pretrained weights; on the meta device only shapes are computed."""
    with torch.device(device):
        return PoseNet(ModelConfig(backbone=backbone, **{"weights": "none", **options}), joints, levels)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.strip() == text
    return text


def test_levels_are_the_last_stages():
    """TRS, eq. 8: z on the last stage, p on the last but one, each with a head up to a quarter of the input."""
    network = make("resnet18", levels=3)
    assert network.backbone.reductions == [32, 16, 8]
    assert network.backbone.channels == [512, 256, 128]
    counts = [sum(isinstance(m, torch.nn.ConvTranspose2d) for m in head.modules()) for head in network.heads]
    assert counts == [3, 2, 1]
    shapes = [f.shape for f in network.backbone(torch.empty(1, 3, 64, 64, device="meta"))]
    assert shapes == [(1, 512, 2, 2), (1, 256, 4, 4), (1, 128, 8, 8)]


def test_hrnet_levels_are_the_branches():
    network = make("hrnet_w32", levels=2)
    assert network.backbone.reductions[:2] == [4, 8]
    assert network.backbone.channels[:2] == [32, 64]
    assert len(network.heads) == 2
    assert not [m for m in network.heads[0].modules() if isinstance(m, torch.nn.ConvTranspose2d)]


def test_stage_of_the_main_head():
    network = make("resnet18", stage=-2)
    assert network.backbone.reductions == [16]
    assert network.backbone.channels == [256]
    assert network(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1, 14, 16, 16)
    assert make("resnet18", stage=-2, levels=2).backbone.reductions == [16, 8]
    whole = sum(p.numel() for p in make("resnet18").parameters())
    assert sum(p.numel() for p in network.parameters()) < 0.5 * whole


@pytest.mark.parametrize(
    ("wrong", "similar"),
    [
        ("efficientnet_b99", "efficientnet_"),
        ("no_such_thing_at_all", ""),
        ("resnet19", "resnet18"),
        ("hrnet_w33", "hrnet_w32"),
    ],
)
def test_unknown_backbone_raises_with_similar_names(wrong, similar):
    with pytest.raises(ConfigError) as error:
        make(wrong)
    text = one_line(error)
    assert wrong in text
    assert similar in text.replace(wrong, "")


@pytest.mark.parametrize(
    ("backbone", "levels", "stage"), [("resnet18", 5, -1), (SMALL, 5, -1), ("resnet18", 3, -3), ("resnet18", 1, -9)]
)
def test_more_levels_than_stages_raise(backbone, levels, stage):
    with pytest.raises(ConfigError) as error:
        make(backbone, levels=levels, stage=stage)
    assert f"levels={levels}" in one_line(error)


def test_more_levels_than_hrnet_branches_raise():
    with pytest.raises(ConfigError):
        make("hrnet_w32", levels=5)


def test_hrnet_has_the_last_stage_only():
    with pytest.raises(ConfigError, match="stage=-2"):
        make("hrnet_w32", stage=-2)


def test_normalization_of_the_weights_is_applied():
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "none", -1, 1).eval()
    plain = torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    inputs = []
    backbone.features.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    backbone((plain - mean) / std)
    torch.testing.assert_close(inputs[-1], (plain - mean) / std)
    backbone.set_normalization((0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
    backbone((plain - mean) / std)
    expected = (plain - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1)
    torch.testing.assert_close(inputs[-1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("samvit_base_patch16", "lacks the blocks and the norm of a plain transformer"),
        ("volo_d1_224", "lacks the blocks and the norm of a plain transformer"),
        ("crossvit_tiny_240", "feature maps of stride 12, which is no power of two"),
    ],
)
def test_backbones_that_do_not_fit_say_why(backbone, reason):
    with torch.device("meta"), pytest.raises(ConfigError, match=f"`model.backbone`: {backbone} .*{reason}"):
        make(backbone)


def test_a_network_of_one_size_refuses_others():
    network = make("maxvit_pico_rw_256", head_channels=8)
    assert network(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 1, 14, 64, 64)
    with pytest.raises(ConfigError, match="takes images of 256×256 only, not of 256×192"):
        network(torch.empty(1, 3, 256, 192, device="meta"))


def test_levels_of_a_plain_transformer_end_its_quarters():
    network = make("vit_tiny_patch16_224", levels=3)
    assert list(network.backbone.info.out_indices) == [5, 8, 11]
    assert network.backbone.reductions == [16, 16, 16]
    assert len(make("vit_tiny_patch16_224", stage=-2).backbone.model.blocks) == 9
    with pytest.raises(ConfigError, match="levels=5"):
        make("vit_tiny_patch16_224", levels=5)


@pytest.mark.parametrize(
    "backbone", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_tiny_patch16_dinov3_qkvb"]
)
def test_the_last_level_of_a_plain_transformer_is_its_normalized_output(backbone):
    torch.manual_seed(0)
    model = build_backbone(backbone, "none", -1, 1).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        tokens = model.model.forward_features(images)[:, model.model.num_prefix_tokens :]
        (found,) = model(images)
    torch.testing.assert_close(found, tokens.transpose(1, 2).reshape(1, -1, 4, 6))
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(1, 4, 6), atol=1e-4, rtol=0)


def test_hiera_of_timms_size_equals_timm():
    torch.manual_seed(0)
    model = build_backbone("hiera_tiny_224", "none", -1, 3).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        found, expected = model(images), model.features(images)[::-1]
        model(images[:, :, :64, :96])
        again = model(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, found)


def test_a_seed_gives_the_weights_that_it_always_gave():
    """The numbers that a probe draws come before the network's: a change of either changes every seeded result."""
    torch.manual_seed(3)
    timm.create_model("resnet10t", features_only=True)
    expected = timm.create_model("resnet10t", features_only=True, out_indices=(4,)).state_dict()
    torch.manual_seed(3)
    found = build_backbone("resnet10t", "none", -1, 1).features.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
