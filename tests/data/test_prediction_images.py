"""The images and person boxes that predictions are made for."""

import json
from pathlib import Path

import pytest

from semipose.data.prediction_images import prediction_dataset
from semipose.errors import ConfigError, DataError
from semipose.structures.categories import Category
from semipose.structures.skeletons import COCO
from tests.data.formats.conftest import save_coco, save_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_image(tmp_path / "images" / "a.jpg")
    save_image(tmp_path / "images" / "deep" / "b.jpg")
    return tmp_path


def boxes(folder: Path, image_id: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps([{"image_id": image_id, "bbox": [1, 2, 3, 4], "score": 0.7, "category_id": 1}]))
    return path


def test_an_image_or_a_folder_is_one_person_an_image(folder):
    problems: list[str] = []
    (alone,) = prediction_dataset(folder / "images" / "a.jpg", COCO, None, None, 0.0, problems).instances
    assert (alone.image.name, alone.box) == ("a.jpg", (0, 0, 20, 30))
    assert len(prediction_dataset(folder / "images", COCO, None, None, 0.0, problems)) == 2
    assert problems == []


def test_detections_replace_whole_images(folder):
    for source in (folder / "images" / "a.jpg", folder / "images"):
        persons = prediction_dataset(source, COCO, None, boxes(folder, "a.jpg"), 0.5, [])
        (person,) = persons.instances
        assert [path.name for _, path in persons.empty_images] == ([] if source.is_file() else ["b.jpg"])
        assert (person.image.name, person.box) == ("a.jpg", (1, 2, 3, 4))


def test_annotated_boxes_are_used_without_their_labels(folder):
    persons = prediction_dataset(save_coco(folder), COCO, None, None, 0.0, [])
    assert [p.annotation_id for p in persons.instances] == [1, 2]  # no crowd and no box without an area
    assert not any(p.labeled for p in persons.instances)


def test_a_list_of_images_needs_detections(folder):
    path = save_coco(folder, lambda content: content.update(annotations=[]))
    with pytest.raises(ConfigError, match="give detections as `boxes`"):
        prediction_dataset(path, COCO, None, None, 0.0, [])
    (person,) = prediction_dataset(path, COCO, None, boxes(folder, 7), 0.0, []).instances
    assert person.image_id == 7


def test_the_images_of_a_table_with_detections(folder):
    path = folder / "images" / "CollectedData_me.csv"
    rows = ["scorer,me,me", "bodyparts,nose,nose", "coords,x,y", "a.jpg,3,4", "deep/b.jpg,5,6"]
    path.write_text("\n".join(rows))
    persons = prediction_dataset(path, COCO, None, boxes(folder, "b.jpg"), 0.0, [])
    assert [(p.image.name, p.box, p.labeled) for p in persons.instances] == [("b.jpg", (1, 2, 3, 4), False)]
    assert [image.name for _, image in persons.empty_images] == ["a.jpg"]
    for given in (None, "whole", boxes(folder, "b.jpg")):  # the joints are those of the network
        persons = prediction_dataset(path, COCO, None, given, 0.0, [])
        assert (persons.skeleton, persons.instances.joints.shape[1]) == (COCO, len(COCO))


def test_a_source_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        prediction_dataset(tmp_path / "missing.jpg", COCO, None, None, 0.0, [])


def test_whole_images_in_place_of_annotated_boxes(folder):
    """Also of images without annotations, with their own ids."""
    path = save_coco(folder)
    listed = {image["id"] for image in json.loads(path.read_text())["images"]}
    persons = prediction_dataset(path, COCO, None, "whole", 0.0, [])
    assert {p.image_id for p in persons.instances} == listed
    assert {p.box for p in persons.instances} == {(0, 0, 20, 30)}
    assert len(prediction_dataset(folder / "images", COCO, None, "whole", 0.0, [])) == 2


def test_boxes_are_those_of_the_category_of_the_network(folder):
    path = folder / "boxes.json"
    records = [{"image_id": "a.jpg", "bbox": [n, 2, 3, 4], "score": 0.7, "category_id": n} for n in (1, 7)]
    path.write_text(json.dumps(records))
    for source in (folder / "images" / "a.jpg", folder / "images"):
        (person,) = prediction_dataset(source, COCO, None, path, 0.0, [], Category(7, "fly")).instances
        assert person.box == (7, 2, 3, 4)
        (person,) = prediction_dataset(source, COCO, None, path, 0.0, [], Category(3, "athlete")).instances
        assert person.box == (1, 2, 3, 4)
