"""The data of a run: joints are matched by name, and a run is not resumed on other data."""

import json

import pytest

from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.errors import WeightsError
from semipose.trainer import train
from tests.inference.test_evaluation import reverse_joints


def test_validation_joints_in_another_order_are_matched_by_name(tiny, tmp_path):
    results = []
    for name in ("usual", "reversed"):
        path = tmp_path / f"{name}.json"
        write_coco(read_dataset("people", None).subset(range(100, 130)), path)
        content = json.loads(path.read_text())
        if name == "reversed":
            reverse_joints(content)
        path.write_text(json.dumps(content))
        validation = {"data.val": str(path), "data.val_images": str(PEOPLE / "images"), "data.validation": None}
        validation |= {"train.steps": 3}
        results.append(train(tiny("supervised", **validation), tmp_path / name).scores)
    assert results[0] == results[1]


def test_a_run_is_not_resumed_with_other_labels_boxes_or_images(tiny, small_people, tmp_path):
    config = tiny("single", **{"train.steps": 2})
    train(config, tmp_path / "run")
    original = small_people.read_text()
    for change in ("keypoints", "bbox"):
        content = json.loads(original)
        for record in content["annotations"]:
            record[change][0] += 1.0
        small_people.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match=r"made with data '24 labeled \w+, 28 unlabeled \w+, 8 validation"):
            train(config, tmp_path / "run", resume=True)
    content = json.loads(original)
    del content["annotations"][5]
    small_people.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="made with split"):
        train(config, tmp_path / "run", resume=True)
    small_people.write_text(original)
    train(config, tmp_path / "run", resume=True)
