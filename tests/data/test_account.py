"""The account of a data set: one line, JSON, and the same numbers from train, evaluate and predict."""

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from semipose.api import evaluate, predict, train
from semipose.data.account import DataAccount, untrainable_by_reason, unusable_by_reason
from semipose.data.data_config import DataConfig
from semipose.data.data_errors import DataErrors
from semipose.data.datasets import PEOPLE, load_splits
from semipose.data.formats.coco import read_coco
from semipose.errors import ConfigError, DataError


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Eight persons: a crowd, one without labels, one whose box has no area, one without a box and with one joint."""
    names = ["nose", "left_hip", "right_hip"]
    joints = [20, 20, 2, 30, 60, 2, 50, 60, 2]
    persons = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 50, 60], "keypoints": joints} for n in range(1, 9)
    ]
    persons[1]["iscrowd"] = "1"
    persons[2]["keypoints"] = [0] * 9
    persons[3] |= {"bbox": [20, 20, 0, 9], "keypoints": [20, 20, 2, 0, 0, 0, 0, 0, 0]}
    persons[4] |= {"bbox": [0, 0, 0, 0], "keypoints": [20, 20, 2, 0, 0, 0, 0, 0, 0]}
    persons[5]["bbox"] = [0, 0, 0, 0]
    (tmp_path / "images").mkdir()
    for n in range(1, 9):
        Image.new("RGB", (80, 90), (n * 20, 0, 0)).save(tmp_path / "images" / f"{n}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(1, 9)],
        "annotations": persons,
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(content))
    return path


LEFT_OUT = {
    "without a box and with less than two labeled joints": 1,
    "crowds": 1,
    "without labeled joints": 1,
    "with a box of no area": 1,
}


def test_one_line_and_json(mixed):
    persons = read_coco(mixed)
    account = DataAccount.of(persons, {"labeled": 4}, untrainable_by_reason(persons))
    assert account.as_dict() == {
        "source": str(mixed),
        "images": 7,
        "persons": 7,
        "used": {"labeled": 4},
        "left_out": LEFT_OUT,
        "boxes_from_labels": 1,
    }
    assert account.describe() == (
        f"{mixed}: 7 persons in 7 images; 4 labeled; left out: 1 without a box and with less than two labeled joints, "
        "1 crowds, 1 without labeled joints, 1 with a box of no area; boxes that come from the labels: 1"
    )
    assert unusable_by_reason(persons) == {"crowds": 1, "with a box of no area": 1}
    assert DataAccount("a", 1, 1, {"scored": 1}).describe() == "a: 1 person in 1 image; 1 scored; left out: nothing"


def test_broken_records_and_images_are_added():
    errors = DataErrors(records={"val": ["a", "b"]}, unreadable={"val": {"c.jpg": "broken"}})
    account = DataAccount("a", 3, 3)
    assert account.with_errors(errors, "val").left_out == {"broken records": 2, "unreadable images": 1}
    assert account.with_errors(errors, "train").left_out == {}


def test_splits_have_the_account_of_the_training_set(mixed):
    account = load_splits(DataConfig(train=str(mixed), validation=1)).account
    assert account.used == {"labeled": 3, "validation": 1}
    assert account.left_out == LEFT_OUT


def test_train_evaluate_and_predict_log_the_account(mixed, tiny, tmp_path, caplog, monkeypatch):
    config = tiny("supervised", **{"data.train": str(mixed), "data.images": None, "data.labels": None})
    config = config.model_copy(update={"data": config.data.model_copy(update={"validation": 1})})
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": 1})})
    with caplog.at_level(logging.INFO):
        result = train(config, out=tmp_path / "run")
    assert result.data["used"] == {"labeled": 3, "validation": 1}
    assert result.data["left_out"] == LEFT_OUT
    assert "7 persons in 7 images; 3 labeled, 1 validation; left out: 1 without a box" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        evaluation = evaluate(tmp_path / "run", mixed, device="cpu")
    found = evaluation.as_dict()["data"]
    assert (found["used"], found["boxes_from_labels"]) == ({"scored": 5, "of them missed (no prediction)": 1}, 1)
    assert "5 scored, 1 of them missed (no prediction); left out: 1 without a box" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        predict(tmp_path / "run", mixed, out=tmp_path / "found", device="cpu")
    assert "4 predicted on; left out: 1 crowds, 3 with a box of no area" in caplog.text


def test_sets_without_any_box_say_so(mixed):
    content = json.loads(mixed.read_text())
    for person in content["annotations"]:
        person |= {"bbox": [20, 20, 0, 9], "keypoints": [20, 20, 2, 0, 0, 0, 0, 0, 0], "iscrowd": 0}
    mixed.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no person with labeled keypoints and a box; add a 'bbox'"):
        load_splits(DataConfig(train=str(mixed)))
    from semipose.data.prediction_images import prediction_dataset

    with pytest.raises(ConfigError, match="no person whose box has an area"):
        prediction_dataset(mixed, read_coco(PEOPLE / "val.json").skeleton, None, None, 0.0, [])
