"""Label Studio's key points: percent become pixels, rectangles boxes, and names stay."""

import json
from typing import Any

import numpy as np
import pytest

from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.registry import FORMATS, find_format, read_annotations
from semipose.errors import DataError
from tests.data.formats.conftest import save_image

SIZE = {"original_width": 200, "original_height": 50}


def point(name: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    return {"type": "keypointlabels", **SIZE, "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]}, **more}


def box(identity: str, x: float, y: float, label: str = "Maus", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 20, "height": 40, "rectanglelabels": [label], **more}
    return {"type": "rectanglelabels", "id": identity, **SIZE, "value": value}


def task(identity: int, name: str, *results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    annotations = [{"id": n, "result": result} for n, result in enumerate(results)]
    return {"id": identity, "data": {"text": "note", "img": name}, "annotations": annotations, **more}


@pytest.fixture
def save(tmp_path):
    def write(*tasks: dict[str, Any]):
        for name in "abc":
            save_image(tmp_path / "images" / f"{name} 1.png", (200, 50))
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        return tmp_path / "export.json"

    return write


def test_one_animal_an_image(save, caplog):
    caplog.set_level("INFO")
    first, second = [point("Nase", 1, 1)], [point("tail_1", 50, 50), point("Nase", 1, 2)]
    path = save(
        task(7, "/data/local-files/?d=lab/a%201.png", first, second),
        task(9, "b 1.png", [point("Nase", 99.5, 0)]),
        task(11, "c 1.png", []),
        task(12, "d.png"),
    )
    assert find_format(path) is FORMATS["label_studio"]
    persons = read_annotations(path)
    assert persons.category.name == "animal"
    assert persons.skeleton.joints == ("tail_1", "Nase")
    assert persons.instances.image_ids == [7, 9]
    np.testing.assert_array_equal(persons[0].joints, [[99.5, 24.5], [1.5, 0.5]])
    np.testing.assert_array_equal(persons[1].joints, [[0, 0], [198.5, -0.5]])
    assert persons.instances.visibility.tolist() == [[2, 2], [0, 2]]
    assert [image_id for image_id, _ in persons.empty_images] == [11]
    assert persons.left_out == {"of earlier annotations of the same task": 1, "in tasks without an annotation": 1}
    assert "whole frame" in caplog.text


def test_exports_joined_to_one_file_keep_all_images(save, tmp_path, caplog):
    """Their ids repeat; images of one id were written as one."""
    tasks = [
        task(n, f"{name} 1.png", [point("Nase", x, 1)])
        for n, name, x in ((1, "a", 0.25), (2, "b", 50.25), (1, "c", 99.25))
    ]
    persons = read_annotations(save(*tasks))
    assert persons.instances.image_ids == [1, 2, 3]
    assert "several tasks have one id" in caplog.text
    write_coco(persons, tmp_path / "labels.json")
    again = read_annotations(tmp_path / "labels.json", tmp_path / "images")
    found = {p.image.name: p.joints[0].tolist() for p in again.instances}
    assert found == {"a 1.png": [0, 0], "b 1.png": [100, 0], "c 1.png": [198, 0]}


def test_key_points_belong_to_their_rectangle(save):
    boxes = [box("one", 0, 0), box("two", 50, 10)]
    related = {"type": "relation", "from_id": "p", "to_id": "two"}
    persons = read_annotations(
        save(
            task(
                *(1, "a 1.png"),
                [*boxes, point("Nase", 5, 5, parentID="one"), point("Nase", 60, 20, id="p"), related],
            ),
            task(2, "b 1.png", [box("x", 10, 10), point("tail", 20, 20)]),
        )
    )
    assert [p.box for p in persons.instances] == [(0, 0, 40, 20), (100, 5, 40, 20), (20, 5, 40, 20)]
    assert [p.joints[0].tolist() for p in persons.instances] == [[9.5, 2], [119.5, 9.5], [0, 0]]
    assert persons.category.name == "Maus"
    assert persons.instances.annotation_ids.tolist() == [1, 2, 3]


def test_an_image_without_a_rectangle_beside_others_with_one(save, caplog):
    persons = read_annotations(
        save(
            task(1, "a 1.png", [box("x", 10, 10), point("tail", 20, 20)]),
            task(2, "b 1.png", [point("Nase", 10, 20), point("tail", 60, 60)]),
            task(3, "c 1.png", [point("Nase", 10, 20)]),
        )
    )
    assert persons.instances.image_ids == [1, 2]
    assert persons.instances.box_from_labels.tolist() == [False, True]
    np.testing.assert_allclose(persons[1].box, (19.5 - 11, 9.5 - 3, 100 + 22, 20 + 6))  # a tenth and one pixel more
    assert persons[1].area == pytest.approx(0.53 * 122 * 26)
    assert persons.instances.trainable.all()
    assert sum(persons.left_out.values()) == 1
    assert "1 animal without a rectangle" in caplog.text


@pytest.mark.parametrize(
    ("stored", "orientation", "joints", "rectangle"),
    [
        ((50, 200), 6, [[25, 100], [5, 180]], (5, 140, 20, 40)),  # labeled on the upright 200×50 pixels
        ((200, 50), 3, [[100, 25], [180, 45]], (140, 25, 40, 20)),
        ((200, 50), 6, [[100, 25], [20, 5]], (20, 5, 40, 20)),  # in an old browser, on the stored ones
    ],
)
def test_labels_of_an_image_that_viewers_turn(save, stored, orientation, joints, rectangle):
    path = save(task(1, "a.jpg", [box("x", 10, 10), point("tail", 50, 50), point("Nase", 10, 10)]))
    save_image(path.parent / "images" / "a.jpg", stored, orientation)
    persons = read_annotations(path)
    np.testing.assert_allclose(persons[0].joints, np.array(joints) - 0.5)
    np.testing.assert_allclose(persons[0].box, rectangle)


def test_a_click_at_the_center_of_a_pixel(save):
    """Percent count from the edge of the image, joints from the center of the first pixel."""
    persons = read_annotations(save(task(1, "a 1.png", [point("Nase", 100 * 10.5 / 200, 100 * 30.5 / 50)])))
    np.testing.assert_allclose(persons[0].joints, [[10, 30]])


@pytest.mark.parametrize(
    ("rotation", "extent"),
    [
        (0, (100, 10, 40, 20)), (None, (100, 10, 40, 20)), (90, (80, 10, 20, 40)), (180, (60, -10, 40, 20)),
        (30, (90, 10, 20 * np.sqrt(3) + 10, 20 + 10 * np.sqrt(3))), (-30, (100, -10, 20 * np.sqrt(3) + 10, 37.320508)),
    ],
)  # fmt: skip
def test_the_box_of_a_turned_rectangle_is_its_extent(save, rotation, extent):
    """It is turned clockwise around its top left corner, (100, 10) here, in pixels and not in percent."""
    persons = read_annotations(save(task(1, "a 1.png", [box("x", 50, 20, rotation=rotation), point("tail", 60, 60)])))
    np.testing.assert_allclose(persons[0].box, extent)


def test_another_version_of_the_image_is_refused(save):
    path = save(task(1, "a.jpg", [point("tail", 50, 50)]))
    save_image(path.parent / "images" / "a.jpg", (100, 25))
    with pytest.raises(DataError, match="has 100×25 pixels, but was labeled with 200×50"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([point("Nase", 1, 1), point("Nase", 2, 2)], "'Nase' is labeled twice"),
        ([box("a", 1, 1), box("b", 2, 2), point("Nase", 1, 1)], "belongs to none of 2 rectangles"),
        ([{**point("Nase", 1, 1), "original_width": None}], "needs numbers"),
        ([box("a", 1, 1)], "no key points"),
        ([box("a", 1, 1, rotation="half"), point("Nase", 1, 1)], "rotation 'half' of a rectangle is no number"),
    ],
)
def test_what_cannot_be_used(save, result, message):
    with pytest.raises(DataError, match=message):
        read_annotations(save(task(1, "a 1.png", result)))


def test_tasks_without_an_image(save):
    with pytest.raises(DataError, match="task 3: no value of 'data'"):
        read_annotations(save(task(3, "notes.txt", [point("Nase", 1, 1)])))
