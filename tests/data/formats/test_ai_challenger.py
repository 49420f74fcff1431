"""AI Challenger's official JSON: small files written here, and a real sample where there is one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from semipose.data.formats.registry import read_annotations
from semipose.errors import DataError
from semipose.structures.skeletons import AI_CHALLENGER
from tests.data.formats.conftest import save_image

SAMPLES = Path(os.environ.get("SEMIPOSE_DATA", "/nowhere")) / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="SEMIPOSE_DATA does not name the data folder")


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
        save_image(tmp_path / "keypoint_train_images_20170902" / "a.jpg")
        path = tmp_path / "keypoint_train_annotations_20170909.json"
        path.write_text(json.dumps(records))
        return path

    return make


def test_boxes_and_joints(aic):
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
        ({"human_annotations": {"human1": [5, 5, 1, 1]}}, "negative size"),
        ({"keypoint_annotations": {"human1": [1] * 41}}, "42 numbers"),
        ({"keypoint_annotations": {"human1": [1, 1, 7] * 14}}, "none of 1, 2, 3"),
    ],
)
def test_broken_records(aic, changed, message):
    record = aic_record()
    record["human_annotations"] = {"human1": [0, 0, 10, 20]}
    with pytest.raises(DataError, match=message):
        read_annotations(aic([record | changed]))


@needs_samples
def test_the_real_sample_equals_its_coco_file(tmp_path):
    aic = read_annotations(SAMPLES / "ai_challenger" / "test_aic.json")
    assert len(aic) == 9
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
