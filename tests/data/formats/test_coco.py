"""The COCO reader and writer: what is read, what is refused with which message, and that writing reads back."""

import copy
import json
import logging
import os
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semipose.data.formats.coco import (
    Annotation,
    Container,
    read_coco,
    read_image_list,
)
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.json_files import each, read_json
from semipose.errors import DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO, SKELETONS, infer_skeleton

DATA = os.environ.get("SEMIPOSE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SEMIPOSE_DATA does not name the data folder")
PEOPLE = Path(__file__).parents[3] / "src" / "semipose" / "people"

NAMES = ["nose", "left_hand", "right_hand"]
CONTENT = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": "eight", "file_name": "deep/b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20], "keypoints": [3, 4, 2, 5, 9, 1, 8, 8, 0]},
        {"id": 2, "image_id": "eight", "category_id": 1, "bbox": [0, 0, 4, 6], "area": 11, "keypoints": [0] * 9},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1, "keypoints": [1, 1, 2] * 3},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [0, 0, 0, 9], "keypoints": [1, 1, 2] * 3},
        {"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9]},
    ],
    "categories": [
        {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]},
        {"id": 2, "name": "dog"},
    ],
}


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 30)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the photographs of CONTENT in `images/`."""
    photograph(tmp_path / "images" / "a.jpg")
    photograph(tmp_path / "images" / "deep" / "b.jpg")
    return tmp_path


def save(folder: Path, change=lambda content: None) -> Path:
    """CONTENT, changed, as a file."""
    content = copy.deepcopy(CONTENT)
    change(content)
    path = folder / "some.json"
    path.write_text(json.dumps(content))
    return path


def first(**values):
    """A change of the first annotation."""

    def change(content: dict) -> None:
        content["annotations"][0].update(values)

    return change


def same(a: PoseDataset, b: PoseDataset) -> None:
    assert a.skeleton == b.skeleton
    assert len(a) == len(b)
    for p, q in zip(a.instances, b.instances, strict=True):
        for field in ("image", "image_id", "annotation_id", "box", "area", "is_crowd", "head_size"):
            assert getattr(p, field) == getattr(q, field), field
        assert (p.joints is None) == (q.joints is None)
        if p.joints is not None:
            np.testing.assert_array_equal(p.joints, q.joints)
            np.testing.assert_array_equal(p.visibility, q.visibility)


def test_fields(folder):
    persons = read_coco(save(folder))
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


def test_choices(folder):
    persons = read_coco(save(folder))
    assert [p.annotation_id for p in persons.trainable().instances] == [1]
    assert [p.annotation_id for p in persons.usable().instances] == [1, 2]


@pytest.mark.parametrize("place", ["images", "some", "."])
def test_finds_images(tmp_path, place):
    photograph(tmp_path / place / "a.jpg")
    photograph(tmp_path / place / "deep" / "b.jpg")
    assert all(p.image.is_file() for p in read_coco(save(tmp_path)).instances)


def test_images_argument_wins(folder):
    photograph(folder / "other" / "a.jpg")
    persons = read_coco(save(folder), folder / "other")
    assert persons[0].image.parent == folder / "other"
    missing = {p.image for p in persons.instances if not p.image.is_file()}
    assert missing == {folder / "other" / "deep" / "b.jpg"}


def test_without_labels(folder):
    def drop(content):
        for annotation in content["annotations"]:
            annotation.pop("keypoints", None)
        content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
        content["annotations"].pop()

    persons = read_coco(save(folder, drop), labels=False, skeleton=COCO)
    assert persons.skeleton is COCO
    assert all(p.joints is None and p.visibility is None for p in persons.instances)
    with pytest.raises(DataError, match="keypoints"):
        read_coco(save(folder, drop), labels=False)
    with pytest.raises(DataError, match="keypoints"):
        read_coco(save(folder, drop))


def test_box_from_joints(folder, caplog):
    def change(content):
        del content["annotations"][0]["bbox"]
        del content["annotations"][1]["bbox"]  # no labeled joint either

    with caplog.at_level(logging.WARNING):
        persons = read_coco(save(folder, change))
    assert [p.annotation_id for p in persons.instances] == [1, 3, 4]
    assert "1 annotations" in caplog.text
    x, y, width, height = persons[0].box
    assert x < 3 < 5 < x + width - 1
    assert y < 4 < 9 < y + height - 1
    assert (x + (width - 1) / 2, y + (height - 1) / 2) == pytest.approx((4, 6.5), abs=0.5)


REFUSED = {
    "short": (first(keypoints=[1, 2, 2]), "annotation 1.*9 numbers"),
    "text": (first(keypoints=["1"] * 9), "annotation 1.*keypoints"),
    "nan": (first(keypoints=[float("nan")] * 9), "annotation 1.*keypoints"),
    "no keypoints": (first(keypoints=None), "annotation 1.*keypoints"),
    "visibility": (first(keypoints=[1, 1, 3] * 3), "annotation 1.*visibility"),
    "box": (first(bbox=[1, 2, 3]), "annotation 1.*bbox"),
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
    "two lists": (lambda c: c["categories"][1].update(keypoints=["tail"]), "different"),
    "limb": (lambda c: c["categories"][0].update(skeleton=[[0, 1]]), "limb"),
    "repeated joint": (lambda c: c["categories"][0].update(keypoints=["a", "a"], skeleton=[]), "twice"),
    "photograph": (lambda c: c["images"][0].update(file_name="gone.jpg"), "gone.jpg.*--images"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(folder, case):
    change, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        read_coco(save(folder, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"images": 3}', "\ufeff{}"])
def test_refuses_other_files(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"some\.json"):
        read_coco(path)


def test_names_line_and_column(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{\n "images": oops}')
    with pytest.raises(DataError, match="line 2, column 12"):
        read_coco(path)


def test_missing_places(folder):
    with pytest.raises(DataError, match=r"gone\.json"):
        read_coco(folder / "gone.json")
    with pytest.raises(DataError, match="--images"):
        read_coco(save(folder), folder / "gone")
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
def test_refuses_odd_ids(folder, change, options):
    with pytest.raises(DataError):
        read_coco(save(folder, change), **options)


@pytest.mark.parametrize(
    "change", [first(area=-4), first(category_id=99), first(id=True)], ids=["area", "unknown category", "boolean id"]
)
def test_refuses_wrong_values(folder, change):
    with pytest.raises(DataError):
        read_coco(save(folder, change))


def test_reads_back(folder):
    persons = read_coco(save(folder))
    write_coco(persons, folder / "again.json")
    again = read_coco(folder / "again.json", folder / "images")
    assert again.skeleton.joints == persons.skeleton.joints
    same(PoseDataset(persons.skeleton, again.instances, ""), persons)


numbers = st.floats(-1e4, 1e4).map(lambda v: v + 0.0)  # no -0.0
sizes = st.floats(0.1, 1e4)


@st.composite
def person_sets(draw, root: Path) -> PoseDataset:
    skeleton = draw(st.sampled_from([*SKELETONS.values(), infer_skeleton(NAMES, [(0, 1)], name="again")]))
    persons = []
    for number in range(draw(st.integers(1, 4))):
        visibility = np.array(draw(st.lists(st.integers(0, 2), min_size=len(skeleton), max_size=len(skeleton))))
        joints = np.array([[draw(numbers), draw(numbers)] if v else [0.0, 0.0] for v in visibility])
        box = (draw(numbers), draw(numbers), draw(sizes), draw(sizes))
        image_id = draw(st.sampled_from([1, 2, "three"]))
        image = root / "images" / f"{image_id}.jpg"
        head = draw(st.none() | sizes)
        crowd = draw(st.booleans())
        persons.append(Instance(image, image_id, number, box, joints, visibility, draw(sizes), 1.0, crowd, head))
    return PoseDataset(skeleton, tuple(persons), "drawn")


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_set_reads_back(data):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for image in ("1.jpg", "2.jpg", "three.jpg"):
            photograph(root / "images" / image)
        persons = data.draw(person_sets(root))
        write_coco(persons, root / "again.json")
        same(read_coco(root / "again.json"), persons)


def test_unlabeled_set_reads_back(folder):
    persons = read_coco(save(folder), labels=False)
    write_coco(persons, folder / "again.json")
    again = read_coco(folder / "again.json", folder / "images", labels=False)
    same(PoseDataset(persons.skeleton, again.instances, ""), persons)


@pytest.mark.parametrize(("part", "count"), [("train", 1598), ("val", 400)])
def test_embedded_people(part, count):
    persons = read_coco(PEOPLE / f"{part}.json")
    assert len(persons) == len(persons.trainable()) == len(persons.usable()) == count
    assert persons.skeleton is COCO
    assert all(image.is_file() for image in {p.image for p in persons.instances})


def test_embedded_people_read_back(tmp_path):
    persons = read_coco(PEOPLE / "val.json")
    write_coco(persons, tmp_path / "again.json")
    same(read_coco(tmp_path / "again.json", PEOPLE / "images"), persons)


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
def test_real_data(name, count, skeleton):
    persons = read_coco(Path(DATA) / f"{name}.json")
    assert len(persons) == len(persons.trainable()) == count
    assert persons.skeleton is SKELETONS[skeleton]
    assert all(image.is_file() for image in {p.image for p in persons.instances})


@needs_data
@pytest.mark.parametrize("name", ["ai_challenger/official_format_example", "mpii/test_mpii"])
def test_refuses_other_formats(name):
    with pytest.raises(DataError, match="no COCO container"):
        read_coco(Path(DATA) / "samples" / f"{name}.json")


def test_outlines_take_no_memory_and_numbers_beyond_reach_are_told(tmp_path):
    """What is not read is not kept; a file that the fast parser refuses is read by the one that says where."""
    annotation = {"id": 1, "category_id": 1, "segmentation": [[0.5] * 100], "bbox": [1, 2, 3, 4]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "annotations": [annotation], "categories": []}))
    (raw,) = read_json(path, "file", Container)["annotations"]
    assert isinstance(raw, msgspec.Raw)
    kept = {"id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    assert list(each([raw, kept], path, Annotation)) == [kept, kept]
    path.write_text('{"images": 3, "annotations": [NaN]}')
    assert read_json(path, "file", Container)["images"] == 3
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(DataError, match="line 2, column 18"):
        read_json(path, "file", Container)


def test_a_list_of_images_needs_images(tmp_path):
    path = tmp_path / "image_info.json"
    for content, told in (
        ({"images": []}, "no list 'images'"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}]}, "missing"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=told):
            read_image_list(path, tmp_path, COCO)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (b"null", "no list 'annotations'"),
        (b'{"id": 9, "image_id": 7, "keypoints": [1e999, 1, 2, 0, 0, 0, 0, 0, 0]}', "annotation 9: keypoints: 'inf'"),
        (b'{"id": 9, "image_id": "\xff"}', "record 5 is not JSON: UnicodeDecodeError"),
    ],
    ids=["no object", "infinite", "no UTF-8"],
)
def test_an_odd_record_does_not_make_the_others_slow(folder, odd, told):
    """Records are read one by one; one that the fast parser refuses is read by the forgiving one, or told."""
    path = save(folder)
    path.write_bytes(path.read_bytes().replace(b'}], "categories"', b"}, " + odd + b'], "categories"'))
    with pytest.raises(DataError, match=told):
        read_coco(path)


def test_written_files_list_the_images_that_show_nobody(tmp_path):
    photograph(tmp_path / "images" / "a.jpg")
    photograph(tmp_path / "images" / "deep" / "b.jpg")
    photograph(tmp_path / "images" / "nobody.jpg")
    path = save(tmp_path, lambda content: content["images"].append({"id": 77, "file_name": "nobody.jpg"}))
    before = read_coco(path)
    write_coco(before, tmp_path / "again.json")
    after = read_coco(tmp_path / "again.json", tmp_path / "images")
    assert after.empty_images == before.empty_images
    assert dict(after.empty_images)[77].name == "nobody.jpg"
