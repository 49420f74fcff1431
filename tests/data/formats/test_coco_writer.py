"""What `write_coco` writes, `read_coco` reads back."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_writer import write_coco
from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import SKELETONS, infer_skeleton
from tests.data.formats.conftest import NAMES, PEOPLE, save_coco, save_image


def assert_equal(a: PoseDataset, b: PoseDataset) -> None:
    assert a.skeleton == b.skeleton
    assert len(a) == len(b)
    for p, q in zip(a.instances, b.instances, strict=True):
        for field in ("image", "image_id", "annotation_id", "box", "area", "is_crowd", "head_size"):
            assert getattr(p, field) == getattr(q, field), field
        assert (p.joints is None) == (q.joints is None)
        if p.joints is not None:
            np.testing.assert_array_equal(p.joints, q.joints)
            np.testing.assert_array_equal(p.visibility, q.visibility)


def test_a_data_set_reads_back(folder):
    persons = read_coco(save_coco(folder))
    write_coco(persons, folder / "again.json")
    again = read_coco(folder / "again.json", folder / "images")
    assert again.skeleton.joints == persons.skeleton.joints
    assert_equal(PoseDataset(persons.skeleton, again.instances, ""), persons)


def test_a_file_knows_where_its_images_are(folder, tmp_path):
    """It may lie elsewhere; images that have moved beside it are found, too."""
    persons = read_coco(save_coco(folder))
    file = tmp_path / "parts" / "train.json"
    file.parent.mkdir()
    write_coco(persons, file)
    assert json.loads(file.read_text())["image_folder"] == os.path.relpath(folder / "images", file.parent)
    assert {*read_coco(file).instances.paths} == {*persons.instances.paths}
    (folder / "images").rename(file.parent / "images")
    assert all(Path(path).is_relative_to(file.parent / "images") for path in read_coco(file).instances.paths)


def test_pre_labels_are_reported_as_labels(folder, caplog):
    persons = read_coco(save_coco(folder))
    for pre_labels in (False, True):
        write_coco(persons, folder / "again.json", pre_labels=pre_labels)
        caplog.clear()
        read_coco(folder / "again.json", labels=False)
        assert "pre-labels" not in caplog.text
        read_coco(folder / "again.json")
        assert ("again.json holds predictions that suggest wrote as pre-labels" in caplog.text) == pre_labels


def test_boxes_made_from_labels_stay_known(folder):
    """Otherwise a split of a project without boxes would take them for annotated ones."""
    persons = read_coco(save_coco(folder))
    own = persons.with_boxes(persons.instances.boxes, from_labels=True)
    write_coco(own, folder / "again.json")
    assert read_coco(folder / "again.json", folder / "images").boxes_from_labels == len(persons)
    assert persons.boxes_from_labels == 0


def test_images_that_go_along_replace_no_others(folder, tmp_path, monkeypatch):
    persons = read_coco(save_coco(folder))
    monkeypatch.setattr("semipose.data.formats.coco_writer.is_cached_image", lambda image: True)
    first, *_ = persons.image_paths.values()
    old = tmp_path / "out" / "labels" / first.name
    old.parent.mkdir(parents=True)
    old.write_bytes(b"another image")
    with pytest.raises(ConfigError, match=f"`out`: {old} exists and is another image than .*; choose another folder"):
        write_coco(persons, tmp_path / "out" / "labels.json")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [old]
    assert old.read_bytes() == b"another image"


numbers = st.floats(-1e4, 1e4).map(lambda v: v + 0.0)  # no -0.0
sizes = st.floats(0.1, 1e4)


@st.composite
def person_sets(draw, root: Path) -> PoseDataset:
    skeleton = draw(st.sampled_from([*SKELETONS.values(), infer_skeleton(NAMES, [(0, 1)], name="again")]))
    persons = []
    for number in range(1, 1 + draw(st.integers(1, 4))):
        visibility = np.array(draw(st.lists(st.integers(0, 2), min_size=len(skeleton), max_size=len(skeleton))))
        joints = np.array([[draw(numbers), draw(numbers)] if v else [0.0, 0.0] for v in visibility])
        box = (draw(numbers), draw(numbers), draw(sizes), draw(sizes))
        image_id = draw(st.sampled_from([1, 2, "three"]))
        image = root / "images" / f"{image_id}.jpg"
        head = draw(st.none() | sizes)
        crowd = draw(st.booleans())
        persons.append(Instance(image, image_id, number, box, joints, visibility, draw(sizes), 1.0, crowd, head))
    return PoseDataset(skeleton, tuple(persons), "drawn")


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_any_set_reads_back(data):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for image in ("1.jpg", "2.jpg", "three.jpg"):
            save_image(root / "images" / image)
        persons = data.draw(person_sets(root))
        write_coco(persons, root / "again.json")
        assert_equal(read_coco(root / "again.json"), persons)


def test_a_data_set_without_labels_reads_back(folder):
    persons = read_coco(save_coco(folder), labels=False)
    write_coco(persons, folder / "again.json")
    again = read_coco(folder / "again.json", folder / "images", labels=False)
    assert_equal(PoseDataset(persons.skeleton, again.instances, ""), persons)


def test_embedded_people_read_back(tmp_path):
    persons = read_coco(PEOPLE / "val.json")
    write_coco(persons, tmp_path / "again.json")
    assert_equal(read_coco(tmp_path / "again.json", PEOPLE / "images"), persons)


def test_images_without_persons_are_listed(tmp_path):
    save_image(tmp_path / "images" / "a.jpg")
    save_image(tmp_path / "images" / "deep" / "b.jpg")
    save_image(tmp_path / "images" / "empty.jpg")
    path = save_coco(tmp_path, lambda content: content["images"].append({"id": 77, "file_name": "empty.jpg"}))
    before = read_coco(path)
    write_coco(before, tmp_path / "again.json")
    after = read_coco(tmp_path / "again.json", tmp_path / "images")
    assert after.empty_images == before.empty_images
    assert dict(after.empty_images)[77].name == "empty.jpg"


def test_annotation_ids_from_0_are_written_from_1(tmp_path):
    """Pycocotools counts a match with annotation 0 as none."""
    save_image(tmp_path / "1.jpg")
    joints = np.zeros((17, 2))
    persons = [Instance(tmp_path / "1.jpg", 1, n, (0, 0, 9, 9), joints, np.full(17, 2)) for n in (0, 1)]
    write_coco(PoseDataset(SKELETONS["coco"], persons, "from 0"), tmp_path / "again.json")
    assert read_coco(tmp_path / "again.json", tmp_path).instances.annotation_ids.tolist() == [1, 2]
