"""`single`: its loss in float64 from the views it drew."""

import numpy as np
import pytest
import torch

from semipose.augment.masking import JointCutout
from semipose.methods.single import Config, Single
from tests.methods import helpers, reference


@pytest.fixture
def build():
    """(method, spy): the method with augmented images that are known exactly."""

    def make(**options):
        config, spy = Config(**options), helpers.Spy()
        config.augmentations = [spy]
        return Single(config, helpers.make_context(helpers.SIZE)), spy

    return make


@pytest.mark.parametrize(("weight", "supervised_weight"), [(1.0, 1.0), (0.3, 1.0), (1.0, 0.4)])
def test_loss(build, batches, start, weight, supervised_weight):
    labeled, unlabeled = batches
    method, spy = build(unlabeled_weight=weight, supervised_weight=supervised_weight)
    f = helpers.doubles(method)["f"]
    value = method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    heatmaps = f.forward_main(recording.easy[0].images.double())
    supervised = supervised_weight * reference.supervised_loss(f, recording, labeled)
    consistency = weight * reference.consistency_loss(f, heatmaps, recording, 0)
    assert set(value.terms) == {"supervised", "unlabeled"}
    helpers.assert_close(value.terms["supervised"], supervised)
    helpers.assert_close(value.terms["unlabeled"], consistency)
    helpers.assert_close(value.total, supervised + consistency)
    np.testing.assert_allclose(spy.joints[0].numpy(), reference.decode(heatmaps)[0], atol=1e-4)


def test_the_easy_side_is_detached(build, batches, start):
    """The gradient equals that of a loss whose target is a constant."""
    labeled, unlabeled = batches
    method, _ = build()
    f = helpers.doubles(method)["f"]
    method.losses(helpers.without_joints(labeled), unlabeled, start).total.backward()
    recording = method.context.views.recording
    heatmaps = f(recording.easy[0].images.double())[:, 0].detach()
    reference.consistency_loss(f, heatmaps, recording, 0).backward()
    for (name, one), other in zip(method.f.named_parameters(), f.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=2e-3, atol=1e-6, msg=name)


def test_the_papers_joint_cutout_is_the_default():
    assert Config().augmentations == [JointCutout(joints=5, half_size_min=10, half_size_max=19, jitter=10)]
