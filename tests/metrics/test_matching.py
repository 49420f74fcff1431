"""Which prediction belongs to which person."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semipose.errors import DataError, RunError
from semipose.metrics.matching import match, match_dataset
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import infer_skeleton

FACE = infer_skeleton(["nose", "left_eye", "right_eye"], name="face")


def pose(x: float, score: float = 1.0, annotation_id: int | None = None, image: int = 1) -> Prediction:
    return Prediction(image, annotation_id, np.full((3, 2), x), np.ones(3), score, (0, 0, 50, 50))


def faces(*xs: float) -> PoseDataset:
    """Persons with ids from 0 whose three joints lie at (x, x)."""
    return PoseDataset(
        FACE,
        tuple(
            Instance(Path("x.jpg"), 1, n, (0, 0, 50, 50), np.full((3, 2), x), np.full(3, 2), 2500.0)
            for n, x in enumerate(xs)
        ),
        "faces",
    )


def test_detections_go_to_the_most_similar_pair_first() -> None:
    """The first detection is near both persons, but nearer to person 1."""
    truth = faces(10.0, 12.0)
    near_both, farther = pose(11.8), pose(8.0)
    assert match(truth, [near_both, farther]) == [farther, near_both]
    assert match(truth, [near_both]) == [None, near_both]


def test_detections_far_from_all_persons_go_to_the_nearest() -> None:
    truth = faces(0.0, 1000.0)
    left, right = pose(300.0), pose(1300.0)
    assert match(truth, [right, left]) == [left, right]


def test_annotation_ids_decide_and_the_better_scored_of_two_stays() -> None:
    truth = faces(10.0, 90.0)
    low, high, swapped = pose(10.0, 0.2, 0), pose(50.0, 0.9, 0), pose(10.0, 0.5, 1)
    assert match(truth, [low, high, swapped]) == [high, swapped]


def test_ids_that_shifted_to_other_boxes_are_detections() -> None:
    """The first of three persons was deleted and the others were numbered anew; boxes differ little or much."""
    truth = faces(10.0, 90.0, 120.0)
    boxes = np.array([(0, 0, 20, 20), (80, 80, 20, 20), (110, 110, 20, 20)], float)
    before = [replace(pose(x + 1, 1.0, n), box=tuple(boxes[n] + 1)) for n, x in enumerate((10.0, 90.0, 120.0))]
    assert match(truth.with_boxes(boxes), before) == before
    after = PoseDataset(FACE, [replace(truth[n], annotation_id=n - 1, box=tuple(boxes[n])) for n in (1, 2)], "after")
    assert match(after, before) == before[1:]


def test_a_detection_may_fill_in_and_annotation_id_0_is_an_id() -> None:
    truth = faces(10.0, 90.0)
    named, loose = pose(90.0, 1.0, 0), pose(11.0, 1.0)
    assert match(truth, [loose, named]) == [named, loose]


def test_ids_that_the_image_does_not_have_are_detections() -> None:
    """A network run on detected boxes numbers them itself."""
    truth = faces(10.0, 90.0)
    first, second = pose(88.0, 1.0, -1), pose(12.0, 1.0, -2)
    assert match(truth, [first, second]) == [second, first]


def test_only_the_twenty_best_scored_detections_of_an_image_take_part() -> None:
    truth = faces(10.0)
    exact = pose(10.0, 0.1)
    others = [pose(30.0 + n, 0.5) for n in range(20)]
    assert match(truth, [exact, *others]) == [others[0]]
    assert match(truth, [exact, *others[:19]]) == [exact]


def test_crowds_and_unlabeled_persons_take_no_prediction() -> None:
    truth = faces(10.0, 10.0, 10.0)
    crowd = replace(truth[0], is_crowd=True)
    truth = PoseDataset(FACE, (crowd, truth[1].without_labels(), truth[2]), "mixed")
    guess = pose(10.0)
    assert match(truth, [guess, pose(10.0, 1.0, 0), pose(10.0, 1.0, 1)]) == [None, None, guess]


def test_detections_match_persons_without_an_area() -> None:
    truth = faces(10.0, 40.0)
    flat = PoseDataset(FACE, tuple(replace(p, area=0.0) for p in truth.instances), "flat")
    a, b = pose(38.0), pose(9.0)
    assert match(flat, [a, b]) == [b, a]


def test_repeated_annotation_ids_are_refused() -> None:
    truth = faces(10.0)
    with pytest.raises(DataError, match="annotation id 0 occurs twice in image 1"):
        match(truth.concat(truth), [pose(10.0)])


def test_predictions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="use predictions of the same skeleton"):
        match_dataset(faces(10.0), [Prediction(1, None, np.zeros((2, 2)), np.ones(2), 1.0, (0, 0, 1, 1))])
    with pytest.raises(RunError, match="diverged"):
        match_dataset(faces(10.0), [pose(float("nan"))])
    with pytest.raises(DataError, match="none of 1 predictions"):
        match_dataset(faces(10.0), [pose(10.0, image=5)])
