"""Predictions survive saving exactly; errors of broken files name file, record and remedy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import semipose
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import load_predictions, save_predictions, save_submission
from semipose.errors import DataError, RunError
from semipose.metrics.oks import oks_scores
from semipose.metrics.scores import score
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import infer_skeleton

PEOPLE = Path(semipose.__file__).parent / "people" / "val.json"
TWO = infer_skeleton(["nose", "neck"], name="two")
GOOD = {"image_id": 4, "category_id": 1, "keypoints": [1, 2, 0.5, 3, 6, 1], "score": 0.7, "bbox": [1, 2, 3, 4]}


def same(a: Prediction, b: Prediction) -> bool:
    return (
        (a.image_id, a.annotation_id, a.category_id, a.score, a.box, a.box_score, a.crop_area)
        == (b.image_id, b.annotation_id, b.category_id, b.score, b.box, b.box_score, b.crop_area)
        and np.array_equal(a.joints, b.joints)
        and np.array_equal(a.scores, b.scores)
    )


NUMBER = st.floats(-1e6, 1e6, allow_nan=False)


@given(
    values=st.lists(NUMBER, min_size=11, max_size=11),
    image_id=st.one_of(st.integers(), st.text()),
    annotation_id=st.one_of(st.none(), st.integers()),
)
def test_saving_and_loading_keeps_every_bit(tmp_path_factory, values, image_id, annotation_id) -> None:
    path = tmp_path_factory.mktemp("saved") / "predictions.json"
    joints = np.array(values[:4]).reshape(2, 2)
    known = None if annotation_id is None else abs(values[0])
    before = Prediction(
        *(image_id, annotation_id, joints, np.array(values[4:6]), values[6], tuple(values[7:])),
        category_id=3,
        box_score=values[1],
        crop_area=known,
    )
    save_predictions([before, before], path)
    after = load_predictions(path, TWO)
    assert len(after) == 2
    assert all(same(before, a) for a in after)
    assert after[0].joints.dtype == np.float64


def test_confidences_are_the_scores_of_keypoints_and_peaks_are_kept(tmp_path: Path) -> None:
    joints, peaks, calibrated = np.ones((2, 2)), np.array([1.3, 0.2]), np.array([0.9, 0.15])
    prediction = Prediction(4, None, joints, peaks, 1.3, (0.0, 0.0, 9.0, 9.0), calibrated=calibrated)
    save_predictions([prediction], tmp_path / "p.json")
    [record] = json.loads((tmp_path / "p.json").read_text())
    assert (record["keypoints"][2::3], record["peaks"], record["score"]) == ([0.9, 0.15], [1.3, 0.2], 1.3)
    [loaded] = load_predictions(tmp_path / "p.json", TWO)
    assert same(loaded, prediction)
    assert loaded.confidences.tolist() == [0.9, 0.15]


def test_saved_labels_score_one(tmp_path: Path) -> None:
    persons = read_coco(PEOPLE)
    save_predictions(ground_truth_as_predictions(persons), tmp_path / "labels.json")
    assert oks_scores(persons, load_predictions(tmp_path / "labels.json", persons.skeleton))["AP"] == 1.0


def test_the_file_is_coco_results(tmp_path: Path) -> None:
    save_predictions([Prediction(4, None, np.eye(2), np.array([0.5, 1]), 0.7, (1, 2, 3, 4))], tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == [
        {
            "image_id": 4,
            "category_id": 1,
            "keypoints": [1.0, 0.0, 0.5, 0.0, 1.0, 1.0],
            "score": 0.7,
            "bbox": [1.0, 2.0, 3.0, 4.0],
            "box_score": 1.0,
        }
    ]


def test_float32_networks_can_be_saved(tmp_path: Path) -> None:
    single = np.float32(0.1)
    before = Prediction(1, 2, np.full((2, 2), single), np.full(2, single), single, (single,) * 4)
    save_predictions([before], tmp_path / "p.json")
    assert load_predictions(tmp_path / "p.json", TWO)[0].joints[0, 0] == float(single)


def test_saving_replaces_the_file_at_once_and_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "p.json"
    save_predictions([], path)
    save_predictions([Prediction(4, None, np.eye(2), np.ones(2), 0.7, (1, 2, 3, 4))], path)
    assert [p.name for p in path.parent.iterdir()] == ["p.json"]
    assert len(load_predictions(path, TWO)) == 1


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        save_predictions([], tmp_path / "file" / "p.json")


def test_boxes_and_annotation_ids_may_be_missing(tmp_path: Path) -> None:
    record = {key: value for key, value in GOOD.items() if key != "bbox"}
    (tmp_path / "p.json").write_text(json.dumps([record, {**GOOD, "annotation_id": 0}]))
    first, second = load_predictions(tmp_path / "p.json", TWO)
    assert first.box == (1, 2, 2, 4)
    assert first.annotation_id is None
    assert (first.box_score, first.crop_area) == (1.0, None)
    assert second.box == (1, 2, 3, 4)
    assert second.annotation_id == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": None}, "has no 'image_id'"),
        ({"category_id": None}, "has no 'category_id'"),
        ({"keypoints": None}, "has no 'keypoints'"),
        ({"score": None}, "has no 'score'"),
        ({"image_id": True}, "'image_id' is True; write an integer or a string"),
        ({"image_id": 1.5}, "'image_id' is 1.5"),
        ({"category_id": 1.5}, "'category_id' is 1.5; write an integer"),
        ({"annotation_id": 2.5}, "'annotation_id' is 2.5"),
        ({"keypoints": [1, 2, 3]}, "'keypoints' has 3 entries .*; write 6 numbers"),
        ({"keypoints": [1, 2, 3, 4, 5, float("nan")]}, "not a finite number"),
        ({"keypoints": [1, 2, 3, 4, 5, 1e300]}, "not a finite number"),
        ({"keypoints": [1, 2, 3, 4, 5, "6"]}, "not a finite number"),
        ({"keypoints": [[1, 2], 3]}, "'keypoints' has 2 entries"),
        ({"keypoints": 5}, "'keypoints' has no list"),
        ({"score": float("inf")}, "'score' is inf; write a finite number"),
        ({"score": "high"}, "'score' is 'high'"),
        ({"bbox": [1, 2, 3]}, "'bbox' is .1, 2, 3.; write 4"),
        ({"bbox": [1, 2, 3, 4, 5]}, "'bbox'"),
        ({"bbox": "all"}, "'bbox' is all"),
        ({"box_score": "high"}, "'box_score' is 'high'; write a finite number"),
        ({"crop_area": float("nan")}, "'crop_area' is nan"),
        ({"peaks": [0.5]}, "'peaks' is .0.5.; write 2 finite numbers"),
    ],
)
def test_broken_records_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([GOOD, {**GOOD, **change}]))
    with pytest.raises(DataError, match=rf"p\.json, record 2: .*{message}") as caught:
        load_predictions(path, TWO)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "is not a list"), ("[3]", "record 1: is not an object"), ("[", "is not JSON")]
)
def test_broken_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_predictions(tmp_path / "p.json", TWO)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions file .*absent\.json can't be read"):
        load_predictions(tmp_path / "absent.json", TWO)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image_id": "street.jpg"}, DataError, "integer image ids"),
        ({"joints": np.zeros((14, 2)), "scores": np.ones(14)}, DataError, "14 joints"),
        ({"score": float("nan")}, RunError, "not finite"),
    ],
)
def test_what_the_server_would_refuse_is_not_written(tmp_path, changes, error, message):
    fields = {"image_id": 7, "annotation_id": None, "joints": np.zeros((17, 2)), "scores": np.ones(17), "score": 0.5}
    path = tmp_path / "results.json"
    with pytest.raises(error, match=message):
        save_submission([Prediction(**{**fields, **changes}, box=(0.0, 0.0, 1.0, 1.0))], path)
    assert not path.exists()


def test_predictions_of_a_folder_find_their_images_by_name(tmp_path: Path) -> None:
    """A folder's images are numbered from 1, and an annotation file has numbers of its own."""
    truth = read_coco(PEOPLE).subset(range(4))
    found = ground_truth_as_predictions(truth)
    numbered = [replace(p, image_id=4 - n) for n, p in enumerate(found)]
    names = {4 - n: f"below/{person.image.name}" for n, person in enumerate(truth.instances)}
    save_predictions(numbered, tmp_path / "found.json", files=names)
    read = load_predictions(tmp_path / "found.json", truth.skeleton, truth=truth)
    assert [p.image_id for p in read] == [p.image_id for p in found]
    assert score(truth, read)["AP"] == pytest.approx(1.0)
    assert [p.image_id for p in load_predictions(tmp_path / "found.json", truth.skeleton)] == [4, 3, 2, 1]
    save_predictions(numbered, tmp_path / "other.json", files=dict.fromkeys(names, "elsewhere.jpg"))
    with pytest.raises(DataError, match="none of its 4 predictions"):
        load_predictions(tmp_path / "other.json", truth.skeleton, truth=truth)


@pytest.mark.parametrize("spell", [str, float, lambda i: i if i % 2 else str(i)], ids=["texts", "floats", "mixed"])
def test_predictions_for_other_images_are_left_out_and_ids_match_by_value(tmp_path, caplog, spell) -> None:
    persons = read_coco(PEOPLE)
    save_predictions(ground_truth_as_predictions(persons), tmp_path / "all.json")
    records = json.loads((tmp_path / "all.json").read_text())
    (tmp_path / "all.json").write_text(json.dumps([{**r, "image_id": spell(r["image_id"])} for r in records]))
    truth = persons.subset(range(4))
    with caplog.at_level("WARNING"):
        read = load_predictions(tmp_path / "all.json", truth.skeleton, truth=truth)
    assert score(truth, read)["AP"] == 1.0
    others = len(records) - len(read)
    assert f"{others} of {len(records)} predictions are for images outside" in caplog.text


def test_a_shared_file_name_needs_its_folder_or_the_image_id(tmp_path: Path) -> None:
    images = {1: tmp_path / "cam1" / "001.jpg", 101: tmp_path / "cam2" / "001.jpg"}
    joints, visibility = np.eye(2), np.full(2, 2)
    persons = [Instance(path, i, i, (0, 0, 9, 9), joints, visibility) for i, path in images.items()]
    truth = PoseDataset(TWO, persons, "two cameras")

    def read(*changes: dict) -> list[int | str]:
        (tmp_path / "p.json").write_text(json.dumps([{**GOOD, **change} for change in changes]))
        return [p.image_id for p in load_predictions(tmp_path / "p.json", TWO, truth=truth)]

    assert read({"file_name": "cam2/001.jpg"}, {"file_name": "cam1\\001.jpg"}) == [101, 1]
    assert read({"file_name": "001.jpg", "image_id": 101}) == [101]
    with pytest.raises(DataError, match=r"prediction 1: image '001\.jpg' may be .*cam1/001\.jpg or .*cam2/001\.jpg"):
        read({"file_name": "001.jpg"})
