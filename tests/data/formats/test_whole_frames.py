"""Boxes of formats that have none."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.data.formats.whole_frames import NO_AREA, dataset_without_boxes, require_one_subject, with_whole_images
from semipose.errors import ConfigError, DataError
from semipose.structures.categories import ANIMAL
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import infer_skeleton
from tests.data.formats.conftest import save_image

SKELETON = infer_skeleton(["nose", "tail"])


def animal(path, number: int, points, visibility=(2, 2)) -> Instance:
    return Instance(path, 1, number, NO_AREA, np.array(points, float), np.array(visibility, np.int8))


def test_one_animal_is_the_frame_and_several_are_their_joints(tmp_path):
    save_image(tmp_path / "a.png", (40, 30))
    one = animal(tmp_path / "a.png", 1, [[5, 5], [15, 25]])
    (found,) = dataset_without_boxes(SKELETON, ANIMAL, [one], tmp_path).instances
    assert found.box == (0, 0, 40, 30)
    assert not found.box_from_labels
    assert found.area == pytest.approx(0.53 * 14 * 26)
    two = animal(tmp_path / "a.png", 2, [[1, 1], [0, 0]], (2, 0))
    persons = dataset_without_boxes(SKELETON, ANIMAL, [one, two], tmp_path)
    assert [p.box for p in persons.instances] == [(3, 2, 14, 26)]
    assert persons.boxes_from_labels == sum(persons.left_out.values()) == 1
    with pytest.raises(DataError, match="no usable animal"):
        dataset_without_boxes(SKELETON, ANIMAL, [two, two], tmp_path)
    with pytest.raises(DataError, match="no labeled image"):
        dataset_without_boxes(SKELETON, ANIMAL, [], tmp_path)


def test_small_poses_in_whole_frames_are_reported(tmp_path, caplog):
    caplog.set_level("INFO")
    save_image(tmp_path / "a.png", (400, 300))
    for end, hint in (((29, 36), ": train with `boxes=auto`"), ((300, 200), "")):
        caplog.clear()
        dataset_without_boxes(SKELETON, ANIMAL, [animal(tmp_path / "a.png", 1, [[5, 4], end])], tmp_path)
        assert ("where poses are small (40 of 400 px)" + hint in caplog.text) == bool(hint)
        assert caplog.text.count("has no boxes: the box of each animal is the whole frame") == 1


def test_images_that_cannot_be_opened(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    animals = [animal(tmp_path / "a.png", 1, [[1, 1], [2, 2]])]
    animals.append(Instance(tmp_path / "b.png", 2, 2, NO_AREA, animals[0].joints, animals[0].visibility))
    with pytest.raises(DataError, match=r"b\.png is missing or can't be opened"):
        dataset_without_boxes(SKELETON, ANIMAL, animals, tmp_path)
    problems: list[str] = []
    assert len(dataset_without_boxes(SKELETON, ANIMAL, animals, tmp_path, problems)) == len(problems) == 1


def test_given_boxes_are_replaced_by_the_image(tmp_path):
    persons = [Instance(tmp_path / name, n, n, (3, 3, 5, 5)) for n, name in enumerate(("a.png", "gone.png"))]
    dataset = PoseDataset(SKELETON, persons, "labels.json")
    found = with_whole_images(dataset, {tmp_path / "a.png": (40, 30, False)})
    assert [p.box for p in found.instances] == [(0, 0, 40, 30), (3, 3, 5, 5)]


def test_several_labeled_animals_in_an_image_are_refused(tmp_path):
    one, two = (animal(tmp_path / "a.png", n, [[n, 1], [9, 9]]) for n in (1, 2))
    alone = [one, replace(two, is_crowd=True), two.without_labels()]
    require_one_subject(PoseDataset(SKELETON, alone, "labels.json"), "auto", "leave it out")
    refusal = r"`boxes=auto` is one box an image, but 1 image of labels.json has several .*a\.png\); leave it out"
    with pytest.raises(ConfigError, match=refusal):
        require_one_subject(PoseDataset(SKELETON, [one, two], "labels.json"), "auto", "leave it out")
