"""Optimizers and learning-rate schedules."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from semipose.methods.base import Method
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.training.config import TrainConfig
from semipose.training.optim import OPTIMIZERS, SCHEDULES, OptimConfig, build_optimizer, learning_rate


def test_step_drops_after_a_warm_up():
    config = OptimConfig(lr=0.1, drops=(0.7, 0.9), drop_factor=0.1, warm_up=4)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[69] == pytest.approx(0.1)
    assert rates[70] == rates[89] == pytest.approx(0.01)
    assert rates[90] == rates[99] == pytest.approx(0.001)


def test_cosine_falls_from_the_full_rate_to_zero():
    config = OptimConfig(lr=0.1, schedule="cosine")
    assert [learning_rate(config, step, 100) for step in (0, 50, 100)] == pytest.approx([0.1, 0.05, 0.0])


def test_the_schedule_starts_again_at_restarts():
    config = OptimConfig(lr=1.0, drops=(0.5,), drop_factor=0.1, warm_up=2)
    rates = [learning_rate(config, step, 10, restarts=(0.35,)) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 0.1, 0.1, 0.5, 1, 1, 0.1, 0.1, 0.1])


class OneNetwork(nn.Module):
    """The part of a method that the optimizer sees: a network, a bare parameter, and groups with factors."""

    def __init__(self, network):
        super().__init__()
        self.network, self.other = network, nn.Parameter(torch.ones(2))

    def parameter_groups(self):
        return [{"params": list(self.network.parameters())}, {"params": [self.other], "lr_scale": 0.5}]


def network(backbone="resnet18", **options):
    return PoseNet(ModelConfig(backbone=backbone, weights="none", head_channels=8, **options), 3)


def groups_by_name(config, method):
    """The weight decay and the factor of the rate of each parameter, by name."""
    names = {id(p): n for n, p in method.named_parameters()}
    groups = build_optimizer(config, method, torch.device("cpu")).param_groups
    found = {names[id(p)]: (g["weight_decay"], g["lr_scale"]) for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(found)
    return found


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_only_trained_parameters_are_optimized(name, kind):
    method = nn.Linear(2, 2)
    method.bias.requires_grad_(False)
    config = OptimConfig(optimizer=name, lr=0.5, weight_decay=0.25)
    method.parameter_groups = Method.parameter_groups.__get__(method)
    optimizer = build_optimizer(config, method, torch.device("cpu"))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert [p is method.weight for p in group["params"]] == [True]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.5, 0.25, True)


def test_the_papers_settings_divide_no_group():
    groups = build_optimizer(OptimConfig(), OneNetwork(network()), torch.device("cpu")).param_groups
    assert [(g["weight_decay"], g["lr_scale"]) for g in groups] == [(0, 1), (0, 0.5)]


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_norms_biases_and_embeddings_do_not_decay(layer_decay):
    method = OneNetwork(network("vit_tiny_patch16_224"))
    config = OptimConfig(optimizer="adamw", weight_decay=0.1, layer_decay=layer_decay)
    found = {n: decay for n, (decay, _) in groups_by_name(config, method).items() if n != "other"}
    matrices = {n for n, p in method.named_parameters() if n in found and p.ndim > 1}
    embeddings = {n for n in found if n.endswith(("pos_embed", "cls_token"))}
    assert len(embeddings) == 2
    assert found == {n: 0.1 if n in matrices - embeddings else 0.0 for n in found}


def test_the_backbone_has_its_own_rate():
    config = OptimConfig(backbone_rate=0.1)
    found = groups_by_name(config, OneNetwork(network()))
    assert {n: s for n, (_, s) in found.items()} == {
        n: 0.1 if n.startswith("network.backbone") else 0.5 if n == "other" else 1.0 for n in found
    }


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("vit_tiny_patch16_224", ["model.cls_token", *(f"model.blocks.{i}.attn.qkv.weight" for i in range(12))]),
        ("resnet18", ["conv1.weight", *(f"layer{i}.{j}.conv1.weight" for i in range(1, 5) for j in range(2))]),
        ("convnext_atto", ["stem_0.weight", "stages_0.blocks.0.conv_dw.weight", "stages_0.blocks.1.conv_dw.weight"]),
        ("tf_efficientnet_lite0", ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.1.0.conv_pw.weight"]),
    ],
)
def test_the_rate_decays_from_layer_to_layer(backbone, layers):
    """BEiT: the rate of layer l of L is the base rate times decay to the power of L - l; heads have the base rate."""
    method = OneNetwork(network(backbone))
    found = groups_by_name(OptimConfig(layer_decay=0.5, backbone_rate=0.25), method)
    heads = [scale for n, (_, scale) in found.items() if n.startswith("network.heads")]
    assert set(heads) == {1.0}
    scales = [found[f"network.backbone.features.{n}"][1] for n in layers]
    assert [b / a for a, b in pairwise(scales)] == pytest.approx([2] * (len(layers) - 1))
    highest = max(scale for n, (_, scale) in found.items() if n.startswith("network.backbone"))
    assert highest in (0.25, 0.125)  # a final norm is a layer of its own in timm


def test_methods_and_options_multiply_the_rate():
    method = OneNetwork(network())
    method.parameter_groups = lambda: [{"params": list(method.network.parameters()), "lr_scale": 0.1}]
    found = {n.split(".")[1]: s for n, (_, s) in groups_by_name(OptimConfig(backbone_rate=0.5), method).items()}
    assert found == pytest.approx({"backbone": 0.05, "heads": 0.1})


def test_a_new_optimizer_is_one_entry(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "sgd", lambda parameters, config, fused: torch.optim.SGD(parameters, lr=config.lr))
    monkeypatch.setitem(SCHEDULES, "constant", lambda config, step, steps: 1.0)
    config = TrainConfig(optimizer="sgd", schedule="constant")
    method = OneNetwork(nn.Linear(1, 1))
    assert isinstance(build_optimizer(config, method, torch.device("cpu")), torch.optim.SGD)
    assert learning_rate(config, 99, 100) == config.lr


@pytest.mark.parametrize("option", ["optimizer", "schedule"])
def test_unknown_names_are_refused_with_the_known_ones(option):
    with pytest.raises(ValidationError, match=r"known: (adam, adamw|step, cosine)"):
        OptimConfig(**{option: "other"})
