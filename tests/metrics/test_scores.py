"""All scores together, their public names, and the line that describes their protocol."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import semipose
from semipose.data.formats.coco import read_coco
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks import oks_scores
from semipose.metrics.pck import pck_torso, pckh
from semipose.metrics.pixel_error import pixel_errors
from semipose.metrics.scores import EvaluationProtocol, score
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import infer_skeleton

PEOPLE = Path(semipose.__file__).parent / "people" / "val.json"
NAMES = ["AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "pixel_error"]
PARTS = [f"PCKh@0.5/{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]


@pytest.fixture(scope="module")
def people() -> PoseDataset:
    """Forty rendered people, half of them with a head size."""
    some = read_coco(PEOPLE).subset(range(40))
    measured = tuple(replace(p, head_size=15.0 if n % 2 else None) for n, p in enumerate(some.instances))
    return PoseDataset(some.skeleton, measured, "people")


def moved(truth: PoseDataset) -> list[Prediction]:
    rng = np.random.default_rng(2)
    return [replace(p, joints=p.joints + rng.normal(0, 4, (17, 2))) for p in ground_truth_as_predictions(truth)]


def test_labels_themselves_score_one_under_the_public_names(people: PoseDataset) -> None:
    scores = score(people, ground_truth_as_predictions(people)).as_dict()
    assert scores == {**dict.fromkeys([*NAMES, *PARTS], 1.0), "pixel_error": 0.0}
    assert list(scores) == [*NAMES, *PARTS]


def test_scores_are_those_of_the_parts(people: PoseDataset) -> None:
    predictions = moved(people)[:35]
    scores, oks = score(people, predictions), oks_scores(people, predictions)
    data = match_dataset(people, predictions)
    torso, head = pck_torso(data), pckh(data)
    assert 0 < scores["AP"] < 1
    assert scores.as_dict() == {
        "AP": oks["AP"],
        "AP50": oks["AP50"],
        "AP75": oks["AP75"],
        "AR": oks["AR"],
        "PCK@0.2": torso.total,
        "PCKh@0.5": head.total,
        "pixel_error": pytest.approx(np.nanmean(pixel_errors(data))),
        **{f"PCKh@0.5/{part}": value for part, value in head.by_part(people.skeleton).items()},
    }
    assert scores.by_part["PCKh@0.5"]["wrist"] == scores["PCKh@0.5/wrist"]
    assert (scores["AP_M"], scores["AP_L"]) == (oks["AP_M"], oks["AP_L"])
    assert scores["PCKh@0.1"] == pckh(data, 0.1).total
    assert scores.by_joint["PCK@0.2"] == {**torso.per_joint, "total": torso.total}
    assert scores.by_joint["PCKh@0.5"] == {**head.per_joint, "total": head.total}
    assert repr(scores).startswith(f"Scores(× 100: AP {100 * scores['AP']:.1f}, AP50 ")
    assert repr(scores).endswith(f"; pixel_error {scores['pixel_error']:.1f} px; 40 persons)")


def test_persons_that_are_left_out_are_counted(people: PoseDataset) -> None:
    odd = list(people.instances)
    odd[0] = replace(odd[0], is_crowd=True)
    odd[1] = odd[1].without_labels()
    odd[2] = replace(odd[2], area=0.0)
    odd[3] = replace(odd[3], visibility=np.where(np.arange(17) == 0, 2, 0))  # a nose only
    truth = PoseDataset(people.skeleton, tuple(odd), "odd")
    predictions = moved(truth)[:-5]
    predictions.append(replace(predictions[0], image_id=10**6, annotation_id=None))
    assert score(truth, predictions).counts == {
        "persons": 38,
        "images": 38,
        "predictions": 34,
        "elsewhere": 1,
        "no_prediction": 5,
        "no_torso": 1,
        "no_head_size": 19,
        "no_area": 1,
        "suppressed": 0,
    }


def test_scores_that_the_data_does_not_allow_are_none() -> None:
    hands = infer_skeleton(["left_wrist", "right_wrist"], name="hands")
    people = read_coco(PEOPLE).subset(range(3))
    wrists = [people.skeleton.index(n) for n in hands.joints]
    few = tuple(replace(p, joints=p.joints[wrists], visibility=p.visibility[wrists]) for p in people.instances)
    truth = PoseDataset(hands, few, "hands")
    found = score(truth, ground_truth_as_predictions(truth))
    assert found.as_dict()["AP"] == 1
    assert found["PCK@0.2"] is None
    assert found["PCKh@0.5"] is None
    assert found.by_joint == {"pixel_error": {"left_wrist": 0, "right_wrist": 0}}
    assert not found.notes  # hands have no torso
    people.instances.visibility[:, [people.skeleton.index(n) for n in ("left_hip", "right_hip")]] = 0
    found = score(people, ground_truth_as_predictions(people))
    assert [note.split(":")[0] for note in found.notes] == ["no PCK@0.2"]


def test_nothing_to_evaluate_scores_none(people: PoseDataset) -> None:
    assert score(people.without_labels(), []).as_dict() == dict.fromkeys(NAMES)


def test_the_protocol_is_described_in_one_line(people: PoseDataset) -> None:
    crowd = replace(people[0], is_crowd=True)
    truth = PoseDataset(people.skeleton, (crowd, *people.instances[1:], people[1].without_labels()), "val.json")
    protocol = EvaluationProtocol.of(
        truth, boxes="detections d.json", flip_test=True, weights_selection="best on validation"
    )
    assert protocol.describe() == (
        "val.json: 39 persons in 39 images; boxes: detections d.json; flip test: on; OKS sigmas: coco; "
        "weights: best on validation"
    )
    joined = replace(protocol, instance_score="mean peak", unlearned_joints=("neck", "nose")).describe()
    assert "instance score: mean peak; not scored, without labels in training: neck, nose; OKS" in joined
    assert "flip test: on; heatmaps in 16 bit; OKS" in replace(protocol, in_16_bit=True).describe()
    alone = replace(protocol, n_persons=1, n_images=1, flip_test=False, boxes="ground truth")
    assert "1 person in 1 image; boxes: ground truth; flip test: off" in alone.describe()
