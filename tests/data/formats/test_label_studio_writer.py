"""Label Studio's tasks: joints, persons and boxes come back when the predictions are accepted as annotations."""

import json
import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.data.formats.label_studio_writer import write_label_studio
from semipose.data.formats.registry import read_annotations
from semipose.errors import DataError
from semipose.structures.categories import Category
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import infer_skeleton
from tests.data.formats.conftest import save_image

JOINTS = ("snout", "left ear", 'tail "base" & tip')


def animals(folder: Path) -> PoseDataset:
    """Three animals in two images."""
    (folder / "images").mkdir()
    found = []
    for n, (name, count) in enumerate((("a 1.png", 2), ("b.png", 1))):
        cv2.imwrite(str(folder / "images" / name), np.zeros((50, 80, 3), np.uint8))
        for k in range(count):
            joints = np.array([[10.25 + k, 20], [30, 40.5 + n], [0, 0]])
            visibility = np.array([2, 2, 0 if n else 2], np.int8)
            found.append(Instance(folder / "images" / name, n, len(found) + 1, (5, 6, 40 + k, 30), joints, visibility))
    return PoseDataset(infer_skeleton(JOINTS), found, "here", category=Category(1, "mouse"))


def renamed(persons: PoseDataset, image: Path) -> PoseDataset:
    """The data set with another name of the last image."""
    (number, old) = persons.instances.images[-1]
    Path(old).rename(image)
    instances = replace(persons.instances, images=(*persons.instances.images[:-1], (number, str(image))))
    return replace(persons, instances=instances)


def test_names_that_are_not_utf8_are_encoded(tmp_path):
    persons = renamed(animals(tmp_path), tmp_path / "images" / os.fsdecode(b"caf\xe9.png"))
    write_label_studio(persons, tmp_path / "tasks.json")
    addresses = [task["data"]["image"] for task in json.loads((tmp_path / "tasks.json").read_text())]
    assert addresses[1] == "/data/local-files/?d=images/caf%E9.png"


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_accepted_predictions_are_the_labels(tmp_path, orientation):
    written = animals(tmp_path)
    save_image(tmp_path / "images" / "b.png", (80, 50), orientation)
    path = tmp_path / "tasks.json"
    assert write_label_studio(written, path) == tmp_path
    tasks = json.loads(path.read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=images/a%201.png",
        "/data/local-files/?d=images/b.png",
    ]
    ids = [region["id"] for task in tasks for region in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids) == 3 + 8
    exported = [
        {"id": n, "data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]}
        for n, task in enumerate(tasks)
    ]
    widths = {region["original_width"] for region in tasks[1]["predictions"][0]["result"]}
    assert widths == {50 if orientation == 6 else 80}
    (tmp_path / "export.json").write_text(json.dumps(exported))
    read = read_annotations(tmp_path / "export.json", tmp_path / "images")
    assert read.skeleton.joints == JOINTS
    assert read.category.name == "mouse"
    for a, b in zip(read.instances, written.instances, strict=True):
        assert a.image.name == b.image.name
        np.testing.assert_allclose(a.box, b.box)
        np.testing.assert_array_equal(a.visibility > 0, b.visibility > 0)
        np.testing.assert_allclose(a.joints[a.visibility > 0], b.joints[b.visibility > 0])


def test_the_configuration_names_every_joint_and_what_the_tasks_refer_to(tmp_path):
    write_label_studio(animals(tmp_path), tmp_path / "tasks.json")
    root = ET.parse(tmp_path / "tasks.xml").getroot()
    assert [label.get("value") for label in root.find("KeyPointLabels")] == list(JOINTS)
    assert [label.get("model_index") for label in root.find("KeyPointLabels")] == ["0", "1", "2"]
    assert [label.get("value") for label in root.find("RectangleLabels")] == ["mouse"]
    names = {element.get("name"): element.get("toName") for element in root}
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        for region in task["predictions"][0]["result"]:
            assert names[region["from_name"]] == region["to_name"]


def test_an_image_without_a_size_is_an_error(tmp_path):
    persons = animals(tmp_path)
    (tmp_path / "images/b.png").write_text("no image")
    with pytest.raises(DataError, match=r"b\.png can't be opened"):
        write_label_studio(persons, tmp_path / "tasks.json")
