"""`dual`: its loss in float64 from the views it drew."""

import numpy as np
import pytest
import torch

from semipose.augment.masking import JointCutout
from semipose.methods.dual import Config, Dual
from tests.methods import helpers, reference


@pytest.fixture
def build():
    """(method, spy): the method with augmented images that are known exactly."""

    def make(**options):
        config, spy = Config(**options), helpers.Spy()
        config.augmentations = [spy]
        return Dual(config, helpers.make_context(helpers.SIZE)), spy

    return make


def test_loss(build, batches, start):
    labeled, unlabeled = batches
    method, spy = build()
    networks = helpers.doubles(method)
    inputs = {"f1": [], "f2": []}
    for name, images in inputs.items():
        getattr(method, name).register_forward_hook(lambda module, args, output, images=images: images.append(args[0]))
    value = method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    easy = recording.easy[0].images.double()
    heatmaps = {name: network.forward_main(easy) for name, network in networks.items()}
    # Which of the two hard views was augmented around whose joints; the spy keeps the order of making.
    joints = {name: reference.decode(maps)[0] for name, maps in heatmaps.items()}
    order = ["f1" if np.allclose(j.numpy(), joints["f1"], atol=1e-4) else "f2" for j in spy.joints]
    assert sorted(order) == ["f1", "f2"]
    hard1, hard2 = order.index("f1"), order.index("f2")
    assert torch.equal(recording.hard[0].from_easy, recording.hard[1].from_easy)
    assert torch.equal(inputs["f1"][-1], recording.hard[hard2].images)
    assert torch.equal(inputs["f2"][-1], recording.hard[hard1].images)
    first = reference.consistency_loss(networks["f1"], heatmaps["f2"], recording, hard2)
    second = reference.consistency_loss(networks["f2"], heatmaps["f1"], recording, hard1)
    supervised = 0.5 * sum(reference.supervised_loss(network, recording, labeled) for network in networks.values())
    helpers.assert_close(value.terms["unlabeled_1"], first)
    helpers.assert_close(value.terms["unlabeled_2"], second)
    helpers.assert_close(value.terms["supervised"], supervised)
    helpers.assert_close(value.total, supervised + first + second)


def test_two_different_networks_with_their_backbones(build):
    method, _ = build(backbones={"f2": "narrow"})
    assert method.context.views.recording.networks == [(None, 1), ("narrow", 1)]
    same, _ = build()
    assert not torch.equal(same.f1.stem[0].weight, same.f2.stem[0].weight)


def test_the_papers_joint_cutout_is_the_default():
    assert Config().augmentations == [JointCutout(joints=5, half_size_min=10, half_size_max=19, jitter=10)]


def test_a_negative_supervised_weight_is_an_error():
    with pytest.raises(ValueError, match="supervised_weight"):
        Config(supervised_weight=-1)
