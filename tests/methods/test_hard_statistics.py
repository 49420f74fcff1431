"""`bn_stats_from_hard_views: false`: a student's BatchNorm averages come from labeled views alone."""

import copy

import pytest
import torch

from semipose.methods import METHODS, build_method


@pytest.mark.parametrize(("name", "student"), [("single", "f"), ("dual", "f1"), ("trs", "G"), ("akm+mixup", "f")])
def test_averages_follow_labeled_views_only(workbench, labeled, unlabeled, start, name, student):
    options = {"teacher_mode": "eval"}
    if name == "akm+mixup":
        name, options["mixup"] = "akm", {"enabled": True, "places": ["image"]}
    found = {}
    for hard in (True, False):
        method = build_method(METHODS[name][0](**options, bn_stats_from_hard_views=hard), workbench())
        alone = copy.deepcopy(getattr(method, student))
        value = method.losses(labeled, unlabeled, start)
        value.total.backward()  # gradients still flow through the hard view
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in getattr(method, student).parameters())
        alone.train()(method.context.views.recording.labeled[0].view.images)
        buffers = dict(getattr(method, student).named_buffers())
        found[hard] = all(torch.allclose(buffer, buffers[n]) for n, buffer in alone.named_buffers() if "running" in n)
    assert found == {True: False, False: True}
