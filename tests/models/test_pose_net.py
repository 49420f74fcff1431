"""PoseNet: shapes, parameter counts and levels."""

import pytest
import timm
import torch

from semipose.errors import ConfigError
from semipose.models.pose_net import ModelConfig, PoseNet
from tests.conftest import slow_but

SMALL = "tf_efficientnet_lite0"


def make(backbone="resnet18", *, joints=14, levels=1, device="meta", **options):
    """A network without pretrained weights; on the meta device only shapes are computed."""
    with torch.device(device):
        return PoseNet(ModelConfig(backbone=backbone, **{"weights": "none", **options}), joints, levels)


@pytest.mark.parametrize("backbone", ["resnet18", SMALL])
def test_outputs_are_finite_and_every_parameter_has_a_gradient(backbone):
    torch.manual_seed(0)
    network = make(backbone, device="cpu", levels=2)
    images = torch.randn(2, 3, 64, 32)
    outputs = network(images)
    assert outputs.shape == (2, 2, 14, 16, 8)
    assert torch.isfinite(outputs).all()
    assert network.levels == 2
    outputs.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("backbone", slow_but(["resnet18", "resnet50", "hrnet_w18_small", SMALL], "resnet18", SMALL))
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_shapes(backbone, levels):
    network = make(backbone, levels=levels)
    assert network.levels == levels
    for height, width in ((64, 96), (128, 96)):
        images = torch.empty(2, 3, height, width, device="meta")
        assert network(images).shape == (2, levels, 14, height // 4, width // 4)
    assert network.forward_main(images).shape == (2, 14, height // 4, width // 4)


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [
        ("resnet18", 15.4),
        ("resnet34", 25.5),
        ("resnet50", 34.0),
        ("resnet101", 53.0),
        ("resnet152", 68.6),
        ("hrnet_w32", 28.5),
        ("hrnet_w48", 63.6),
    ],
)
def test_parameter_counts_equal_the_published_ones(backbone, millions):
    """From the tables of SimpleBaseline and HRNet; for ResNet-18 and -34, the sum of backbone and head."""
    network = make(backbone, joints=17)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("backbone", "classifier"), [("resnet18", 513_000), ("resnet50", 2_049_000)])
def test_parameter_count_is_backbone_plus_head(backbone, classifier):
    with torch.device("meta"):
        whole = timm.create_model(backbone, pretrained=False)
    channels = whole.num_features
    head = 16 * 256 * (channels + 256 + 256) + 3 * 2 * 256 + 256 * 17 + 17
    expected = sum(p.numel() for p in whole.parameters()) - classifier + head
    assert sum(p.numel() for p in make(backbone, joints=17).parameters()) == expected


def test_head_channels_make_a_lighter_head():
    wide, light = make(SMALL), make(SMALL, head_channels=64)
    count = [sum(p.numel() for p in network.heads.parameters()) for network in (wide, light)]
    assert count[1] < 0.2 * count[0]
    assert light(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1, 14, 16, 16)


@pytest.mark.parametrize("backbone", ["resnet18", SMALL])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_level_0_equals_the_main_output(backbone, levels):
    torch.manual_seed(0)
    network = make(backbone, device="cpu", levels=levels, head_channels=16).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = network(images)
        assert torch.equal(outputs[:, 0], network.forward_main(images))
    for level in range(1, levels):
        assert not torch.equal(outputs[:, 0], outputs[:, level])


def test_the_main_level_does_not_depend_on_the_number_of_levels():
    torch.manual_seed(0)
    many = make(SMALL, device="cpu", levels=3, head_channels=16).eval()
    one = make(SMALL, device="cpu", levels=1, head_channels=16).eval()
    own = one.state_dict()
    one.load_state_dict({n: t for n, t in many.state_dict().items() if n in own})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one.forward_main(images), many.forward_main(images))


def test_joints_are_copied_by_their_indices():
    torch.manual_seed(0)
    source = make(SMALL, joints=5, device="cpu", head_channels=8)
    network = make(SMALL, joints=3, device="cpu", head_channels=8)
    before = network.heads[0].final.weight.detach().clone()
    network.copy_weights_from(source, [(0, 4), (2, 1)])
    assert torch.equal(network.heads[0].final.weight[[0, 2]], source.heads[0].final.weight[[4, 1]])
    assert torch.equal(network.heads[0].final.weight[1], before[1])
    assert torch.equal(network.heads[0].deconvolutions[0].weight, source.heads[0].deconvolutions[0].weight)
    assert torch.equal(network.backbone.model.conv_stem.weight, source.backbone.model.conv_stem.weight)


@pytest.mark.parametrize("options", [{"head_channels": 16}, {"head": "simple"}])
def test_heads_that_are_built_otherwise_stay_new(options):
    torch.manual_seed(0)
    source, network = make(SMALL, device="cpu", head_channels=8), make(SMALL, device="cpu", **options)
    before = {n: t.clone() for n, t in network.heads.state_dict().items()}
    network.copy_weights_from(source, [(0, 0)])
    assert all(torch.equal(t, before[n]) for n, t in network.heads.state_dict().items())
    assert torch.equal(network.backbone.model.conv_stem.weight, source.backbone.model.conv_stem.weight)


def test_a_network_with_fewer_stages_takes_the_weights_of_these_and_one_with_more_is_refused():
    torch.manual_seed(0)
    source, network = make(SMALL, device="cpu"), make(SMALL, device="cpu", stage=-2)
    network.copy_weights_from(source, [(0, 0)])
    weights = source.backbone.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.backbone.state_dict().items())
    with pytest.raises(
        ConfigError, match=r"`train\.start`: .* model\.stage=-2 and 1 levels, which lack 90 tensors of "
    ):
        source.copy_weights_from(network, [(0, 0)])
    with pytest.raises(ConfigError, match=r"lack 18 tensors of model\.stage=-1 with 2 levels"):
        make("hrnet_w18_small", levels=2).copy_weights_from(make("hrnet_w18_small"), [(0, 0)])


def test_pretrained_false_reads_no_weights(tmp_path):
    config = ModelConfig(backbone="resnet18", weights=str(tmp_path / "absent.pth"), head_channels=8)
    with torch.device("meta"):
        PoseNet(config, 14, pretrained=False)
