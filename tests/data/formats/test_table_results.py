"""Predictions in DeepLabCut's tables: the same scores as those of COCO results."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.data.datasets import read_dataset
from semipose.data.formats.pose_tables import PoseTable, write_csv_table, write_h5_table
from semipose.data.formats.table_results import load_table_predictions
from semipose.errors import DataError
from semipose.inference.evaluation import evaluate
from semipose.structures.predictions import ground_truth_as_predictions
from tests.inference.test_evaluation import IMAGES, annotations


def table(predictions, files, joints, **changes):
    """A table of DeepLabCut for predictions of one animal an image."""
    values = np.stack([np.column_stack([p.joints, p.scores]) for p in predictions])
    content = {
        "scorer": "DLC_Resnet50_peopleshuffle1_100",
        "names": [f"labeled-data/v/{files[p.image_id].name}" for p in predictions],
        "columns": tuple((None, joint) for joint in joints),
        "values": values,
    }
    return PoseTable(**(content | changes))


@pytest.fixture
def people(tmp_path):
    """The labels of 20 persons, their file, and predictions that are some pixels off."""
    file = annotations(tmp_path / "labels.json", persons=range(20))
    truth = read_dataset(str(file), str(IMAGES))
    rng = np.random.default_rng(0)
    predictions = [
        replace(p, joints=p.joints + rng.normal(0, 4, p.joints.shape), scores=rng.uniform(0.1, 1, 17))
        for p in ground_truth_as_predictions(truth)
    ]
    return truth, file, predictions


def test_a_table_scores_like_its_predictions(people, tmp_path):
    truth, file, predictions = people
    joints = truth.skeleton.joints
    write_csv_table(table(predictions, truth.image_paths, joints), tmp_path / "dlc.csv")
    found, missing = load_table_predictions(tmp_path / "dlc.csv", truth)
    assert missing == ()
    for ours, theirs in zip(found, predictions, strict=True):
        assert ours.image_id == theirs.image_id
        np.testing.assert_allclose(ours.joints, theirs.joints)
        np.testing.assert_allclose(ours.scores, theirs.scores)
        assert ours.score == pytest.approx(theirs.scores.mean())
    errors = [np.linalg.norm(p.joints - q.joints, axis=1) for p, q in zip(predictions, truth.instances, strict=True)]
    seen = [q.visibility > 0 for q in truth.instances]
    scores = evaluate(tmp_path / "dlc.csv", file, images=IMAGES).scores
    mean = np.concatenate([e[s] for e, s in zip(errors, seen, strict=True)]).mean()
    assert scores["pixel_error"] == pytest.approx(mean)


def test_two_animals_and_joints_in_another_order(people, tmp_path):
    """The second animal has no joint in most images; of one in its image some joints are unknown."""
    truth, _, predictions = people
    joints = tuple(reversed(truth.skeleton.joints))[:-1]
    values = np.stack([np.column_stack([p.joints, p.scores]) for p in predictions])[:, ::-1][:, :-1]
    second = np.full_like(values, np.nan)
    second[0, :3] = values[0, :3] + 5
    columns = tuple((individual, joint) for individual in ("a", "b") for joint in joints)
    both = np.concatenate([values, second], axis=1)
    write_csv_table(table(predictions, truth.image_paths, joints, columns=columns, values=both), tmp_path / "two.csv")
    found, missing = load_table_predictions(tmp_path / "two.csv", truth)
    assert missing == ("nose",)
    assert [p.individual for p in found] == ["a"] * 20 + ["b"]
    np.testing.assert_allclose(found[4].joints[1:], predictions[4].joints[1:])
    assert found[4].scores[0] == 0
    last = found[-1]
    assert (last.scores > 0).sum() == 3
    np.testing.assert_allclose(last.joints[0], second[0, :3, :2].mean(axis=0))


def test_h5_and_labels_of_a_second_person(people, tmp_path):
    pytest.importorskip("tables")
    truth, _, predictions = people
    values = np.stack([p.joints for p in predictions])
    write_h5_table(table(predictions, truth.image_paths, truth.skeleton.joints, values=values), tmp_path / "again.h5")
    frames = table(predictions, truth.image_paths, truth.skeleton.joints, names=list(range(20)))
    write_h5_table(frames, tmp_path / "video.h5")
    with pytest.raises(DataError, match="row '0' is no image"):
        load_table_predictions(tmp_path / "video.h5", truth)
    found, _ = load_table_predictions(tmp_path / "again.h5", truth)
    assert {p.score for p in found} == {1.0}


def test_tables_that_fit_no_labels(people, tmp_path):
    truth, _, predictions = people
    files, joints = truth.image_paths, truth.skeleton.joints
    for name, changes, message in (
        (
            "video.csv",
            {"names": list(range(20))},
            r"row '0' is no image, as in a table for a video; .*evaluation-results",
        ),
        ("mouse.csv", {"columns": tuple((None, f"part{n}") for n in range(17))}, "predicts part0, .* no joint of"),
        ("other.csv", {"names": [f"{n}.png" for n in range(20)]}, "none of its 20 predictions is for an image of"),
    ):
        write_csv_table(table(predictions, files, joints, **changes), tmp_path / name)
        with pytest.raises(DataError, match=message):
            load_table_predictions(tmp_path / name, truth)
