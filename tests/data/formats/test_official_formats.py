"""MPII, AI Challenger and LSP in their official forms: small files written here, real samples where there are any."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.registry import read_annotations
from semipose.errors import DataError
from semipose.structures.skeletons import AI_CHALLENGER, LSP, MPII

SAMPLES = Path(os.environ.get("SEMIPOSE_DATA", "/nowhere")) / "samples"


def image(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def mpii_record(**changed):
    joints = [[10.0 + i, 20.0 + i] for i in range(16)]
    record = {"image": "a.jpg", "center": [100.0, 50.0], "scale": 0.5, "joints": joints, "joints_vis": [1] * 15 + [0]}
    return record | changed


@pytest.fixture
def mpii(tmp_path):
    """Writes annot/NAME.json with its images; returns the path."""

    def make(records, name="train"):
        image(tmp_path / "images" / "a.jpg")
        path = tmp_path / "annot" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(records))
        return path

    return make


def test_mpii(mpii):
    persons = read_annotations(mpii([mpii_record()]))
    (person,) = persons.instances
    assert persons.skeleton is MPII
    # Side 200 * .5; center moved down by 15 * .5, from 1-based to 0-based pixels.
    x, y, width, height = person.box
    assert (width, height) == (100, 100)
    np.testing.assert_allclose([x + (width - 1) / 2, y + (height - 1) / 2], [99, 50 + 7.5 - 1])
    np.testing.assert_array_equal(person.joints[0], [9, 19])
    np.testing.assert_array_equal(person.visibility, [2] * 15 + [0])
    np.testing.assert_array_equal(person.joints[15], [0, 0])
    assert person.head_size is None


def test_mpii_center_minus_one_stays(mpii):
    (person,) = read_annotations(mpii([mpii_record(center=[-1, -1])])).instances
    np.testing.assert_allclose(person.box[1] + 99 / 2, -2)


def test_mpii_test_list_has_no_joints(mpii):
    record = {"image": "a.jpg", "center": [5, 5], "scale": 1}
    (person,) = read_annotations(mpii([record])).instances
    assert person.joints is None


def test_mpii_heads_come_from_the_official_file(mpii):
    path = mpii([mpii_record(), mpii_record()], "valid")
    heads = np.zeros((2, 2, 2))
    heads[0, :, 0], heads[1, :, 0] = (10, 10), (40, 50)  # diagonal 50
    heads[0, :, 1], heads[1, :, 1] = (0, 0), (6, 8)
    missing = np.zeros((16, 2), np.uint8)
    missing[3, 1] = 1
    positions = np.arange(64).reshape(16, 2, 2)
    savemat(path.parent / "gt_valid.mat", {"headboxes_src": heads, "jnt_missing": missing, "pos_gt_src": positions})
    first, second = read_annotations(path).instances
    assert (first.head_size, second.head_size) == (0.6 * 50, 0.6 * 10)
    np.testing.assert_array_equal(first.joints, positions[:, :, 0] - 1)
    assert second.visibility.tolist() == [2, 2, 2, 0, *[2] * 12]
    savemat(
        path.parent / "gt_valid.mat", {"headboxes_src": heads, "jnt_missing": missing[:, :1], "pos_gt_src": positions}
    )
    with pytest.raises(DataError, match=r"jnt_missing has shape \(16, 1\)"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"center": [1]}, "person 0: 'center'"),
        ({"scale": 0}, "'scale' one above 0"),
        ({"scale": float("nan")}, "'scale'"),
        ({"joints": [[1, 2]]}, "16 pairs"),
        ({"joints_vis": None}, "16 flags"),
        ({"image": "../a.jpg"}, "leaves the image folder"),
        ({"image": "b.jpg"}, "b.jpg of .* is missing"),
        ({"image": 3}, "needs 'image'|neither"),
    ],
)
def test_broken_mpii_lists(mpii, changed, message):
    with pytest.raises(DataError, match=message):
        read_annotations(mpii([mpii_record(**changed)]))


def aic_record(**changed):
    flat = [v for i in range(14) for v in (10 + i, 20 + i, 1 + i % 3)]
    record = {"image_id": "a", "url": "", "human_annotations": {}, "keypoint_annotations": {}}
    for human, box in (("human2", [5, 6, 25, 36]), ("human10", [1, 1, 3, 3]), ("human1", [0, 0, 10, 20])):
        record["human_annotations"][human] = box
        record["keypoint_annotations"][human] = flat
    return record | changed


@pytest.fixture
def aic(tmp_path):
    def make(records):
        image(tmp_path / "keypoint_train_images_20170902" / "a.jpg")
        path = tmp_path / "keypoint_train_annotations_20170909.json"
        path.write_text(json.dumps(records))
        return path

    return make


def test_ai_challenger(aic):
    persons = read_annotations(aic([aic_record(), {**aic_record(), "image_id": "b", "human_annotations": {}}]))
    assert persons.skeleton is AI_CHALLENGER
    assert [p.box for p in persons.instances] == [(0, 0, 10, 20), (5, 6, 20, 30), (1, 1, 2, 2)]  # human1, 2, 10
    assert [p.annotation_id for p in persons.instances] == [0, 1, 2]
    assert persons[1].area == 600
    # 1 visible, 2 occluded, 3 absent
    assert persons[0].visibility[:4].tolist() == [2, 1, 0, 2]
    np.testing.assert_array_equal(persons[0].joints[1], [11, 21])
    np.testing.assert_array_equal(persons[0].joints[2], [0, 0])
    assert [name for name, _ in persons.empty_images] == ["b"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": "../a"}, "record 0"),
        ({"human_annotations": []}, "image a needs"),
        ({"human_annotations": {"human1": [0, 0, 1]}}, "human1: needs a box of 4"),
        ({"human_annotations": {"human1": [5, 5, 1, 1]}}, "ends before it begins"),
        ({"keypoint_annotations": {"human1": [1] * 41}}, "42 numbers"),
        ({"keypoint_annotations": {"human1": [1, 1, 7] * 14}}, "none of 1, 2, 3"),
    ],
)
def test_broken_ai_challenger_lists(aic, changed, message):
    record = aic_record()
    record["human_annotations"] = {"human1": [0, 0, 10, 20]}
    with pytest.raises(DataError, match=message):
        read_annotations(aic([record | changed]))


def test_lsp_flags_say_occluded(tmp_path):
    image(tmp_path / "images" / "im0001.jpg")
    joints = np.ones((3, 14, 2)) * 10
    joints[2] = 0
    joints[0, 3, 0], joints[2, 3, 0] = 30, 1
    savemat(tmp_path / "joints.mat", {"joints": joints})
    persons = read_annotations(tmp_path / "joints.mat")
    assert persons.skeleton is LSP
    assert persons[0].visibility.tolist() == [2, 2, 2, 1, *[2] * 10]
    np.testing.assert_array_equal(persons[0].joints[3], [29, 9])
    assert persons[1].image.name == "im0002.jpg"
    x, y, width, height = persons[0].box
    assert x < 9 < 29 < x + width
    assert y < 9 < y + height


def test_lsp_extended_flags_say_labeled(tmp_path):
    image(tmp_path / "images" / "im00001.jpg")
    joints = np.zeros((14, 3, 1))
    joints[2, :, 0], joints[5, :, 0] = (11, 21, 1), (51, 61, 1)
    savemat(tmp_path / "joints.mat", {"joints": joints})
    (person,) = read_annotations(tmp_path / "joints.mat").instances
    assert np.flatnonzero(person.visibility).tolist() == [2, 5]
    np.testing.assert_array_equal(person.joints[5], [50, 60])
    np.testing.assert_allclose(person.box, [10 - 5, 20 - 5, 50, 50])


def test_a_matlab_file_that_is_none(tmp_path):
    path = tmp_path / "joints.mat"
    path.write_bytes(b"MATLAB 5.0 but not really")
    with pytest.raises(DataError, match="no MATLAB file"):
        read_annotations(path)
    savemat(path, {"other": np.zeros(3)})
    with pytest.raises(DataError, match="no array 'joints'; it has: other"):
        read_annotations(path)
    savemat(path, {"joints": np.zeros((5, 5, 5))})
    with pytest.raises(DataError, match=r"\(5, 5, 5\)"):
        read_annotations(path)


@pytest.mark.parametrize("content", ["[]", "[1]", '[{"bbox": [1, 2, 3, 4]}]', "[", "[[[["])
def test_lists_that_are_neither(tmp_path, content):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"neither MPII|not JSON|empty"):
        read_annotations(path)


def test_labels_left_unread_and_a_round_trip(mpii, tmp_path):
    path = mpii([mpii_record()])
    assert read_annotations(path, labels=False)[0].joints is None
    persons = read_annotations(path)
    write_coco(persons, tmp_path / "images" / "as_coco.json")
    again = read_annotations(tmp_path / "images" / "as_coco.json", tmp_path / "images")
    assert again.skeleton is MPII
    np.testing.assert_allclose(again[0].joints, persons[0].joints)
    np.testing.assert_allclose(again[0].box, persons[0].box)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs SEMIPOSE_DATA")
def test_the_real_samples(tmp_path):
    mpii = read_annotations(SAMPLES / "mpii" / "test_mpii.json")
    assert len(mpii.trainable()) == len(mpii) > 3
    for person in mpii.instances:  # joints lie in the (padded) box
        x, y, width, height = person.box
        inside = person.joints[person.visibility > 0]
        assert (inside >= [x - width / 4, y - height / 4]).all()
        assert (inside <= [x + 1.25 * width, y + 1.25 * height]).all()
    aic = read_annotations(SAMPLES / "ai_challenger" / "test_aic.json")
    assert len(aic) == 9
    # The same photographs in the official form and in a COCO container say the same.
    official = json.loads((SAMPLES / "ai_challenger" / "official_format_example.json").read_text())
    here = {p.image.stem for p in aic.instances}
    path = tmp_path / "keypoint_annotations.json"
    path.write_text(json.dumps([r for r in official if r["image_id"] in here]))
    same = read_annotations(path, SAMPLES / "ai_challenger")
    by_box = {(p.image.stem, p.box): p for p in aic.instances}
    assert len(same) > 3
    for person in same.instances:
        other = by_box[person.image.stem, person.box]
        np.testing.assert_array_equal(person.joints, other.joints)
        np.testing.assert_array_equal(person.visibility, other.visibility)
