"""PCK of the torso and PCKh against references in plain loops."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semipose.metrics.matching import match_dataset
from semipose.metrics.pck import pck_torso, pckh, torso_diagonal
from semipose.metrics.scores import score
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import AI_CHALLENGER, COCO, LSP, MPII, Skeleton, infer_skeleton

FACE = infer_skeleton(["nose", "left_eye", "right_eye"], name="face")


def scene(rng: np.random.Generator, skeleton: Skeleton, count: int) -> PoseDataset:
    """One to three persons an image; some without head size, without labels or crowds."""
    persons = []
    for n in range(count):
        visibility = rng.choice([0, 1, 2], len(skeleton), p=[0.25, 0.25, 0.5]) * int(rng.random() > 0.1)
        persons.append(
            Instance(
                image=Path("x.jpg"),
                image_id=n // 3,
                annotation_id=n,
                box=(0.0, 0.0, 100.0, 100.0),
                joints=rng.uniform(0, 100, (len(skeleton), 2)) * (visibility > 0)[:, None],
                visibility=visibility,
                area=5000.0,
                is_crowd=bool(rng.random() < 0.1),
                head_size=float(rng.uniform(10, 40)) if rng.random() < 0.8 else None,
            )
        )
    return PoseDataset(skeleton, tuple(persons), "a made-up scene")


def guesses(truth: PoseDataset, rng: np.random.Generator) -> list[Prediction]:
    """Noisy predictions by annotation id for most persons, in any order."""
    found = []
    for p in truth.instances:
        if rng.random() < 0.85:
            joints = p.joints + rng.normal(0, 12, p.joints.shape)
            found.append(
                Prediction(p.image_id, p.annotation_id, joints, np.ones(len(joints)), float(rng.random()), p.box)
            )
    rng.shuffle(found)
    return found


def slow_torso(person: Instance, skeleton: Skeleton) -> float:
    """The longer labeled diagonal, 0 without any."""
    longest = 0.0
    for a, b in (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip")):
        if a in skeleton.joints and b in skeleton.joints:
            i, j = skeleton.joints.index(a), skeleton.joints.index(b)
            if person.visibility[i] > 0 and person.visibility[j] > 0:
                longest = max(longest, math.dist(person.joints[i], person.joints[j]))
    return longest


def slow_pck(truth: PoseDataset, predictions: list[Prediction], threshold: float, sizes: list[float], apart=()) -> dict:
    """Counts joint by joint; predictions by annotation id only."""
    by_id = {p.annotation_id: p for p in predictions}
    right, labeled, persons, unmeasured, missing = {}, {}, 0, 0, 0
    for person, size in zip(truth.instances, sizes, strict=True):
        if person.is_crowd or not any(v > 0 for v in person.visibility):
            continue
        if not size:
            unmeasured += 1
            continue
        persons += 1
        missing += person.annotation_id not in by_id
        for k, name in enumerate(truth.skeleton.joints):
            if person.visibility[k] == 0:
                continue
            labeled[name] = labeled.get(name, 0) + 1
            if person.annotation_id in by_id:
                distance = math.dist(person.joints[k], by_id[person.annotation_id].joints[k])
                right[name] = right.get(name, 0) + (distance <= threshold * size)
    counted = [n for n in labeled if n not in apart]
    joints = sum(labeled[n] for n in counted)
    return {
        "total": sum(right.get(n, 0) for n in counted) / joints if joints else None,
        "per_joint": {n: right.get(n, 0) / labeled[n] if n in labeled else None for n in truth.skeleton.joints},
        "persons": persons,
        "unmeasured": unmeasured,
        "missing": missing,
        "joints": joints,
    }


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP, AI_CHALLENGER, FACE], ids=lambda s: s.name)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.1, 0.2, 0.5]))
def test_pck_and_pckh_equal_plain_counting(skeleton: Skeleton, seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    truth = scene(rng, skeleton, 12)
    predictions = guesses(truth, rng)
    torsos = [slow_torso(p, skeleton) for p in truth.instances]
    assert asdict(pck_torso(match_dataset(truth, predictions), threshold)) == slow_pck(
        truth, predictions, threshold, torsos
    )
    heads = [p.head_size or 0.0 for p in truth.instances]
    assert asdict(pckh(match_dataset(truth, predictions), threshold)) == slow_pck(
        truth, predictions, threshold, heads, apart=("pelvis", "thorax")
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.1, 0.5]))
def test_parts_are_the_columns_of_mpii(seed: int, threshold: float) -> None:
    """Head is the head top alone; the other columns are the mean of the left and the right joint's value."""
    rng = np.random.default_rng(seed)
    truth = scene(rng, MPII, 30)
    predictions = guesses(truth, rng)
    heads = [p.head_size or 0.0 for p in truth.instances]
    by_joint = slow_pck(truth, predictions, threshold, heads)["per_joint"]
    expected = {"head": by_joint["head_top"]}
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        expected[part] = 0.5 * (by_joint[f"left_{part}"] + by_joint[f"right_{part}"])
    data = match_dataset(truth, predictions)
    assert pckh(data, threshold).by_part(MPII) == pytest.approx(expected)
    if threshold == 0.5:
        scores = score(truth, predictions)
        assert scores.by_part["PCKh@0.5"] == pytest.approx(expected)
        assert [scores[f"PCKh@0.5/{part}"] for part in expected] == pytest.approx(list(expected.values()))


def test_a_part_without_labels_has_no_value() -> None:
    truth = PoseDataset(COCO, (replace(standing(left_knee=(3, 4)), head_size=9.0),), "one")
    found = pckh(match_dataset(truth, ground_truth_as_predictions(truth)))
    assert found.by_part(COCO) == {"knee": 1.0}


def standing(**places: tuple[float, float]) -> Instance:
    """A COCO person with the named joints labeled."""
    joints, visibility = np.zeros((17, 2)), np.zeros(17, int)
    for name, place in places.items():
        joints[COCO.index(name)], visibility[COCO.index(name)] = place, 1
    return Instance(Path("x.jpg"), 1, 1, (0, 0, 100, 100), joints, visibility, 5000.0)


def test_the_longer_diagonal_counts_and_occluded_joints_are_labeled() -> None:
    one = standing(right_shoulder=(0, 0), left_hip=(30, 40))
    assert torso_diagonal(one, COCO) == 50
    both = standing(right_shoulder=(0, 0), left_hip=(30, 40), left_shoulder=(30, 0), right_hip=(30, 60))
    assert torso_diagonal(both, COCO) == 60
    assert torso_diagonal(standing(right_shoulder=(0, 0), right_hip=(0, 40)), COCO) is None
    assert torso_diagonal(standing(right_shoulder=(5, 5), left_hip=(5, 5)), COCO) is None
    assert torso_diagonal(one.without_labels(), COCO) is None
    assert torso_diagonal(one, FACE) is None


def test_the_threshold_itself_is_correct() -> None:
    person = standing(right_shoulder=(0, 0), left_hip=(30, 40), nose=(0, 0))
    truth = PoseDataset(COCO, (person,), "one")
    moved = person.joints + np.array([10.0, 0.0])  # 0.2 of 50
    guess = Prediction(1, 1, moved, np.ones(17), 1.0, person.box)
    assert pck_torso(match_dataset(truth, [guess])).total == 1
    assert pck_torso(match_dataset(truth, [replace(guess, joints=moved + 1e-6)])).total == 0


def test_pckh_is_none_where_no_head_is_measured() -> None:
    truth = PoseDataset(COCO, (standing(nose=(3, 4)),), "one")
    found = pckh(match_dataset(truth, ground_truth_as_predictions(truth)))
    assert found.total is None
    assert found.unmeasured == 1
    assert set(found.per_joint.values()) == {None}


def test_pckh_total_leaves_out_pelvis_and_thorax_but_shows_them() -> None:
    joints = np.zeros((16, 2))
    person = Instance(Path("x.jpg"), 1, 1, (0, 0, 9, 9), joints, np.full(16, 2), 80.0, head_size=10.0)
    truth = PoseDataset(MPII, (person,), "one")
    wrong = joints.copy()
    wrong[[MPII.index("pelvis"), MPII.index("thorax")]] = 99
    found = pckh(match_dataset(truth, [Prediction(1, 1, wrong, np.ones(16), 1.0, person.box)]))
    assert found.total == 1
    assert found.joints == 14
    assert found.per_joint["pelvis"] == found.per_joint["thorax"] == 0


def test_a_missing_prediction_is_wrong() -> None:
    a = standing(right_shoulder=(0, 0), left_hip=(30, 40))
    truth = PoseDataset(COCO, (a, replace(a, annotation_id=2)), "two")
    found = pck_torso(match_dataset(truth, ground_truth_as_predictions(truth)[:1]))
    assert (found.total, found.persons, found.missing) == (0.5, 2, 1)
    assert pck_torso(match_dataset(truth, [])).total == 0
