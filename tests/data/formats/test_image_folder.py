"""Folders of unlabeled images, detections files, and detected boxes in place of annotated ones."""

import json
import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from semipose.data.formats.coco import read_coco
from semipose.data.formats.image_folder import Detection, apply_detections, read_detections, read_folder
from semipose.errors import DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO

DATA = os.environ.get("SEMIPOSE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SEMIPOSE_DATA does not name the data folder")
BOX = [1, 2, 5, 6]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photographs, one in a folder of its own, beside a file of another kind."""
    root = tmp_path / "frames"
    (root / "deep").mkdir(parents=True)
    for name in ("b.PNG", "000000000036.jpg", "deep/a.jpeg", "c.webp"):
        Image.new("RGB", (20, 30)).save(root / name)
    (root / "notes.txt").write_text("no image")
    return root


def boxes(folder: Path, *entries: dict) -> Path:
    path = folder.parent / "boxes.json"
    path.write_text(json.dumps([{"bbox": BOX, "score": 0.9, "category_id": 1, **e} for e in entries]))
    return path


def annotated(folder: Path) -> PoseDataset:
    """Two photographs whose ids are not the numbers of their names."""
    names = {5: "000000000036.jpg", 36: "b.PNG"}
    persons = [Instance(folder / n, i, k, (0.0, 0.0, 9.0, 9.0)) for k, (i, n) in enumerate(names.items(), start=1)]
    return PoseDataset(COCO, tuple(persons), "annotated")


def test_whole_images(folder):
    persons = read_folder(folder, COCO)
    assert [p.image.relative_to(folder).as_posix() for p in persons.instances] == [
        "000000000036.jpg",
        "b.PNG",
        "c.webp",
        "deep/a.jpeg",
    ]
    assert {p.box for p in persons.instances} == {(0.0, 0.0, 20.0, 30.0)}
    assert all(p.joints is None and p.visibility is None and p.score == 1 for p in persons.instances)
    assert len({p.image_id for p in persons.instances}) == len({p.annotation_id for p in persons.instances}) == 4


def test_broken_images_are_counted(folder, caplog):
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "empty.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(folder, COCO)) == 4
    assert "2 of 6" in caplog.text


def test_photographs_stored_turned_are_told(tmp_path, caplog):
    image = Image.new("RGB", (40, 30))
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(tmp_path / "phone.jpg", exif=turned)
    image.save(tmp_path / "upright.jpg")
    (tmp_path / "odd.jpg").write_bytes((tmp_path / "phone.jpg").read_bytes().replace(b"Exif", b"Exig"))
    with caplog.at_level(logging.WARNING):
        people = read_folder(tmp_path, COCO)
    assert [person.box for person in people.instances] == [(0, 0, 40, 30)] * 3  # as it is stored
    assert "1 of 3 images are stored turned (EXIF orientation)" in caplog.text
    assert "phone.jpg" in caplog.text


def test_folders_without_images(tmp_path):
    with pytest.raises(DataError, match="gone"):
        read_folder(tmp_path / "gone", COCO)
    with pytest.raises(DataError, match="no image"):
        read_folder(tmp_path, COCO)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of its 1"):
        read_folder(tmp_path, COCO)


@pytest.mark.parametrize("name", ["000000000036.jpg", "000000000036", 36])
def test_names_of_photographs(folder, name):
    (person,) = read_folder(folder, COCO, boxes=boxes(folder, {"image_id": name})).instances
    assert person.image == folder / "000000000036.jpg"
    assert person.box == (1, 2, 5, 6)
    assert person.score == 0.9
    assert not person.labeled


def test_file_name_key_and_path(folder):
    (person,) = read_folder(folder, COCO, boxes=boxes(folder, {"file_name": "deep/a.jpeg"})).instances
    assert person.image == folder / "deep" / "a.jpeg"


def test_scores_categories_and_flat_boxes(folder):
    path = boxes(
        folder,
        {"image_id": 36, "score": 0.5},
        {"image_id": 36, "score": 0.4},
        {"image_id": 36, "category_id": 18},
        {"image_id": 36, "bbox": [1, 2, 0, 5]},
    )
    assert len(read_folder(folder, COCO, boxes=path, min_score=0.5)) == 1
    assert read_detections(path) == [Detection(36, (1, 2, 5, 6), 0.5), Detection(36, (1, 2, 5, 6), 0.4)]
    with pytest.raises(DataError, match=r"0\.95"):
        read_folder(folder, COCO, boxes=path, min_score=0.95)


def test_unknown_photographs(folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(folder, COCO, boxes=boxes(folder, {"image_id": 36}, {"image_id": 37}))) == 1
    assert "1 detections of unknown images" in caplog.text
    with pytest.raises(DataError, match="none of its 1"):
        read_folder(folder, COCO, boxes=boxes(folder, {"image_id": 37}))


def test_shared_names_fit_neither(folder):
    Image.new("RGB", (20, 30)).save(folder / "a.jpeg")
    assert len(read_folder(folder, COCO, boxes=boxes(folder, {"image_id": "deep/a.jpeg"}))) == 1
    with pytest.raises(DataError):
        read_folder(folder, COCO, boxes=boxes(folder, {"image_id": "a"}))


@pytest.mark.parametrize(
    "entry",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        {"bbox": ["1", 2, 3, 4]},
        {"bbox": [1, 2, 3, float("nan")]},
        {"score": float("inf")},
        {"score": "high"},
        {"image_id": None},
        {"image_id": [1]},
    ],
    ids=str,
)
def test_refused_detections(folder, entry):
    with pytest.raises(DataError, match="detection 1") as caught:
        read_detections(boxes(folder, {"image_id": 36}, {"image_id": 36, **entry}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "3", "[3]"])
def test_refused_detections_files(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"boxes\.json"):
        read_detections(path)


def test_detections_replace_persons(folder):
    path = boxes(folder, {"image_id": 5}, {"image_id": 36, "score": 0.3}, {"image_id": 5, "bbox": [0, 0, 2, 2]})
    found = apply_detections(annotated(folder), path)
    by_image = [(p.image_id, p.image.name, p.box[2], p.score) for p in found.instances]
    assert sorted(by_image) == [(5, "000000000036.jpg", 2, 0.9), (5, "000000000036.jpg", 5, 0.9), (36, "b.PNG", 5, 0.3)]
    assert not any(p.labeled for p in found.instances)
    assert len({p.annotation_id for p in found.instances}) == 3
    assert {p.image_id for p in apply_detections(annotated(folder), path, min_score=0.5).instances} == {5}


def test_detections_by_file_name(folder):
    (person,) = apply_detections(annotated(folder), boxes(folder, {"file_name": "b.PNG"})).instances
    assert person.image_id == 36


def test_detections_of_other_images(folder):
    with pytest.raises(DataError, match="no detection"):
        apply_detections(annotated(folder), boxes(folder, {"image_id": 1000}))


def test_detections_of_other_images_are_counted(folder, caplog):
    with caplog.at_level(logging.WARNING):
        apply_detections(annotated(folder), boxes(folder, {"image_id": 5}, {"image_id": 1000}))
    assert "1" in caplog.text


@needs_data
def test_real_folder():
    persons = read_folder(Path(DATA) / "coco-mini" / "images", COCO)
    assert len(persons) == 247
    assert all(p.box[2] > 50 and p.box[3] > 50 for p in persons.instances)


@needs_data
def test_own_boxes_as_detections(tmp_path):
    persons = read_coco(Path(DATA) / "coco-mini" / "val.json")
    entries = [{"image_id": p.image_id, "bbox": list(p.box), "score": 1.0, "category_id": 1} for p in persons.instances]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(entries))
    found = apply_detections(persons, path)
    assert [(p.image, p.image_id, p.box) for p in found.instances] == [
        (p.image, p.image_id, p.box) for p in persons.instances
    ]
    again = read_folder(Path(DATA) / "coco-mini" / "images", COCO, boxes=path)  # ids are the numbers of the names
    assert [(p.image, p.box) for p in again.instances] == [(p.image, p.box) for p in persons.instances]


def test_detections_where_nobody_is_count_too(folder):
    """An image of the set without persons still takes detections: false alarms must cost precision."""
    persons = annotated(folder)
    image = persons[0].image
    with_empty = PoseDataset(persons.skeleton, persons.instances, persons.source, ((77, image),))
    found = apply_detections(with_empty, boxes(folder, {"image_id": 5}, {"image_id": 77}))
    assert sorted(p.image_id for p in found.instances) == [5, 77]
