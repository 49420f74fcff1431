"""Boxes around labels, and boxes that were found, in the sets of a run."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.data.datasets import DataSplits
from semipose.data.found_boxes import (
    MARGIN,
    ONE_PLACE,
    around_joints,
    centers_in_images,
    read_boxes,
    save_boxes,
    unfound_sets,
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
    boxes = {"unlabeled": [np.array([[1.0, 2, 3, 4]])], "validation": [np.array([[5.0, 6, 7, 8]])]}
    found = with_found_boxes(splits(), boxes)
    assert len(found.labeled) == 1
    assert found.account.left_out == {ONE_PLACE: 1}
    assert {name: persons[0].box for name, persons in unfound_sets(found)} == {
        "unlabeled": (1, 2, 3, 4),
        "validation": (5, 6, 7, 8),
    }
    with pytest.raises(ConfigError, match="boxes were found in 0 images of the validation set, which now has 1"):
        with_found_boxes(splits(), {"unlabeled": boxes["unlabeled"]})


def test_a_run_folder_keeps_the_boxes(tmp_path, caplog):
    before = splits()
    assert read_boxes(tmp_path) is None
    assert with_boxes_of_run(before, tmp_path) is before
    save_boxes(tmp_path, {"unlabeled": [np.array([[1.25, 2, 3, 4]])], "validation": [np.array([[5.0, 6, 7, 8.5]])]})
    found = with_boxes_of_run(before, tmp_path)
    assert (found.unlabeled[0].box, found.validation[0].box) == ((1.25, 2, 3, 4), (5, 6, 7, 8.5))
    other = PoseDataset(SKELETON, [person(n, np.ones((3, 2))) for n in (8, 9)], "more")
    changed = with_boxes_of_run(replace(before, unlabeled=other), tmp_path)
    assert (changed.unlabeled, changed.validation[0].box) == (None, (5, 6, 7, 8.5))
    assert "the unlabeled set has 2 images now" in caplog.text


def two_in_an_image(folder, joints=True):
    """Three persons: two in the first of two images of 64×48 pixels."""
    points = [[[5, 6], [15, 10], [40, 50]], [[30, 30], [40, 34], [0, 0]], [[2, 2], [22, 22], [12, 12]]]
    persons = []
    for number, (name, own) in enumerate(zip(("a.png", "a.png", "b.png"), points, strict=True), 1):
        cv2.imwrite(str(folder / name), np.zeros((48, 64, 3), np.uint8))
        found = replace(person(number, own, (2, 2, 0)), image=folder / name, image_id=name, individual=f"fly {number}")
        persons.append(found if joints else found.without_labels())
    return PoseDataset(SKELETON, persons, "labels.slp")


def test_centers_are_those_of_the_boxes_around_the_joints(tmp_path):
    images = centers_in_images(two_in_an_image(tmp_path))
    assert [i.box for i in images.instances] == [(0, 0, 64, 48)] * 2
    assert [i.individual for i in images.instances] == [None, None]
    assert images.skeleton.interchangeable
    np.testing.assert_array_equal(images.instances.visibility, [[2, 2], [2, 0]])
    # The middle of pixels that a box covers: half a pixel left of and above the middle of the extent, as in COCO.
    np.testing.assert_allclose(images.instances.joints[0], [[9.5, 7.5], [34.5, 31.5]])
    np.testing.assert_allclose(images.instances.joints[1][0], [11.5, 11.5])


def test_images_with_several_persons_get_as_many_boxes_as_are_found(tmp_path):
    labeled = two_in_an_image(tmp_path)
    split = Split((), (), (), (), 0, 3)
    sets = DataSplits(labeled, two_in_an_image(tmp_path, joints=False), labeled, None, split, shown=labeled)
    assert [(name, len(images)) for name, images in unfound_sets(sets)] == [("unlabeled", 2)]
    boxes = [np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.zeros((0, 4))]
    save_boxes(tmp_path, {"unlabeled": boxes})
    found = with_boxes_of_run(sets, tmp_path)
    assert [(p.image_id, p.box, p.annotation_id) for p in found.unlabeled.instances] == [
        ("a.png", (1, 2, 3, 4), -1),
        ("a.png", (5, 6, 7, 8), -2),
    ]
    assert found.account.left_out == {"images in which the box network finds no subject": 1}
    assert found.unlabeled.empty_images == (("b.png", tmp_path / "b.png"),)
    around = [p.box for p in around_joints(labeled).instances]
    assert [p.box for p in found.labeled.instances] == [p.box for p in found.validation.instances] == around
    with pytest.raises(
        ConfigError, match="only images in which the box network finds no subject; give boxes, more labels"
    ):
        with_found_boxes(sets, {"unlabeled": [np.zeros((0, 4))] * 2})


def test_centers_of_persons_without_joints_are_those_of_their_boxes(tmp_path):
    persons = list(two_in_an_image(tmp_path).instances)
    persons[1] = replace(persons[1].without_labels(), box=(20, 10, 11, 21))
    images = centers_in_images(PoseDataset(SKELETON, persons, "labels.json"))
    np.testing.assert_allclose(images.instances.joints[0], [[9.5, 7.5], [25, 20]])
    persons[0] = replace(persons[0], is_crowd=True)
    images = centers_in_images(PoseDataset(SKELETON, persons, "labels.json"))
    assert [i.image.name for i in images.instances] == ["b.png"]  # a crowd has no center
    with pytest.raises(ConfigError, match=r"every image of labels\.json has a crowd; give boxes of a detector"):
        centers_in_images(PoseDataset(SKELETON, persons[:2], "labels.json"))


def test_held_out_persons_that_get_no_box_are_counted(tmp_path):
    labeled = two_in_an_image(tmp_path)
    one_joint = [replace(p, visibility=np.array([2, 0, 0], np.int8)) for p in labeled.instances]
    validation = PoseDataset(SKELETON, [*labeled.instances, one_joint[0]], "val.slp")
    sets = DataSplits(labeled, None, validation, None, Split((), (), (), (), 0, 3), shown=labeled)
    found = with_found_boxes(sets, {})
    assert len(found.validation) == 3
    assert found.account.left_out == {f"of the validation set: {ONE_PLACE}": 1}
