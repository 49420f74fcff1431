"""`supervised`: its loss in float64 from the views it drew."""

import pytest
import torch

from semipose.methods.base import StepInfo
from semipose.methods.supervised import Config, Supervised
from tests.methods import helpers, reference


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_loss(batches, start, levels):
    labeled, unlabeled = batches
    method = Supervised(Config(levels=levels), helpers.make_context(helpers.SIZE))
    networks = helpers.doubles(method)
    value = method.losses(labeled, unlabeled, start)
    recording = method.context.views.recording
    helpers.assert_close(value.total, reference.supervised_loss(networks["f"], recording, labeled))
    assert set(value.terms) == {"supervised"}
    assert recording.easy == []


def test_it_makes_no_use_of_unlabeled_images(labeled, unlabeled, start):
    method = Supervised(Config(), helpers.make_context())
    assert not method.uses_unlabeled
    assert method.unlabeled_weight(StepInfo(9, 10)) == 0
    alone = Supervised(Config(), helpers.make_context()).losses(labeled, None, start)
    assert torch.equal(method.losses(labeled, unlabeled, start).total, alone.total)
