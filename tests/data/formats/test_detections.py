"""Detections files, and data sets of detected boxes."""

import json
import logging
import os
from pathlib import Path

import pytest

from semipose.data.formats.coco import read_coco
from semipose.data.formats.detections import Detection, apply_detections, read_detections
from semipose.data.formats.image_folder import read_folder
from semipose.data.formats.image_names import ImageReference
from semipose.errors import DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO
from tests.data.formats.conftest import save_image

DATA = os.environ.get("SEMIPOSE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SEMIPOSE_DATA does not name the data folder")
BOX = [1, 2, 5, 6]


def boxes(folder: Path, *entries: dict) -> Path:
    path = folder.parent / "boxes.json"
    path.write_text(json.dumps([{"bbox": BOX, "score": 0.9, "category_id": 1, **e} for e in entries]))
    return path


def annotated(folder: Path) -> PoseDataset:
    """Two images whose ids are not the numbers of their names."""
    names = {5: "000000000036.jpg", 36: "b.PNG"}
    persons = [Instance(folder / n, i, k, (0.0, 0.0, 9.0, 9.0)) for k, (i, n) in enumerate(names.items(), start=1)]
    return PoseDataset(COCO, tuple(persons), "annotated")


@pytest.mark.parametrize("name", ["000000000036.jpg", "000000000036", 36])
def test_detections_name_images_by_name_stem_or_number(images, name):
    (person,) = read_folder(images, COCO, boxes=boxes(images, {"image_id": name})).instances
    assert person.image == images / "000000000036.jpg"
    assert person.box == (1, 2, 5, 6)
    assert person.score == 0.9
    assert not person.labeled


def test_detections_name_images_by_path(images):
    (person,) = read_folder(images, COCO, boxes=boxes(images, {"file_name": "deep/a.jpeg"})).instances
    assert person.image == images / "deep" / "a.jpeg"


def test_low_scores_other_categories_and_flat_boxes_are_left_out(images):
    path = boxes(
        images,
        {"image_id": 36, "score": 0.5},
        {"image_id": 36, "score": 0.4},
        {"image_id": 36, "category_id": 18},
        {"image_id": 36, "bbox": [1, 2, 0, 5]},
    )
    folder = read_folder(images, COCO, boxes=path, min_score=0.5)
    assert len(folder) == 1
    assert folder.left_out == {
        "boxes of another category": 1,
        "boxes of no area": 1,
        "boxes of a lower score": 1,
        "images without a box": 3,
    }
    image = ImageReference(36)
    found, left_out = read_detections(path)
    assert found == [Detection(image, (1, 2, 5, 6), 0.5, 1), Detection(image, (1, 2, 5, 6), 0.4, 1)]
    assert left_out == {"boxes of another category": 1, "boxes of no area": 1}
    with pytest.raises(DataError, match=r"0\.95"):
        read_folder(images, COCO, boxes=path, min_score=0.95)


def test_detections_of_images_outside_the_folder(images, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(images, COCO, boxes=boxes(images, {"image_id": 36}, {"image_id": 37}))) == 1
    assert "1 of 2 detections are for images outside" in caplog.text
    with pytest.raises(DataError, match="none of its 1"):
        read_folder(images, COCO, boxes=boxes(images, {"image_id": 37}))


def test_ambiguous_names_are_refused(images):
    save_image(images / "other" / "a.jpeg")
    assert len(read_folder(images, COCO, boxes=boxes(images, {"image_id": "deep/a.jpeg"}))) == 1
    with pytest.raises(DataError, match=r"image 'a' may be .*deep/a\.jpeg or .*other/a\.jpeg"):
        read_folder(images, COCO, boxes=boxes(images, {"image_id": "a"}))
    problems: list[str] = []
    path = boxes(images, {"image_id": "a"}, {"image_id": 36})
    persons = read_folder(images, COCO, boxes=path, problems=problems)
    assert len(persons) == len(problems) == 1
    assert "boxes in other images" not in persons.left_out  # it is among the problems


@pytest.mark.parametrize(
    ("categories", "chosen", "widths"),
    [
        ([1, 1, 2], None, [1, 2]),
        ([0, 0, 0], None, [1, 2, 3]),
        (["1", 1.0, "2"], None, [1, 2]),
        (["person", "Person", "dog"], None, [1, 2]),
        ([0, 0, 1], None, [3]),
        ([0, 0, 1], 0, [1, 2]),
        ([0, 0, 1], "0", [1, 2]),
        ([3, 3, 1], "3", [1, 2]),
        (["person", "dog", "dog"], "dog", [2, 3]),
    ],
)
def test_the_category_of_the_boxes(images, caplog, categories, chosen, widths):
    path = boxes(
        images, *({"image_id": 5, "category_id": c, "bbox": [0, 0, n, 9]} for n, c in enumerate(categories, 1))
    )
    found = apply_detections(annotated(images), path, box_category=chosen)
    assert [p.box[2] for p in found.instances] == widths
    left_out = len(categories) - len(widths)
    assert not left_out or f"left out: {left_out} of category" in caplog.text


def test_no_box_of_the_category(images):
    path = boxes(images, {"image_id": 5, "category_id": 0}, {"image_id": 5, "category_id": 7})
    with pytest.raises(
        DataError, match=r"no detection is of category 1 or person, but 1 of category 0, 1 of category 7"
    ):
        apply_detections(annotated(images), path)


@pytest.mark.parametrize(
    ("scores", "expected", "message"),
    [
        ([95, 90, 0.5], [0.95, 0.9, 0.005], "are divided by 100"),
        ([0.9, 0.8, 1.5], [0.9, 0.8, 1.5], "scores of 1 of 3 detections exceed 1"),
        ([7, 8, 200], [7, 8, 200], "scores of 3 of 3 detections exceed 1"),
        ([None, 0.5, 0.7], [1, 0.5, 0.7], "1 detection without a score: 1 is used"),
    ],
    ids=["percent", "one above 1", "no probabilities", "none"],
)
def test_scores_that_are_no_probabilities(images, caplog, scores, expected, message):
    path = boxes(images, *({"image_id": 36, "score": score} for score in scores))
    assert [d.score for d in read_detections(path)[0]] == pytest.approx(expected)
    assert message in caplog.text


def test_ids_match_by_value(images):
    path = boxes(images, {"image_id": "5"}, {"image_id": 36.0}, {"image_id": "36.0"}, {"image_id": "000000000036"})
    assert [p.image_id for p in apply_detections(annotated(images), path).instances] == [5, 36, 36, 5]


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
def test_broken_records(images, entry):
    with pytest.raises(DataError, match="detection 1") as caught:
        read_detections(boxes(images, {"image_id": 36}, {"image_id": 36, **entry}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "3", "[3]"])
def test_broken_files(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"boxes\.json"):
        read_detections(path)


def test_detections_replace_annotated_boxes(images):
    path = boxes(images, {"image_id": 5}, {"image_id": 36, "score": 0.3}, {"image_id": 5, "bbox": [0, 0, 2, 2]})
    found = apply_detections(annotated(images), path)
    by_image = [(p.image_id, p.image.name, p.box[2], p.score) for p in found.instances]
    assert sorted(by_image) == [(5, "000000000036.jpg", 2, 0.9), (5, "000000000036.jpg", 5, 0.9), (36, "b.PNG", 5, 0.3)]
    assert not any(p.labeled for p in found.instances)
    assert len({p.annotation_id for p in found.instances}) == 3
    assert {p.image_id for p in apply_detections(annotated(images), path, min_score=0.5).instances} == {5}


def test_detections_by_file_name_in_a_data_set(images):
    (person,) = apply_detections(annotated(images), boxes(images, {"file_name": "b.PNG"})).instances
    assert person.image_id == 36


def test_detections_of_other_images_only(images):
    with pytest.raises(DataError, match="none of its 1"):
        apply_detections(annotated(images), boxes(images, {"image_id": 1000}))


def test_detections_of_other_images_are_counted(images, caplog):
    found = apply_detections(annotated(images), boxes(images, {"image_id": 5}, {"image_id": 1000}))
    assert "1 of 2 detections are for images outside annotated" in caplog.text
    assert found.left_out == {"boxes in other images": 1, "images without a box": 1}


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


def test_detections_in_images_without_persons_are_used(images):
    """They are false positives, which reduce the precision."""
    persons = annotated(images)
    image = persons[0].image
    with_empty = PoseDataset(persons.skeleton, persons.instances, persons.source, ((77, image),))
    found = apply_detections(with_empty, boxes(images, {"image_id": 5}, {"image_id": 77}))
    assert sorted(p.image_id for p in found.instances) == [5, 77]
