"""Evaluation: joints are matched by name, what does not fit is refused, images used in training are marked."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import semipose
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_results import save_predictions
from semipose.data.formats.coco_writer import write_coco
from semipose.errors import ConfigError
from semipose.inference.evaluation import evaluate
from semipose.inference.predict import predict
from semipose.metrics.base import MatchedDataset, Metric, MetricResult
from semipose.metrics.instance_score import DESCRIPTIONS
from semipose.metrics.registry import METRICS
from semipose.structures.predictions import ground_truth_as_predictions

IMAGES = PEOPLE / "images"


@pytest.fixture(scope="module")
def run(trained_run: Path) -> Path:
    return trained_run


def annotations(path: Path, change: Callable[[dict], None] | None = None, persons: range = range(100, 130)) -> Path:
    """Writes a file of 30 persons that the run was not trained on, changed by `change`."""
    write_coco(read_dataset("people", None).subset(persons), path)
    if change:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return path


def reverse_joints(content: dict) -> None:
    """Lists the same joints from the last to the first."""
    content["categories"][0]["keypoints"].reverse()
    content["categories"][0]["skeleton"] = []
    for record in content["annotations"]:
        flat = record["keypoints"]
        record["keypoints"] = [v for k in reversed(range(17)) for v in flat[3 * k : 3 * k + 3]]


@pytest.mark.parametrize("flip_test", [False, True])
def test_joints_in_another_order_are_matched_by_name(run, tmp_path, flip_test):
    usual = evaluate(run, annotations(tmp_path / "a.json"), images=IMAGES, flip_test=flip_test)
    other = evaluate(run, annotations(tmp_path / "b.json", reverse_joints), images=IMAGES, flip_test=flip_test)
    assert other.scores == usual.scores
    assert usual.scores["PCK@0.2"] > 0
    assert usual.protocol.flip_test is flip_test


def test_a_model_and_its_path_give_the_same_evaluation(run, tmp_path):
    data = annotations(tmp_path / "a.json")
    by_path = evaluate(run, data, images=IMAGES)
    model = semipose.load(run)
    assert evaluate(model, str(data), images=str(IMAGES)) == by_path
    assert by_path.scores["AP"] is not None
    text = repr(by_path)
    assert text.startswith(f"Evaluation({run} (f): Scores(× 100: AP ")
    assert "30 persons" in text
    with pytest.raises(ConfigError, match="`network`"):
        evaluate(model, data, images=IMAGES, network="f")


def test_nothing_is_written(run, tmp_path, monkeypatch):
    data = annotations(tmp_path / "a.json")
    monkeypatch.chdir(tmp_path)
    before = sorted(path for folder in (run, tmp_path) for path in folder.rglob("*"))
    evaluate(run, data, images=IMAGES)
    assert sorted(path for folder in (run, tmp_path) for path in folder.rglob("*")) == before


def test_the_predictions_of_a_run_are_matched_by_name_too(run, tmp_path):
    """The file names no joints, but its run does."""
    usual = evaluate(run / "predictions.json", annotations(tmp_path / "a.json", persons=range(60)), images=IMAGES)
    data = annotations(tmp_path / "b.json", reverse_joints, range(60))
    assert evaluate(run / "predictions.json", data, images=IMAGES).scores["AP"] == usual.scores["AP"]


def test_labels_as_predictions_score_one(tmp_path):
    truth = read_dataset("people", None).subset(range(30))
    save_predictions(ground_truth_as_predictions(truth), tmp_path / "labels.json")
    data = annotations(tmp_path / "a.json", persons=range(30))
    found = evaluate(tmp_path / "labels.json", data, images=IMAGES)
    assert found.as_dict()["AP"] == found.as_dict()["PCK@0.2"] == 1
    assert found.data.left_out == {}
    records = json.loads((tmp_path / "labels.json").read_text())
    records += [records[0] | change for change in ({"category_id": 3}, {"image_id": 99999}, {"image_id": 99998})]
    (tmp_path / "more.json").write_text(json.dumps(records))
    more = evaluate(tmp_path / "more.json", data, images=IMAGES)
    assert more.scores == found.scores
    assert more.data.left_out == {"predictions for other images": 2, "predictions of another category": 1}
    with pytest.raises(ConfigError, match=r"`boxes`, `flip_test`: labels.json contains predictions already"):
        evaluate(tmp_path / "labels.json", data, images=IMAGES, boxes="boxes.json", flip_test=True)


def test_two_models_are_compared_on_the_joints_that_both_predict(tmp_path):
    """The first has not learned the nose, which the second has wrong, and everything else a little wrong."""
    data = annotations(tmp_path / "a.json", persons=range(30))
    labels = ground_truth_as_predictions(read_dataset(str(data), str(IMAGES)))
    other = np.arange(17) > 0
    first = [replace(p, scores=p.scores * other, joints=p.joints + 2, crop_area=1.0) for p in labels]
    second = [replace(p, joints=p.joints + np.where(other, 0, 99)[:, None], crop_area=1.0) for p in labels]
    for name, predictions in (("first", first), ("second", second)):
        save_predictions(predictions, tmp_path / f"{name}.json")
    found = evaluate(tmp_path / "first.json", data, images=IMAGES, against=tmp_path / "second.json")
    assert found.against.scores["pixel_error"] > found.scores["pixel_error"]
    assert found.difference["pixel_error"].value == pytest.approx(8**0.5, abs=0.01)


def test_two_models_are_compared_on_the_same_persons(run, tmp_path):
    data = annotations(tmp_path / "a.json")
    truth = read_dataset(str(data), str(IMAGES))
    save_predictions(ground_truth_as_predictions(truth), tmp_path / "labels.json")
    found = evaluate(tmp_path / "labels.json", data, images=IMAGES, against=run)
    assert found.against.scores == evaluate(run, data, images=IMAGES).scores
    gain = found.difference["PCK@0.2"]
    assert gain.value == pytest.approx(1 - found.against.scores["PCK@0.2"])
    assert gain.interval[0] > 0
    assert json.loads(json.dumps(found.as_dict()))["difference"]["PCK@0.2"]["value"] == gain.value
    with pytest.raises(ConfigError, match="`against_network`: `against` is not given"):
        evaluate(run, data, images=IMAGES, against_network="f")
    with pytest.raises(ConfigError, match=r"`against_network`: labels\.json contains predictions already"):
        evaluate(run, data, images=IMAGES, against=tmp_path / "labels.json", against_network="f")


def test_each_model_accounts_for_its_own_broken_records(run, tmp_path):
    def spoil(content):
        content["annotations"][3]["keypoints"] = [1]

    data = annotations(tmp_path / "a.json", spoil)
    persons = read_dataset("people", None).subset(range(100, 130))
    save_predictions(ground_truth_as_predictions(persons), tmp_path / "whole.json")
    records = json.loads((tmp_path / "whole.json").read_text())
    records[5]["keypoints"] = [1]
    (tmp_path / "broken.json").write_text(json.dumps(records))
    boxes = [{"image_id": r["image_id"], "category_id": 1, "bbox": r["bbox"], "score": 0.9} for r in records]
    boxes[0]["bbox"] = [1]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    given = {"images": IMAGES, "on_error": "skip"}
    found = evaluate(tmp_path / "broken.json", data, against=tmp_path / "whole.json", **given)
    assert {name: len(own["records"]) for name, own in found.left_out.items()} == {"data": 1, "broken.json": 1}
    assert {name: len(own["records"]) for name, own in found.against.left_out.items()} == {"data": 1}
    found = evaluate(run, data, against=run, boxes=tmp_path / "boxes.json", **given)
    assert found.data == found.against.data
    assert found.data.left_out["broken boxes"] == 1


def test_detected_boxes_replace_the_annotated_ones(run, tmp_path):
    data = annotations(tmp_path / "a.json")
    persons = read_dataset(str(data), str(IMAGES))
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9} for p in persons.instances]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    own = evaluate(run, data, images=IMAGES)
    detected = evaluate(run, data, images=IMAGES, boxes=tmp_path / "boxes.json")
    assert detected.scores["PCK@0.2"] == own.scores["PCK@0.2"]
    assert detected.data.left_out == own.data.left_out == {}
    boxes += [boxes[0] | change for change in ({"category_id": 3}, {"image_id": 99999}, {"bbox": [1]})]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes[1:]))
    detected = evaluate(run, data, images=IMAGES, boxes=tmp_path / "boxes.json", on_error="skip")
    counts = {"boxes of another category": 1, "boxes in other images": 1, "broken boxes": 1}
    assert detected.data.left_out == counts
    assert detected.data.used == {"scored": 30, "of them missed (no prediction)": 1}
    assert "boxes.json" in detected.protocol.describe()


def without_boxes(content: dict) -> None:
    """Leaves the boxes and areas to be made from the joints."""
    for record in content["annotations"]:
        del record["bbox"], record["area"]


def test_boxes_of_the_labels_are_mentioned_where_they_are_used(run, tmp_path, caplog):
    """Before, the labels were said to give the boxes also where a file did, and scores in their boxes said nothing."""
    caplog.set_level("INFO")
    boxes = [{"image_id": p["id"], "category_id": 1, "bbox": [8, 8, 160, 160], "score": 0.9} for p in ids(tmp_path)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    data, images = annotations(tmp_path / "a.json", without_boxes), {"images": IMAGES}
    own = evaluate(run, data, **images)
    assert own.data.boxes_from_labels == 30
    assert "boxes that come from the labels: 30" in caplog.text
    assert own.protocol.boxes == "around the labels"
    caplog.clear()
    for given in (tmp_path / "boxes.json", "whole"):
        other = evaluate(run, data, boxes=given, **images)
        assert other.data.boxes_from_labels == 0
        assert other.protocol.boxes == ("whole images" if given == "whole" else str(given))
        assert "sizes come from the labeled joints" in other.protocol.describe()
        assert "come from the labels" not in caplog.text + other.protocol.describe() + " ".join(other.scores.notes)


def ids(folder: Path) -> list[dict]:
    return json.loads(annotations(folder / "ids.json").read_text())["images"]


def test_paths_with_an_equals_sign_and_data_files(run, tmp_path):
    folder = tmp_path / "a=b"
    folder.mkdir()
    data = annotations(folder / "c=d.json")
    usual = evaluate(run, data, images=IMAGES)
    (folder / "data.yaml").write_text(f"train: people\ntest: {data}\ntest_images: {IMAGES}\n")
    assert evaluate(run, folder / "data.yaml").scores == usual.scores


def doubled(run: Path, data: Path, folder: Path) -> Path:
    """Detections of every person twice, one a pixel aside with a higher score."""
    boxes = []
    for p in read_dataset(str(data), str(IMAGES)).instances:
        x, y, width, height = p.box
        boxes += [
            {"image_id": p.image_id, "category_id": 1, "bbox": [x + shift, y, width, height], "score": 0.5 + shift / 4}
            for shift in (0, 1)
        ]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder / "boxes.json"


def test_duplicates_of_a_detector_are_suppressed(run, tmp_path):
    data = annotations(tmp_path / "a.json")
    boxes = doubled(run, data, tmp_path)
    rescored = evaluate(run, data, images=IMAGES, boxes=boxes)
    mean = evaluate(run, data, images=IMAGES, boxes=boxes, instance_score="mean")
    assert rescored.scores.counts["suppressed"] > 0
    assert rescored.scores.counts["predictions"] == mean.scores.counts["predictions"] == 60
    assert mean.scores.counts["suppressed"] == 0
    assert "instance score: mean peak of the joints above 0.2 × box score, OKS-NMS at 0.9" in repr(rescored)
    assert "instance score: mean peak of all joints × box score" in repr(mean)
    with pytest.raises(ConfigError, match="`instance_score`: 'best' is unknown; known: rescored, mean"):
        evaluate(run, data, images=IMAGES, instance_score="best")


def test_the_predictions_of_a_run_are_scored_as_the_run(run, tmp_path):
    """The instance score is part of the weights file."""
    data = annotations(tmp_path / "a.json", persons=range(60))
    model = replace(semipose.load(run), instance_score="mean")
    for kind, evaluated in (("rescored", run), ("mean", model)):
        assert DESCRIPTIONS[kind] in evaluate(evaluated, data, images=IMAGES).protocol.describe()
    (tmp_path / "copy").mkdir()
    shutil.copy(run / "predictions.json", tmp_path / "copy")
    model.save(tmp_path / "copy" / "best.safetensors")
    usual = evaluate(run / "predictions.json", data, images=IMAGES)
    copied = evaluate(tmp_path / "copy" / "predictions.json", data, images=IMAGES)
    assert usual.protocol.instance_score == DESCRIPTIONS["rescored"]
    assert copied.protocol.instance_score == DESCRIPTIONS["mean"]
    assert copied.scores == evaluate(run / "predictions.json", data, images=IMAGES, instance_score="mean").scores


def test_joints_without_labels_in_training_are_not_evaluated(run, tmp_path):
    data = annotations(tmp_path / "a.json")
    usual = evaluate(run, data, images=IMAGES)
    found = evaluate(replace(semipose.load(run), unlearned_joints=("left_ankle", "nose")), data, images=IMAGES)
    expected = {k: v for k, v in usual.scores.by_joint["pixel_error"].items() if k not in ("left_ankle", "nose")}
    assert found.scores.by_joint["pixel_error"] == expected
    assert found.scores["pixel_error"] != usual.scores["pixel_error"]
    assert "not scored, without labels in training: left_ankle, nose" in found.protocol.describe()
    model = replace(semipose.load(run), unlearned_joints=("left_ankle", "nose"))
    written = predict(model, data, images=IMAGES, out=tmp_path / "P.JSON")
    of_file = evaluate(written[0], data, images=IMAGES)
    assert of_file.scores.by_joint["pixel_error"] == pytest.approx(expected)
    assert of_file.protocol.unlearned_joints == ("nose", "left_ankle")
    assert "not scored" not in usual.protocol.describe()


def test_other_joints_are_refused(run, tmp_path):
    def rename(content: dict) -> None:
        content["categories"][0]["keypoints"][0] = "hat"

    with pytest.raises(ConfigError, match=r"first difference: hat.*its own skeleton"):
        evaluate(run, annotations(tmp_path / "a.json", rename), images=IMAGES)


def test_joints_that_the_data_lacks_are_not_evaluated(run, tmp_path):
    """They have no score, and the scores of the others stay the same."""

    def without_nose(content: dict) -> None:
        content["categories"][0]["keypoints"] = content["categories"][0]["keypoints"][1:]
        content["categories"][0]["skeleton"] = []
        for record in content["annotations"]:
            record["keypoints"] = record["keypoints"][3:]

    usual = dict(evaluate(run, annotations(tmp_path / "a.json"), images=IMAGES).scores.by_joint["PCK@0.2"])
    fewer = dict(
        evaluate(run, annotations(tmp_path / "b.json", without_nose), images=IMAGES).scores.by_joint["PCK@0.2"]
    )
    for name in ("nose", "total"):
        usual.pop(name)
    fewer.pop("total")
    assert fewer == usual


def test_images_that_were_used_in_training_are_marked(run, tmp_path):
    """They are found by content: the file and the names of the images may differ."""
    found = evaluate(run, run.parent / "people.json", images=IMAGES)
    assert found.leakage == {"labeled": 24, "unlabeled": 28, "validation": 8, "of": 60}
    assert "of 60" in found.protocol.describe()
    split = json.loads((run / "split.json").read_text())
    copied = read_dataset(str(run.parent / "people.json"), str(IMAGES)).subset(split["validation"])
    (tmp_path / "images").mkdir()
    for person in copied.instances:
        shutil.copy(person.image, tmp_path / "images" / person.image.name)
    write_coco(copied, tmp_path / "validation.json")
    for model in (run, run / "best.safetensors", run / "weights" / "f.safetensors", semipose.load(run)):
        found = evaluate(model, tmp_path / "validation.json")
        assert found.leakage == {"labeled": 0, "unlabeled": 0, "validation": 8, "of": 8}


def test_other_images_and_unknown_trainings_are_described_as_such(run, tmp_path):
    data = annotations(tmp_path / "a.json")
    assert "none of its 30" in evaluate(run, data, images=IMAGES).protocol.describe()
    shutil.copy(run / "best.safetensors", tmp_path)
    alone = evaluate(tmp_path / "best.safetensors", data, images=IMAGES)
    assert alone.leakage is None
    assert "not known whether" in alone.protocol.describe()


class ShareOfPredictions(Metric):
    """The fraction of persons with a prediction."""

    def evaluate(self, data: MatchedDataset) -> MetricResult:
        return MetricResult({"predicted": sum(p is not None for p in data.matched) / len(data.matched)})


def test_a_new_metric_is_part_of_an_evaluation(run, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "predicted", ShareOfPredictions())
    found = evaluate(run, annotations(tmp_path / "a.json"), images=IMAGES)
    assert found.as_dict()["predicted"] == 1
    assert "predicted 100.0" in repr(found)
