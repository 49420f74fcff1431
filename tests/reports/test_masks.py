"""Masks on easy and hard persons: how many, and what they cover."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.augment.masking import AdaptiveJointCutout, JointCutout
from semipose.config import load_config
from semipose.data.datasets import read_dataset
from semipose.reports.masks import mask_chart, mask_sheet, masked_persons, masks_of
from semipose.reports.runs import open_run

ADAPTIVE, FIXED = AdaptiveJointCutout(hard_peak=0), JointCutout()


@pytest.fixture(scope="module")
def model(finished_run):
    return open_run(finished_run).network()


@pytest.fixture(scope="module")
def persons():
    return read_dataset("people", None, "val").subset(range(20))


@pytest.fixture(scope="module")
def masked(model, persons):
    return masked_persons(model, persons, ADAPTIVE, FIXED, candidates=10)


def test_the_number_of_masks_is_that_of_the_paper(masked):
    assert len(masked) == 10
    for person in masked:
        scores = person.scores.astype(np.float64)
        easy = sum((scores.max() - s) / (scores.max() - scores.min()) < 0.5 for s in scores)
        assert person.count == max(2, int(easy * 8 / 17 + 0.5))


def test_the_easiest_person_is_first(masked):
    keys = [(person.count, person.peak) for person in masked]
    assert keys == sorted(keys, reverse=True)


def test_masks_cover_squares_around_predicted_joints(masked):
    """Sizes are those of 256×192, scaled; no offset from the joint is above five standard deviations."""
    factor = (32 * 32 / (256 * 192)) ** 0.5
    largest = (2 * round(19 * factor) + 1) ** 2
    for person in masked:
        for mask, count in ((person.adaptive, person.count), (person.fixed, FIXED.joints)):
            assert mask.shape == (32, 32)
            assert mask.sum() <= count * largest
            for y, x in np.argwhere(mask):
                assert np.abs(person.joints - (x, y)).max(axis=1).min() <= 19 * factor + 5 * 10 * factor + 1


def test_joints_without_labels_get_no_masks(model, persons):
    nothing_but_nose = replace(model, unlearned_joints=persons.skeleton.joints[1:])
    for person in masked_persons(nothing_but_nose, persons, ADAPTIVE, JointCutout(jitter=0), candidates=10):
        assert (person.scores[1:] == 0).all()
        assert person.peak == pytest.approx(person.scores[0])
        y, x = np.argwhere(person.fixed).T
        nose = np.clip(person.joints[0], 0, 31)
        assert np.hypot(x.mean() - nose[0], y.mean() - nose[1]) < 3


def test_masks_are_the_same_each_time(model, persons, masked):
    again = masked_persons(model, persons, ADAPTIVE, FIXED, candidates=10)
    assert all((a.adaptive == b.adaptive).all() and a.index == b.index for a, b in zip(masked, again, strict=True))


def test_the_sheet_shows_easy_and_hard_persons(model, persons, masked):
    sheet = mask_sheet(model, persons, masked, FIXED, each=2)
    chosen = [masked[0], masked[1], masked[-1], masked[-2]]
    kinds = ["easy", "easy", "hard", "hard"]
    assert [row.label for row in sheet.rows] == [
        f"{kind}: person {persons[person.index].annotation_id}" for kind, person in zip(kinds, chosen, strict=True)
    ]
    for row, person in zip(sheet.rows, chosen, strict=True):
        _, fixed, adaptive = row.tiles
        assert fixed.caption.startswith("5 masks, ")
        assert adaptive.caption == f"{person.count} masks, {100 * person.adaptive.mean():.0f} % covered"
        assert adaptive.image.shape == (256, 256, 3)


def test_the_chart_counts_persons(masked):
    chart = mask_chart(masked)
    assert chart.url.startswith("data:image/svg")


def test_which_methods_have_adaptive_masks(tiny_run):
    def config(method, **options):
        return load_config(None, {**tiny_run, "method": method, **options}).method

    adaptive, fixed = masks_of(config("akm"))
    assert isinstance(adaptive, AdaptiveJointCutout)
    assert fixed == JointCutout()
    both = config("trs", **{"method.augmentations": ["adaptive_joint_cutout", {"kind": "joint_cutout", "joints": 3}]})
    assert masks_of(both)[1].joints == 3
    assert masks_of(config("single")) is None
    assert masks_of(config("supervised")) is None
