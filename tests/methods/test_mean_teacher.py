"""`mean_teacher`: its loss in float64 from the views it drew, and the teacher's average."""

import copy

import numpy as np
import pytest
import torch

from semipose.augment.masking import JointCutout
from semipose.methods.base import StepInfo
from semipose.methods.mean_teacher import Config, MeanTeacher
from tests.methods import helpers, reference


@pytest.fixture
def build():
    """(method, spy): the method with augmented images that are known exactly."""

    def make(**options):
        config, spy = Config(**options), helpers.Spy()
        config.augmentations = [spy]
        return MeanTeacher(config, helpers.make_context(helpers.SIZE)), spy

    return make


def test_loss(build, batches, start):
    labeled, unlabeled = batches
    method, spy = build()
    with torch.no_grad():
        for parameter in method.teacher.parameters():  # it starts as a copy; a mix-up must show
            parameter.mul_(0.8)
    networks = helpers.doubles(method)
    value = method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    heatmaps = networks["teacher"].forward_main(recording.easy[0].images.double())
    consistency = reference.consistency_loss(networks["f"], heatmaps, recording, 0)
    helpers.assert_close(value.terms["unlabeled"], consistency)
    helpers.assert_close(value.total, reference.supervised_loss(networks["f"], recording, labeled) + consistency)
    np.testing.assert_allclose(spy.joints[0].numpy(), reference.decode(heatmaps)[0], atol=1e-4)


@pytest.mark.parametrize(("step", "keep"), [(0, 0.1), (5, 6 / 15), (100_000, 0.9)])
def test_the_teacher_follows_the_student(build, batches, start, step, keep):
    labeled, _ = batches
    method, _ = build(momentum=0.9)
    method.losses(labeled, None, start)  # the student's running statistics move
    with torch.no_grad():
        for parameter in method.f.parameters():
            parameter.add_(1)
    teacher, student = copy.deepcopy(method.teacher.state_dict()), copy.deepcopy(method.f.state_dict())
    method.after_step(StepInfo(step, 200_000))
    for name, tensor in method.teacher.state_dict().items():
        if tensor.is_floating_point():
            value = keep * teacher[name].double() + (1 - keep) * student[name].double()
            torch.testing.assert_close(tensor.double(), value, rtol=1e-5, atol=1e-6, msg=name)
        else:
            assert torch.equal(tensor, student[name])
    assert helpers.same(method.f, student)
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_the_papers_joint_cutout_is_the_default():
    assert Config().augmentations == [JointCutout(joints=5, half_size_min=10, half_size_max=19, jitter=10)]
