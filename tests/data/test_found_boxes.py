"""Boxes around labels, and boxes that were found, in the sets of a run."""

from pathlib import Path

import numpy as np
import pytest

from semipose.data.datasets import DataSplits
from semipose.data.found_boxes import (
    MARGIN,
    ONE_PLACE,
    around_joints,
    other_sets,
    read_boxes,
    save_boxes,
    with_boxes_of_run,
    with_found_boxes,
)
from semipose.data.splits import Split
from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import infer_skeleton

SKELETON = infer_skeleton(["nose", "back", "tail"])


def person(number, points, visibility=(2, 2, 2)):
    whole = (0, 0, 64, 48)
    return Instance(
        Path(f"{number}.png"), number, number, whole, np.array(points, float), np.array(visibility, np.int8)
    )


def splits():
    labeled = [person(1, [[5, 6], [15, 10], [40, 50]], (2, 1, 0)), person(2, [[5, 6], [5, 6], [9, 9]], (2, 2, 0))]
    sets = [PoseDataset(SKELETON, [person(n + 3, np.ones((3, 2)))], "labels.json") for n in range(2)]
    return DataSplits(PoseDataset(SKELETON, labeled, "labels.json"), *sets, None, Split((), (), (), (), 0, 4))


def test_a_box_is_the_extent_of_the_labeled_joints_with_a_margin_of_its_longer_side():
    (found,) = around_joints(splits().labeled).instances
    margin = MARGIN * 10 + 1
    assert found.box == pytest.approx((5 - margin, 6 - margin, 10 + 2 * margin, 4 + 2 * margin))
    assert found.box_from_labels
    with pytest.raises(ConfigError, match=ONE_PLACE):
        around_joints(splits().labeled.subset([1]))


def test_other_sets_get_the_found_boxes():
    boxes = {"unlabeled": np.array([[1.0, 2, 3, 4]]), "validation": np.array([[5.0, 6, 7, 8]])}
    found = with_found_boxes(splits(), boxes)
    assert len(found.labeled) == 1
    assert found.account.left_out == {ONE_PLACE: 1}
    assert {name: persons[0].box for name, persons in other_sets(found)} == {
        "unlabeled": (1, 2, 3, 4),
        "validation": (5, 6, 7, 8),
    }
    with pytest.raises(ConfigError, match="0 boxes were found for the validation set, which now has 1 person"):
        with_found_boxes(splits(), {"unlabeled": boxes["unlabeled"]})


def test_a_run_folder_keeps_the_boxes(tmp_path):
    before = splits()
    assert read_boxes(tmp_path) is None
    assert with_boxes_of_run(before, tmp_path) is before
    save_boxes(tmp_path, {"unlabeled": np.array([[1.25, 2, 3, 4]]), "validation": np.array([[5.0, 6, 7, 8.5]])})
    found = with_boxes_of_run(before, tmp_path)
    assert (found.unlabeled[0].box, found.validation[0].box) == ((1.25, 2, 3, 4), (5, 6, 7, 8.5))
