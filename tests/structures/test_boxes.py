"""Facts about boxes, against a plain computation, and when boxes count as different."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semipose.structures.boxes import TOLERANCE, BoxFacts, box_facts, own_boxes
from semipose.structures.instances import Instance, Instances

SIZES = {Path("a.png"): (640, 480), Path("b.png"): (320, 200)}


def instances(*boxes: tuple[str, tuple[float, float, float, float]], from_labels: bool = False) -> Instances:
    persons = (
        Instance(Path(name), n, n, box, box_from_labels=from_labels, is_crowd=name == "crowd.png")
        for n, (name, box) in enumerate(boxes)
    )
    return Instances.from_instances(persons, 2)


def test_sizes_are_those_of_a_plain_computation():
    rng = np.random.default_rng(0)
    boxes = [(["a.png", "b.png"][n % 2], tuple(rng.uniform(5, 150, 4).tolist())) for n in range(41)]
    shares = sorted(max(b[2:]) / max(SIZES[Path(name)]) for name, b in boxes)
    others = [("gone.png", (0, 0, 9, 9)), ("a.png", (0, 0, 0, 9))]
    facts = box_facts(instances(*boxes, *others), SIZES)
    assert facts.kind == "given"
    assert (facts.low, facts.size, facts.high) == pytest.approx((shares[2], shares[20], shares[38]))
    assert box_facts(instances(*others), SIZES) is None
    assert box_facts(instances(), SIZES) is None


def test_the_kind_is_that_of_most_boxes():
    whole = [("a.png", (0, 0, 640, 480)), ("b.png", (0, 0, 319.5, 200))]
    assert box_facts(instances(*whole, ("a.png", (5, 5, 40, 40))), SIZES).kind == "whole"
    assert box_facts(instances(("a.png", (5, 5, 40, 40)), from_labels=True), SIZES).kind == "joints"
    assert box_facts(instances(("a.png", (5, 5, 40, 40))), SIZES, "found").kind == "found"


@pytest.mark.parametrize(
    ("box", "from_labels", "words"),
    [
        ((0, 0, 640, 480), False, "whole images"),
        ((5, 5, 40, 40), True, "around the labels"),
        ((5, 5, 40, 40), False, "ground truth"),
    ],
)
def test_own_boxes_in_words_are_those_of_the_labeled_persons(box, from_labels, words):
    labels = {"joints": np.ones((2, 2)), "visibility": np.full(2, 2, np.int8)}
    labeled = [Instance(Path("a.png"), 1, n, box, box_from_labels=from_labels, **labels) for n in range(2)]
    others = [Instance(Path("b.png"), 2, n, (1, 1, 9, 9)) for n in range(3, 9)]
    assert own_boxes(Instances.from_instances([*labeled, *others], 2), SIZES) == words
    assert own_boxes(Instances.from_instances(others, 2), SIZES) == "ground truth"


def test_the_most_labeled_subjects_in_an_image_are_counted():
    """Unlabeled persons, such as all boxes of a video, do not count."""
    labels = {"joints": np.ones((2, 2)), "visibility": np.full(2, 2, np.int8)}
    mice = [Instance(Path(name), n, n, (5, 5, 40, 40), **labels) for n, name in enumerate(("a.png", "a.png", "b.png"))]
    crowd, boxless = replace(mice[0], is_crowd=True), replace(mice[0], box=(5, 5, 0, 40))
    unlabeled = [replace(mice[0], joints=None, visibility=None)] * 3
    for persons, subjects in ((mice, 2), ([*mice, crowd, boxless, *unlabeled], 2), (mice[1:], 1), (unlabeled, 1)):
        assert box_facts(Instances.from_instances(persons, 2), SIZES).subjects == subjects


def test_boxes_differ_in_kind_or_clearly_in_size():
    given = BoxFacts("given", 0.3, 0.2, 0.4)
    for kind, size, differ in (
        ("given", 0.3, False),
        ("joints", 0.4 * TOLERANCE * 0.99, False),
        ("found", 0.2 / TOLERANCE * 1.01, False),
        ("found", 0.2 / TOLERANCE * 0.99, True),
        ("given", 0.4 * TOLERANCE * 1.01, True),
        ("whole", 1.0, True),
        ("whole", 0.3, True),
    ):
        assert given.differ_from(BoxFacts(kind, size, size, size)) == differ, (kind, size)
    whole = BoxFacts("whole", 1.0, 1.0, 1.0)
    assert whole.differ_from(replace(given, size=0.9))
    assert not whole.differ_from(whole)


def test_facts_in_words():
    assert BoxFacts("given", 0.273, 0.2, 0.4).describe() == "boxes from a file (27% of the image's longer side)"
    assert BoxFacts("whole", 1.0, 1.0, 1.0).describe() == "the whole image"
