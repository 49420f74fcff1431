"""What the COCO reader reads, and its errors, which name file, record and remedy."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semipose.data.formats.coco import read_coco, read_image_list
from semipose.errors import DataError
from semipose.structures.skeletons import COCO, SKELETONS
from tests.data.formats.conftest import NAMES, PEOPLE, save_coco, save_image

DATA = os.environ.get("SEMIPOSE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SEMIPOSE_DATA does not name the data folder")


def first(**values):
    """Returns a change of the first annotation."""

    def change(content: dict) -> None:
        content["annotations"][0].update(values)

    return change


def test_reads_all_fields(folder):
    persons = read_coco(save_coco(folder))
    assert [p.annotation_id for p in persons.instances] == [1, 2, 3, 4]
    assert persons.skeleton.joints == tuple(NAMES)
    assert persons.skeleton.limbs == ((0, 1), (0, 2))
    assert persons.skeleton.flip_pairs == ((1, 2),)
    one, two = persons[0], persons[1]
    assert one.image == folder / "images" / "a.jpg"
    assert one.image_id == 7
    assert two.image_id == "eight"
    assert one.box == (1, 2, 10, 20)
    assert one.joints.dtype == np.float64
    np.testing.assert_array_equal(one.joints, [[3, 4], [5, 9], [0, 0]])  # unlabeled joints lie at 0, 0
    np.testing.assert_array_equal(one.visibility, [2, 1, 0])
    assert one.area == pytest.approx(10 * 20 * 0.53)
    assert two.area == 11
    assert persons[2].is_crowd


def test_usable_and_trainable_persons(folder):
    persons = read_coco(save_coco(folder))
    assert [p.annotation_id for p in persons.trainable().instances] == [1]
    assert [p.annotation_id for p in persons.usable().instances] == [1, 2]


@pytest.mark.parametrize("place", ["images", "some", "."])
def test_finds_the_image_folder(tmp_path, place):
    save_image(tmp_path / place / "a.jpg")
    save_image(tmp_path / place / "deep" / "b.jpg")
    assert all(p.image.is_file() for p in read_coco(save_coco(tmp_path)).instances)


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_the_folder_with_images_of_the_exact_names_is_used(folder, separator):
    for name in ("camA/a.jpg", "a.jpg", "deep/b.jpg", "some/a.jpg"):
        save_image(folder / name)
    for name in (separator.join(("camA", "a.jpg")), "a.jpg"):
        persons = read_coco(save_coco(folder, lambda c, name=name: c["images"][0].update(file_name=name)))
        assert persons[0].image == folder / ("images/a.jpg" if name == "a.jpg" else "camA/a.jpg")


def test_a_folder_with_the_name_of_the_file_may_be_one_of_several(tmp_path):
    names = ["some/a.jpg", "other/a.jpg"]
    for name in names:
        save_image(tmp_path / name)
    path = save_coco(tmp_path, lambda c: [c["images"][n].update(file_name=name) for n, name in enumerate(names)])
    assert [*read_coco(path).image_paths.values()] == [tmp_path / name for name in names]


def test_a_given_image_folder_is_used(folder):
    save_image(folder / "other" / "a.jpg")
    persons = read_coco(save_coco(folder), folder / "other")
    assert persons[0].image.parent == folder / "other"
    missing = {p.image for p in persons.instances if not p.image.is_file()}
    assert missing == {folder / "other" / "deep" / "b.jpg"}


def test_reads_boxes_without_joints(folder):
    def drop(content):
        for annotation in content["annotations"]:
            annotation.pop("keypoints", None)
        content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
        content["annotations"].pop()

    persons = read_coco(save_coco(folder, drop), labels=False, skeleton=COCO)
    assert persons.skeleton is COCO
    assert all(p.joints is None and p.visibility is None for p in persons.instances)
    with pytest.raises(DataError, match="keypoints"):
        read_coco(save_coco(folder, drop), labels=False)
    with pytest.raises(DataError, match="keypoints"):
        read_coco(save_coco(folder, drop))


def test_a_missing_box_comes_from_the_joints(folder, caplog):
    def change(content):
        del content["annotations"][0]["bbox"]
        del content["annotations"][1]["bbox"]  # no labeled joint either

    with caplog.at_level(logging.WARNING):
        persons = read_coco(save_coco(folder, change))
    assert [p.annotation_id for p in persons.instances] == [1, 3, 4]
    assert "1 annotation without a box" in caplog.text
    x, y, width, height = persons[0].box
    assert x < 3 < 5 < x + width - 1
    assert y < 4 < 9 < y + height - 1
    assert (x + (width - 1) / 2, y + (height - 1) / 2) == pytest.approx((4, 6.5), abs=0.5)


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [3, 4, 0, 0], [1, 1, 9, 0], None])
def test_a_box_without_an_area_is_a_missing_one(folder, caplog, box):
    joints, absent = (
        [3, 4, 2, 5, 9, 1, 0, 0, 0],
        read_coco(save_coco(folder, lambda c: c["annotations"][0].pop("bbox"))),
    )
    persons = read_coco(save_coco(folder, lambda c: c["annotations"][0].update(bbox=box, keypoints=joints)))
    assert persons[0].box == absent[0].box
    assert persons[0].box_from_labels
    assert persons.boxes_from_labels == 1  # annotation 4 has a box without width, too, and all joints at one place
    assert persons.subset([1, 2]).boxes_from_labels == 0
    assert "box of 1 person missing or 0: the extent of the labeled joints is used" in caplog.text


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [3, 4, 0, 0], None])
@pytest.mark.parametrize("joints", [[3, 4, 2, 0, 0, 0, 0, 0, 0], [3, 4, 2, 3, 4, 2, 0, 0, 0]])
def test_no_box_is_made_from_one_position(folder, caplog, box, joints):
    persons = read_coco(save_coco(folder, lambda c: c["annotations"][0].update(bbox=box, keypoints=joints)))
    assert [p.annotation_id for p in persons.instances] == [2, 3, 4]
    assert persons.left_out == {"without a box and with less than two labeled joints": 1, "of another category": 1}
    assert "1 annotation without a box and with less than two labeled joints; left out" in caplog.text


def test_a_set_of_points_without_boxes_is_an_error(folder):
    def change(content):
        content["annotations"] = content["annotations"][:1]
        content["annotations"][0] |= {"bbox": [0, 0, 0, 0], "keypoints": [3, 4, 2, 0, 0, 0, 0, 0, 0]}

    with pytest.raises(DataError, match=r"no usable person: 1 annotation without a box .*; add a 'bbox'"):
        read_coco(save_coco(folder, change))


def test_an_area_of_0_is_a_missing_one(folder, caplog):
    absent = read_coco(save_coco(folder))[0].area
    assert "area" not in caplog.text
    assert read_coco(save_coco(folder, lambda c: c["annotations"][0].update(area=0)))[0].area == absent > 0
    assert "area of 1 person missing or 0: an estimate from the box is used" in caplog.text


@pytest.mark.parametrize(("value", "crowd"), [("0", False), ("1", True), (True, True), ("False", False), (None, False)])
def test_a_crowd_flag_may_be_text(folder, value, crowd):
    persons = read_coco(save_coco(folder, lambda c: c["annotations"][0].update(iscrowd=value)))
    assert persons[0].is_crowd is crowd


BROKEN = {
    "short": (first(keypoints=[1, 2, 2]), "annotation 1.*9 numbers"),
    "text": (first(keypoints=["1"] * 9), "annotation 1.*keypoints"),
    "nan": (first(keypoints=[float("nan")] * 9), "annotation 1.*keypoints"),
    "no keypoints": (first(keypoints=None), "annotation 1.*keypoints"),
    "visibility": (first(keypoints=[1, 1, 3] * 3), "annotation 1.*visibility"),
    "box": (first(bbox=[1, 2, 3]), "annotation 1.*bbox"),
    "crowd": (first(iscrowd="some"), "annotation 1.*iscrowd"),
    "crowd list": (first(iscrowd=[1]), "annotation 1.*iscrowd"),
    "infinite box": (first(bbox=[1, 2, 3, float("inf")]), "annotation 1.*bbox"),
    "image id": (first(image_id=99), "annotation 1.*99"),
    "annotation id": (first(id=2), "annotation 2.*twice"),
    "twice image": (lambda c: c["images"].append({"id": 7, "file_name": "c.jpg"}), "image id 7.*twice"),
    "absolute": (lambda c: c["images"][0].update(file_name="/etc/a.jpg"), "image 7.*folder"),
    "leaves": (lambda c: c["images"][0].update(file_name="../a.jpg"), "image 7.*folder"),
    "no name": (lambda c: c["images"][0].pop("file_name"), "file_name"),
    "no annotations": (lambda c: c.update(annotations=[]), "no annotations"),
    "no list": (lambda c: c.pop("images"), "images"),
    "no joints": (lambda c: c["categories"][0].update(keypoints=[]), "keypoints"),
    "two lists": (lambda c: c["categories"][1].update(keypoints=["tail"]), "several categories"),
    "limb": (lambda c: c["categories"][0].update(skeleton=[[0, 1]]), "limb"),
    "repeated joint": (lambda c: c["categories"][0].update(keypoints=["a", "a"], skeleton=[]), "twice"),
    "missing image": (lambda c: c["images"][0].update(file_name="gone.jpg"), "gone.jpg.*image folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_errors_are_one_line(folder, case):
    change, message = BROKEN[case]
    with pytest.raises(DataError, match=message) as caught:
        read_coco(save_coco(folder, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"images": 3}', "\ufeff{}"])
def test_files_that_are_not_coco(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"some\.json"):
        read_coco(path)


def test_errors_of_json_name_line_and_column(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{\n "images": oops}')
    with pytest.raises(DataError, match="line 2, column 12"):
        read_coco(path)


def test_missing_files_and_folders(folder):
    with pytest.raises(DataError, match=r"gone\.json"):
        read_coco(folder / "gone.json")
    with pytest.raises(DataError, match="`images`"):
        read_coco(save_coco(folder), folder / "gone")
    with pytest.raises(DataError, match="can't be read"):
        read_coco(folder)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (first(image_id=[7]), {}),
        (first(category_id=[1]), {}),
        (lambda c: c["categories"][0].update(id=[1]), {}),
        (lambda c: c.update(categories=[]), {"labels": False, "skeleton": COCO}),
    ],
    ids=["image_id", "category_id", "category", "no categories"],
)
def test_ids_of_other_types(folder, change, options):
    with pytest.raises(DataError):
        read_coco(save_coco(folder, change), **options)


@pytest.mark.parametrize(
    "change", [first(area=-4), first(category_id=99), first(id=True)], ids=["area", "unknown category", "boolean id"]
)
def test_wrong_values(folder, change):
    with pytest.raises(DataError):
        read_coco(save_coco(folder, change))


@pytest.mark.parametrize(("part", "count"), [("train", 1598), ("val", 400)])
def test_embedded_people(part, count):
    persons = read_coco(PEOPLE / f"{part}.json")
    assert len(persons) == len(persons.trainable()) == len(persons.usable()) == count
    assert persons.skeleton is COCO
    assert all(image.is_file() for image in {p.image for p in persons.instances})


@needs_data
@pytest.mark.parametrize(
    ("name", "count", "skeleton"),
    [
        ("coco-mini/train", 334, "coco"),
        ("coco-mini/val", 381, "coco"),
        ("lspet/train", 8000, "lsp"),
        ("lspet/val", 1000, "lsp"),
        ("samples/ai_challenger/test_aic", 9, "ai_challenger"),
    ],
)
def test_real_data_sets(name, count, skeleton):
    persons = read_coco(Path(DATA) / f"{name}.json")
    assert len(persons) == len(persons.trainable()) == count
    assert persons.skeleton == replace(SKELETONS[skeleton], joints=persons.skeleton.joints)
    assert all(image.is_file() for image in {p.image for p in persons.instances})


@needs_data
@pytest.mark.parametrize("name", ["ai_challenger/official_format_example", "mpii/test_mpii"])
def test_files_of_other_formats(name):
    with pytest.raises(DataError, match="is not COCO"):
        read_coco(Path(DATA) / "samples" / f"{name}.json")


def test_an_image_list_needs_images(tmp_path):
    path = tmp_path / "image_info.json"
    for content, message in (
        ({"images": []}, "no list 'images'"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}]}, "missing"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            read_image_list(path, tmp_path, COCO)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"null", "no list of objects 'annotations'"),
        (b'{"id": 9, "image_id": 7, "keypoints": [1e999, 1, 2, 0, 0, 0, 0, 0, 0]}', "annotation 9: keypoints: 'inf'"),
        (b'{"id": 9, "image_id": "\xff"}', "record 5: the byte 0xff is not UTF-8"),
    ],
    ids=["not an object", "infinite", "not UTF-8"],
)
def test_one_broken_record_does_not_slow_the_others_down(folder, record, message):
    """Records are decoded one by one; the slower parser decodes only those that the fast one rejects."""
    path = save_coco(folder)
    path.write_bytes(path.read_bytes().replace(b'}], "categories"', b"}, " + record + b'], "categories"'))
    with pytest.raises(DataError, match=message):
        read_coco(path)


def test_image_ids_as_texts_and_numbers_match_by_value(folder):
    def change(content):
        for number, annotation in enumerate(content["annotations"]):
            if annotation["image_id"] == 7:
                annotation["image_id"] = ("7", 7.0, "7.0", 7)[number % 4]

    assert read_coco(save_coco(folder, change)).instances.image_ids == read_coco(save_coco(folder)).instances.image_ids


@pytest.mark.parametrize("image_id", [9, 9.0, "9"])
def test_an_image_of_a_person_that_is_left_out_is_not_empty(folder, image_id):
    def change(content):
        content["images"].append({"id": 9, "file_name": "c.jpg"})
        content["annotations"][0] |= {"image_id": image_id, "keypoints": []}

    assert read_coco(save_coco(folder, change), problems=[]).empty_images == ()


def test_positions_of_unlabeled_joints_may_be_missing(folder):
    def change(content):
        content["annotations"][0]["keypoints"][6:] = [None, float("nan"), 0]

    assert read_coco(save_coco(folder, change))[0].joints.tolist() == [[3, 4], [5, 9], [0, 0]]
