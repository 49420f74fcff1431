"""Pose weights of others: equal to the library transformers, joints by name, starts of trainings, mistakes."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import semipose
from semipose.adaptation import with_options_of_start
from semipose.build import make_method
from semipose.config import DEFAULT, load_config, parse_override
from semipose.data.datasets import PEOPLE
from semipose.errors import ConfigError, WeightsError
from semipose.models import pretrained
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.models.pretrained import find_pretrained, hub_name, load_pretrained, vitpose
from semipose.models.vitpose import SIZES
from semipose.structures.skeletons import COCO, LSP
from semipose.trainer import train

COCO_SIDES = ("Eye", "Ear", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
COCO_LABELS = ["Nose", *(f"{side}_{part}" for part in COCO_SIDES for side in "LR")]
"""COCO's joints as the files on the hub spell them."""


def transformers_model(size, *, simple=True, experts=1, part=0, labels=17):
    """ViTPose of the library transformers with random weights, all of them away from their initial constants.

    Drawing each of the 632 million weights of H would take ten seconds: all matrices repeat a million of them.
    """
    library = pytest.importorskip("transformers", reason="transformers is the oracle of ViTPose's weights")
    backbone = library.VitPoseBackboneConfig(
        hidden_size=size.width, num_hidden_layers=size.depth, num_attention_heads=size.heads, num_experts=experts,
        part_features=part, out_indices=[size.depth],
    )  # fmt: skip
    config = library.VitPoseConfig(backbone_config=backbone, use_simple_decoder=simple, num_labels=labels)
    torch.manual_seed(0)
    with torch.device("meta"):
        model = library.VitPoseForPoseEstimation(config)
    model.to_empty(device="cpu").eval()
    drawn = 0.02 * torch.randn(2**20 + 7)  # a prime number: rows of matrices do not repeat
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
        elif tensor.ndim < 2:
            tensor.copy_(torch.rand_like(tensor) * 0.2 + name.endswith(("weight", "running_var")))
        else:
            tensor.copy_(drawn.repeat(-(-tensor.numel() // len(drawn)))[: tensor.numel()].view_as(tensor))
    return model


def heatmaps(model, images, **options):
    with torch.inference_mode():
        return model(images, **options).heatmaps


def small_tensors(joints=17, depth=12):
    """Tensors in transformers' layout without the library: a ViTPose-S, or a shallow one."""
    width, prefix = 384, "backbone.encoder.layer."
    shapes = {
        "backbone.embeddings.position_embeddings": (1, 193, width),
        "backbone.embeddings.patch_embeddings.projection.weight": (width, 3, 16, 16),
        "backbone.embeddings.patch_embeddings.projection.bias": (width,),
        "backbone.layernorm.weight": (width,), "backbone.layernorm.bias": (width,),
        "head.conv.weight": (joints, width, 3, 3), "head.conv.bias": (joints,),
    }  # fmt: skip
    layers = {
        **{f"attention.{part}": (width, width) for part in ("attention.query", "attention.key", "attention.value")},
        "attention.output.dense": (width, width), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width),
        "layernorm_before": (width,), "layernorm_after": (width,),
    }  # fmt: skip
    for i in range(depth):
        for name, shape in layers.items():
            shapes |= {f"{prefix}{i}.{name}.weight": shape, f"{prefix}{i}.{name}.bias": shape[:1]}
    torch.manual_seed(1)
    return {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vitpose") / "model.safetensors"
    save_file(small_tensors(), path)
    return path


@pytest.mark.parametrize(
    ("name", "simple", "experts", "part"),
    [
        ("vitpose_small", True, 1, 0),
        ("vitpose_small", False, 1, 0),
        ("vitpose_small", False, 6, 96),
        pytest.param("vitpose_base", True, 1, 0, marks=pytest.mark.slow),
        pytest.param("vitpose_base", False, 6, 192, marks=pytest.mark.slow),
        pytest.param("vitpose_large", False, 6, 256, marks=pytest.mark.slow),
        pytest.param("vitpose_huge", True, 1, 0, marks=pytest.mark.slow),
    ],
)
def test_heatmaps_equal_those_of_transformers(name, simple, experts, part):
    """Every size, both heads, and ViTPose+ with the expert of COCO."""
    model = transformers_model(SIZES[name], simple=simple, experts=experts, part=part)
    images = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(2))
    options = {"dataset_index": torch.zeros(2, dtype=torch.long)} if experts > 1 else {}
    expected = heatmaps(model, images, **options)
    network = vitpose(model.state_dict())
    del model
    assert network.config.backbone == name
    with torch.inference_mode():
        found = network.forward_main(images)
    assert found.shape == (2, 17, 64, 48)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_file_of_transformers_is_a_model(tmp_path):
    model = transformers_model(SIZES["vitpose_small"])
    model.config.id2label = dict(enumerate(COCO_LABELS))
    model.save_pretrained(tmp_path)
    loaded = semipose.load(tmp_path)
    assert (loaded.skeleton, loaded.geometry.input_size) == (COCO, (256, 192))
    images = torch.randn(1, 3, 256, 192)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network.forward_main(images), heatmaps(model, images), rtol=0, atol=1e-4)


def test_a_file_predicts_and_is_saved_as_our_own(file, tmp_path):
    model = semipose.load(file)
    assert (model.name, model.skeleton, model.loss.kind) == ("vitpose", COCO, "mse")
    poses = model.predict(torch.randint(255, (80, 60, 3), dtype=torch.uint8).numpy())
    assert poses.keypoints.shape == (1, 17, 2)
    model.save(tmp_path / "ours.safetensors")
    images = torch.randn(1, 3, 128, 96)
    again = semipose.load(tmp_path / "ours.safetensors").network
    with torch.inference_mode():
        torch.testing.assert_close(again(images), model.network(images))
    assert again(images).shape == (1, 1, 17, 32, 24)


def test_the_backbone_alone_is_a_weights_file(file):
    tensors = small_tensors()
    network = PoseNet(ModelConfig(backbone="vitpose_small", weights=str(file), head_channels=8), 3)
    assert torch.equal(
        network.backbone.model.patch_embed.proj.weight,
        tensors["backbone.embeddings.patch_embeddings.projection.weight"],
    )


def test_other_joints_have_names_beside_the_file(tmp_path):
    save_file(small_tensors(3), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="3 joints without names"):
        load_pretrained(tmp_path / "model.safetensors")
    labels = {"0": "left_paw", "1": "right_paw", "2": "tail"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    assert load_pretrained(tmp_path / "model.safetensors").skeleton.joints == tuple(labels.values())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="no JSON"):
        load_pretrained(tmp_path / "model.safetensors")


@pytest.mark.parametrize("skeleton", [COCO, LSP])
def test_a_training_starts_with_the_shared_joints(file, tiny, skeleton):
    """LSP shares twelve joints with COCO; its neck and head top keep their new weights."""
    options = {
        "model.backbone": "vitpose_small",
        "model.head": "simple",
        "model.weights": "none",
        "train.start": str(file),
    }
    config = tiny("supervised", **options)
    torch.manual_seed(3)
    method = make_method(config, skeleton, torch.Generator())
    (network,) = method.eval_networks().values()
    source = load_pretrained(file).network
    assert torch.equal(network.backbone.model.blocks[5].mlp.fc1.weight, source.backbone.model.blocks[5].mlp.fc1.weight)
    shared = 0
    for i, key in enumerate(skeleton.keys):
        if key in COCO.keys:
            row = network.heads[0].final.weight[i], source.heads[0].final.weight[COCO.keys.index(key)]
            assert torch.equal(*row)
            shared += 1
        else:
            assert network.heads[0].final.weight[i].std() < 0.002
    assert shared == (17 if skeleton is COCO else 12)


@pytest.mark.slow
@pytest.mark.parametrize("network", [["model.backbone=vitpose_small", "model.head=simple"], []])
def test_the_guides_training_starts_with_heads_and_all(small_people, tmp_path, monkeypatch, caplog, network):
    """The network of `default` has another stage, head and loss."""
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(SIZES, "vitpose_small", replace(SIZES["vitpose_small"], depth=4))
    file = tmp_path / "vitpose.safetensors"
    save_file(small_tensors(depth=4), file)
    data = {"data.train": str(small_people), "data.images": str(PEOPLE / "images"), "data.labels": 24}
    few = {"train.steps": 2, "train.batch": 2, "train.unlabeled_batch": 2, "train.device": "cpu", "data.validation": 0}
    few |= {"input.height": 32, "input.width": 32}
    config = load_config(DEFAULT, {**data, **few, "train.start": str(file), **dict(map(parse_override, network))})
    train(config, tmp_path / "run")
    assert "networks start with the backbone and the heads of all of 17 joints of" in caplog.text
    model = semipose.load(tmp_path / "run")
    assert (model.network.config.stage, model.network.config.head, model.loss.kind) == (-1, "simple", "mse")
    again = train(load_config(tmp_path / "run" / "config.yaml"), tmp_path / "run", resume=True)
    assert again.folder == tmp_path / "run"


@pytest.mark.parametrize(
    ("given", "option"),
    [({"loss.kind": "cross_entropy"}, "loss.kind=mse"), ({"model.stage": -2}, "model.stage=-1")],
)
def test_heads_for_a_given_loss_or_stage_are_new(file, tiny, caplog, given, option):
    caplog.set_level(logging.INFO)
    own = {"model.backbone": "vitpose_small", "model.head": "simple", "train.start": str(file)}
    method = make_method(with_options_of_start(tiny("supervised", **own, **given)), COCO, torch.Generator())
    assert f"(heads are new: its own need {option})" in caplog.text
    assert method.f.heads[0].final.weight.std() < 0.002


def test_another_backbone_is_refused_with_the_options_to_set(file, tiny):
    with pytest.raises(ConfigError, match=r"set model\.backbone=vitpose_small model\.head=simple"):
        make_method(tiny("supervised", **{"train.start": str(file)}), COCO, torch.Generator())


def test_a_name_on_the_hub_is_the_weights_of_a_backbone(monkeypatch, file):
    monkeypatch.setattr("semipose.models.weights.fetch_vitpose", {"vitpose-plus-small": file}.__getitem__)
    network, other = (
        PoseNet(ModelConfig(backbone="vitpose_small", weights=weights), 17)
        for weights in ("vitpose-plus-small", str(file))
    )
    assert all(map(torch.equal, network.backbone.state_dict().values(), other.backbone.state_dict().values()))


def test_names_on_the_hub(monkeypatch, file):
    assert hub_name("vitpose-base-simple") == hub_name("usyd-community/vitpose-base-simple") == "vitpose-base-simple"
    assert hub_name("vitpose-giant") is None
    monkeypatch.setattr(pretrained, "fetch_vitpose", lambda name: file.with_name(name))
    assert find_pretrained("vitpose-plus-huge") == file.with_name("vitpose-plus-huge")
    assert find_pretrained("no-such-run") is None


def test_a_name_that_can_not_be_fetched_is_one_line(monkeypatch):
    import huggingface_hub

    def offline(*args, **options):
        raise OSError("no network\nsecond line")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(WeightsError, match="'vitpose-base' can't be fetched") as error:
        semipose.load("vitpose-base")
    assert "\n" not in str(error.value)


def test_files_that_do_not_fit_are_one_line(tmp_path):
    tensors = small_tensors()
    headless = {n: t for n, t in tensors.items() if not n.startswith("head.")}
    lacking = {n: t for n, t in tensors.items() if "layer.3.mlp.fc1" not in n}
    wide = tensors | {"backbone.embeddings.position_embeddings": torch.zeros(1, 193, 400)}
    for content, expected in ((headless, "no head"), (lacking, "layer.3.mlp.fc1"), (wide, "width 400 and depth 12")):
        save_file(content, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match=expected) as error:
            semipose.load(tmp_path / "model.safetensors")
        assert "\n" not in str(error.value)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="leave it out"):
        semipose.load(tmp_path / "model.safetensors", "teacher")
