"""Mixed forward passes of PoseNets: permutations, reference forward passes, hooks, gradients."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from semipose.errors import ConfigError
from semipose.models.feature_mixing import mixed_forward
from semipose.models.pose_net import ModelConfig, PoseNet

IMAGE, HEAD = ("image",), ("deconvolutions", "final")
BELOW = ("layer1", "layer2", "layer3")
NETWORKS = {
    "resnet10t": ({"backbone": "resnet10t"}, 1, IMAGE + BELOW + ("layer4",) + HEAD),
    "resnet10t, two": ({"backbone": "resnet10t"}, 2, IMAGE + BELOW + ("layer4",) + HEAD),
    "resnet18, -2": ({"backbone": "resnet18", "stage": -2}, 1, IMAGE + BELOW + HEAD),
    "lite0, -2": ({"backbone": "tf_efficientnet_lite0", "stage": -2}, 1, IMAGE + BELOW + HEAD),
    "hrnet": ({"backbone": "hrnet_w18_small"}, 1, IMAGE + BELOW + ("layer4",) + HEAD),
    "hrnet, two": ({"backbone": "hrnet_w18_small"}, 2, IMAGE + BELOW + ("layer4",) + HEAD),
    "convnext": ({"backbone": "convnext_atto"}, 1, (*IMAGE, "layer2", "layer3", "layer4", *HEAD)),
}
CASES = [(name, place) for name, (_, _, places) in NETWORKS.items() for place in places]
RESNETS = [(name, place) for name, place in CASES if name in ("resnet10t", "resnet18, -2")]
IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@functools.cache
def network(name):
    """A network in evaluation mode whose heatmaps depend clearly on the sample."""
    options, levels, _ = NETWORKS[name]
    torch.manual_seed(1)
    made = PoseNet(ModelConfig(weights="none", head_channels=8, **options), 5, levels)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # one pass sets the statistics
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm begins residual branches with zeros, which mix linearly
    made.train()
    with torch.no_grad():
        made.backbone(torch.randn(8, 3, 64, 64))
        for head in made.heads:
            for module in head.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    module.weight.mul_(300)
    return made.eval()


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def half(x):
    """Mixes each sample with the one before it, with weight 0.7."""
    return 0.7 * x + 0.3 * x.roll(1, 0)


def close(one, other):
    scale = float(other.abs().max())
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_differ_between_samples(name):
    """Without this the tests below could not fail."""
    with torch.no_grad():
        outputs = network(name)(IMAGES)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        for level in range(outputs.shape[1]):
            assert (outputs[i, level] - outputs[j, level]).abs().max() > 0.05 * outputs.abs().max()


@pytest.mark.parametrize("case", CASES, ids="-".join)
@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(3)))
def test_permuting_features_permutes_the_outputs(case, order):
    name, place = case
    with torch.no_grad():
        mixed = mixed_forward(network(name), IMAGES, lambda x: x[order], place)
        close(mixed, network(name)(IMAGES)[order])


@pytest.mark.parametrize(("name", "place"), CASES)
def test_identity_equals_the_plain_forward_pass(name, place):
    shapes = []
    with torch.no_grad():
        mixed = mixed_forward(network(name), IMAGES, lambda x: shapes.append(x.shape) or x, place)
        assert torch.equal(mixed, network(name)(IMAGES))
    assert shapes
    assert all(shape[0] == 3 and len(shape) == 4 for shape in shapes)


@pytest.mark.parametrize(("name", "place"), CASES)
def test_constant_features_make_outputs_independent_of_the_images(name, place):
    """Everything that reaches the outputs passes through the place."""
    with torch.no_grad():
        one, two = (mixed_forward(network(name), x, torch.ones_like, place) for x in (IMAGES, IMAGES.flip(0, 2)))
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_place_has_different_outputs(name):
    places = NETWORKS[name][2]
    with torch.no_grad():
        outputs = [mixed_forward(network(name), IMAGES, half, place) for place in places]
        outputs.append(network(name)(IMAGES))
    linear = 1e-4 * float(outputs[-1].abs().max())
    for i in range(len(outputs)):
        for j in range(i):
            equal = (outputs[i] - outputs[j]).abs().max() < linear
            # HRNet's head has no deconvolutions.
            expected = name == "hrnet" and {places[i] if i < len(places) else "", places[j]} == set(HEAD)
            assert bool(equal) is expected, (i, j)


def resnet_forward(net, images, mix, place):
    """Runs the modules of a ResNet one after the other and mixes before the one named `place`."""
    parts = net.backbone.features
    names = ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    x = mix(images) if place == "image" else images
    for name in (n for n in names if n in parts):
        x = parts[name](mix(x) if name == place else x)
    head = net.heads[0]
    x = head.deconvolutions(mix(x) if place == "deconvolutions" else x)
    return head.final(mix(x) if place == "final" else x)


@pytest.mark.parametrize(("name", "place"), RESNETS)
def test_a_resnet_forward(name, place):
    with torch.no_grad():
        expected = resnet_forward(network(name), IMAGES, half, place)
        close(mixed_forward(network(name), IMAGES, half, place)[:, 0], expected)


@pytest.mark.parametrize("place", ["layer1", "layer2", "layer3", *HEAD])
def test_efficientnet_against_its_modules(place):
    """Strides: the stem and blocks 0 end at 2, blocks 1 at 4, blocks 2 at 8, blocks 4 at 16."""
    net = network("lite0, -2")
    features, before = net.backbone.features, {"layer1": 1, "layer2": 2, "layer3": 3}.get(place)
    with torch.no_grad():
        x = features.bn1(features.conv_stem(IMAGES))
        for i in range(5):
            x = features.blocks[i](half(x) if i == before else x)
        x = net.heads[0].deconvolutions(half(x) if place == "deconvolutions" else x)
        expected = net.heads[0].final(half(x) if place == "final" else x)
        close(mixed_forward(net, IMAGES, half, place)[:, 0], expected)


@pytest.mark.parametrize("place", ["layer1", "layer2", "layer3", "layer4", *HEAD])
def test_hrnet_against_its_modules(place):
    """All branches of a stage are mixed before the transition to the next stage."""
    net = network("hrnet")
    f = net.backbone.features

    def at(name, branches):
        return [half(b) for b in branches] if name == place else branches

    with torch.no_grad():
        x = f.act2(f.bn2(f.conv2(f.act1(f.bn1(f.conv1(IMAGES))))))
        (x,) = at("layer1", [x])
        (x,) = at("layer2", [f.layer1(x)])
        branches = at("layer3", f.stage2([t(x) for t in f.transition1]))
        for name, transition, stage in (("layer4", f.transition2, f.stage3), ("", f.transition3, f.stage4)):
            made = [t(branches[-1] if i >= len(branches) else branches[i]) for i, t in enumerate(transition)]
            branches = at(name, stage(made))
        x = half(branches[0]) if place in HEAD else branches[0]
        close(mixed_forward(net, IMAGES, half, place)[:, 0], net.heads[0].final(x))


def test_mixing_with_two_levels():
    """Mixing before the last stage also mixes the features of the last but one, which level 1 uses."""
    net = network("resnet10t, two")
    parts = net.backbone.features
    with torch.no_grad():
        x = parts["maxpool"](parts["act1"](parts["bn1"](parts["conv1"](IMAGES))))
        x = half(parts["layer3"](parts["layer2"](parts["layer1"](x))))
        expected = torch.stack([net.heads[0](parts["layer4"](x)), net.heads[1](x)], dim=1)
        close(mixed_forward(net, IMAGES, half, "layer4"), expected)
        last, before = net.backbone(IMAGES)
        expected = torch.stack([net.heads[0](half(last)), net.heads[1](half(before))], dim=1)
        close(mixed_forward(net, IMAGES, half, "deconvolutions"), expected)


class BrokenError(Exception):
    """Raised by a mix."""


def refuse(x):
    raise BrokenError


@pytest.mark.parametrize(("name", "place"), CASES)
def test_hooks_are_removed(name, place):
    net = network(name)
    assert hooks(net) == 0
    during = []
    with torch.no_grad():
        plain = net(IMAGES)
        mixed_forward(net, IMAGES, lambda x: during.append(hooks(net)) or half(x), place)
        assert all((n > 0) is (place not in ("image", "deconvolutions")) for n in during)
        assert hooks(net) == 0
        with pytest.raises(BrokenError):
            mixed_forward(net, IMAGES, refuse, place)
        assert hooks(net) == 0
        assert torch.equal(net(IMAGES), plain)


def test_hooks_of_others_stay():
    net, calls = network("resnet10t"), []
    handle = net.backbone.features["layer2"].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        mixed_forward(net, IMAGES, half, "layer3")
        net(IMAGES)
    assert len(calls) == 2
    assert hooks(net) == 1
    handle.remove()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("resnet18, -2", "layer4"),
        ("convnext", "layer1"),
        ("lite0, -2", "layer4"),
    ],
)
def test_place_that_is_not_in_use_raises(name, place):
    net = network(name)
    with pytest.raises(ConfigError, match=rf"(?s)^`method\.mixup\.places`.*{place}") as error:
        mixed_forward(net, IMAGES, half, place)
    assert "\n" not in str(error.value)
    assert hooks(net) == 0


@pytest.mark.parametrize(("name", "place"), [c for c in CASES if c[0] in ("resnet10t, two", "lite0, -2", "hrnet")])
def test_gradients_flow_through_the_mix(name, place):
    """Sample 0 has gradients for the two images that it mixes, and for weights before and after the place."""
    net, images = network(name), IMAGES.clone().requires_grad_()
    net.zero_grad()
    mixed_forward(net, images, half, place)[0].sum().backward()
    assert images.grad is not None
    reached = images.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert reached.tolist() == [True, False, True]  # half mixes 0 with the one before it, which is 2
    plain = torch.autograd.grad(net(images)[0].sum(), images)[0]
    assert not torch.allclose(images.grad[0], plain[0])
    trained = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    first = next(n for n, _ in net.named_parameters())
    assert first in trained
    assert all(n in trained for n, _ in net.named_parameters() if n.endswith("final.weight"))
    net.zero_grad()


def test_batch_norm_statistics_after_the_place_are_of_mixed_samples():
    torch.manual_seed(2)
    net = PoseNet(ModelConfig(backbone="resnet10t", weights="none", head_channels=8), 5).train()
    with torch.no_grad():
        outputs = mixed_forward(net, IMAGES, lambda x: 0 * x, "layer3")
    assert torch.isfinite(outputs).all()
    assert all(m.training for m in net.modules())
    layers = net.backbone.features
    before, after = layers["layer2"][0].bn1, layers["layer3"][0].bn1
    assert before.running_mean.abs().sum() > 0
    assert after.running_mean.abs().sum() == 0
    assert before.num_batches_tracked == after.num_batches_tracked == 1
