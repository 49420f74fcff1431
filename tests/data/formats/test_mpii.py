"""MPII's JSON lists: small files written here, and a real sample where there is one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from semipose.data.formats.registry import read_annotations
from semipose.errors import DataError
from semipose.structures.skeletons import MPII
from tests.data.formats.conftest import save_image

SAMPLES = Path(os.environ.get("SEMIPOSE_DATA", "/nowhere")) / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="SEMIPOSE_DATA does not name the data folder")


def mpii_record(**changed):
    joints = [[10.0 + i, 20.0 + i] for i in range(16)]
    record = {"image": "a.jpg", "center": [100.0, 50.0], "scale": 0.5, "joints": joints, "joints_vis": [1] * 15 + [0]}
    return record | changed


@pytest.fixture
def mpii(tmp_path):
    """Writes annot/NAME.json with its images; returns the path."""

    def make(records, name="train"):
        save_image(tmp_path / "images" / "a.jpg")
        path = tmp_path / "annot" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(records))
        return path

    return make


def test_boxes_and_joints(mpii):
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


def test_a_center_of_minus_one_is_not_moved(mpii):
    (person,) = read_annotations(mpii([mpii_record(center=[-1, -1])])).instances
    np.testing.assert_allclose(person.box[1] + 99 / 2, -2)


def test_the_test_list_has_no_joints(mpii):
    record = {"image": "a.jpg", "center": [5, 5], "scale": 1}
    (person,) = read_annotations(mpii([record])).instances
    assert person.joints is None


def test_head_sizes_come_from_gt_valid(mpii):
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
        ({"image": "../a.jpg"}, "outside the image folder"),
        ({"image": "b.jpg"}, "b.jpg of .* is missing"),
        ({"image": 3}, "needs 'image'"),
    ],
)
def test_broken_records(mpii, changed, message):
    with pytest.raises(DataError, match=message):
        read_annotations(mpii([mpii_record(**changed)]))


@needs_samples
def test_the_real_sample():
    persons = read_annotations(SAMPLES / "mpii" / "test_mpii.json")
    assert len(persons.trainable()) == len(persons) > 3
    for person in persons.instances:  # joints are in the padded box
        x, y, width, height = person.box
        inside = person.joints[person.visibility > 0]
        assert (inside >= [x - width / 4, y - height / 4]).all()
        assert (inside <= [x + 1.25 * width, y + 1.25 * height]).all()
