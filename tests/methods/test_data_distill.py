"""`data_distill`: the teacher's heatmaps averaged over transforms, in float64, and the loss with them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from semipose.methods.base import StepInfo
from semipose.methods.data_distill import Config, DataDistill
from semipose.structures.skeletons import LSP
from tests.methods import helpers, reference


@pytest.fixture
def build():
    """The method with all BatchNorm statistics away from their start."""

    def make(size=helpers.SIZE, **options):
        config = Config(**options)
        config.augmentations = [helpers.Spy()]
        method = DataDistill(config, helpers.make_context(size))
        helpers.move_statistics(method)
        return method

    return make


def mirrored(names):
    """Index of each joint's mirror image, by name."""
    other = {n: n.replace("left", "right") if "left" in n else n.replace("right", "left") for n in names}
    return [names.index(other[n]) for n in names]


def distilled(teacher, easy, scales, flips):
    """Mean over t of t⁻¹ teacher(t(easy)), in float64; a cell averages the transformed views that cover it."""
    height, width = easy.shape[-2:]
    total = views = 0.0
    for scale in scales:
        for flipped in flips:
            matrix = np.array([[scale, 0, (1 - scale) * (width - 1) / 2], [0, scale, (1 - scale) * (height - 1) / 2]])
            matrix = np.vstack([matrix, [0, 0, 1]])
            if flipped:
                matrix = matrix @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
            matrices = torch.from_numpy(matrix).expand(len(easy), 3, 3)
            maps = teacher(reference.warp(easy, matrices))[:, 0].detach()
            if flipped:
                maps = maps[:, mirrored(LSP.joints)]
            warped, seen = reference.warp_heatmaps(maps, torch.linalg.inv(matrices))
            total, views = total + warped * seen, views + seen
    return torch.where(views > 0, total / views, 0.0)


def test_loss(build, batches):
    labeled, unlabeled = batches
    method = build()
    networks = helpers.doubles(method)
    value = method.losses(labeled, unlabeled, StepInfo(3, 10))  # burn_in is .3 by default
    recording = method.context.views.recording
    easy = recording.easy[0].images.double()
    maps = distilled(networks["teacher"].eval(), easy, (0.9, 1.0, 1.1), (False, True))
    consistency = reference.consistency_loss(networks["f"], maps, recording, 0)
    helpers.assert_close(value.terms["unlabeled"], consistency)
    helpers.assert_close(value.total, reference.supervised_loss(networks["f"], recording, labeled) + consistency)


def test_the_teacher_is_trained_first(build, batches, start):
    labeled, unlabeled = batches
    method = build()
    assert set(method.losses(labeled, unlabeled, start).terms) == {"teacher"}
    assert method.schedule_restarts == (0.3,)


def test_flip_and_three_scales_are_the_default():
    config = Config()
    assert sorted(config.teacher_scales) == [0.9, 1.0, 1.1]
    assert config.teacher_flip


@pytest.mark.parametrize(
    ("scales", "flip"),
    [((1.0, 0.9, 1.1), True), ((1.0, 0.9, 1.1), False), ((1.0,), True), ((1.1,), False), ((0.8, 1.4), True)],
)
def test_the_mean_over_transforms(build, batches, scales, flip):
    _, unlabeled = batches
    method = build(teacher_scales=scales, teacher_flip=flip)
    teacher, before = copy.deepcopy(method.teacher).double().eval(), helpers.state(method.teacher)
    easy = method.context.views.easy(unlabeled)
    maps = method.teacher_heatmaps(easy)
    expected = distilled(teacher, easy.images.double(), scales, (False, True)[: 1 + flip])
    torch.testing.assert_close(maps.double(), expected, rtol=1e-3, atol=1e-4)
    assert not maps.requires_grad
    assert helpers.same(method.teacher, before)


def test_a_single_scale_without_flip_is_pseudopose(build, batches):
    _, unlabeled = batches
    method = build(teacher_scales=(1.0,), teacher_flip=False)
    easy = method.context.views.easy(unlabeled)
    plain = method.context.pseudo_heatmaps(method.teacher, easy, Config(teacher_mode="eval"))
    torch.testing.assert_close(method.teacher_heatmaps(easy), plain, rtol=1e-3, atol=1e-4)


class Equivariant(nn.Module):
    """Heatmap k = the image at a quarter of its size times 1 + side_k / 2 · cos of the angle about the center.

    side_k is 1 for right joints, -1 for left ones, 0 for others: a mirror exchanges them, a scale changes nothing.
    """

    def __init__(self):
        super().__init__()
        side = [("right" in n) - ("left" in n) for n in LSP.joints]
        self.register_buffer("side", torch.tensor(side, dtype=torch.float32).view(1, -1, 1, 1))

    def forward_main(self, images):
        small = nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 4)
        height, width = small.shape[-2:]
        x, y = torch.arange(width) - (width - 1) / 2, torch.arange(height)[:, None] - (height - 1) / 2
        return small * (1 + 0.5 * self.side * x / torch.hypot(x, y))


@pytest.mark.parametrize("scales", [(1.0,), (0.9,), (1.1,), (0.9, 1.0, 1.1)])
@pytest.mark.parametrize("flip", [False, True])
def test_an_equivariant_network_gives_the_same_heatmaps_for_every_transform(build, unlabeled, scales, flip):
    """Interpolation costs up to .02 here (about an eighth of the curvature).

    Half a cell's shift costs .1 and more, exchanged sides .5 and more.

    Left out are 4 cells at the border, where the changed view shows less, and 6 about the center, where the angle
    changes fast.
    """
    size = (160, 128)
    method = build(size=size, teacher_scales=scales, teacher_flip=flip)
    method.teacher = Equivariant()
    y, x = torch.arange(size[0])[:, None] / 80, torch.arange(size[1]) / 80
    waves = [torch.sin(4 * x + k) * torch.cos(2 * y - k) + torch.sin(2.5 * y + k) for k in range(4)]
    images = torch.stack(waves)[:, None].expand(-1, 3, -1, -1).float()
    easy = method.context.views.easy(unlabeled)
    easy = type(easy)(images, easy.from_crop, easy.flipped)
    plain, maps = method.teacher.forward_main(images), method.teacher_heatmaps(easy)
    h, w = plain.shape[-2:]
    v, u = torch.arange(h)[:, None] - (h - 1) / 2, torch.arange(w) - (w - 1) / 2
    inner = (torch.hypot(u, v) > 6) & (u.abs() < w / 2 - 4) & (v.abs() < h / 2 - 4)
    assert inner.sum() > 300
    error = (maps - plain).abs()[:, :, inner].max()
    shifted = ((plain[..., 1:] - plain[..., :-1]) / 2).abs()[:, :, inner[:, 1:]].max()
    exchanged = (plain - plain[:, list(LSP.flip_order)]).abs().max()
    assert shifted > 0.1
    assert exchanged > 0.5
    assert error < 0.02
