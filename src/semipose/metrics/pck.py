"""Percentage of correct keypoints: PCK over the torso diagonal and PCKh over the head size."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from semipose.errors import DataError
from semipose.metrics.oks import best_ranked, object_keypoint_similarity
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, check_predictions, evaluated
from semipose.structures.skeletons import Skeleton

NOT_IN_PCKH_TOTAL = ("pelvis", "thorax")
"""Joints that MPII's Total leaves out (per-joint figures keep them)."""


class Pck(TypedDict):
    """Fractions of correct joints and what they were counted over; None where nothing could be measured.

    `total` is over all labeled joints of all measured persons; `per_joint` by name. `persons` were measured,
    `unmeasured` left out for want of a torso or head size, `missing` (of `persons`) have no prediction and count as
    wrong. `joints` is the number of joints under `total`.
    """

    total: float | None
    per_joint: dict[str, float | None]
    persons: int
    unmeasured: int
    missing: int
    joints: int


def pck_torso(truth: PoseDataset, predictions: Sequence[Prediction], threshold: float = 0.2) -> Pck:
    """PCK@`threshold` of the torso diagonal (LSP; Yang & Ramanan 2013): correct when distance <= threshold x diagonal.

    The diagonal goes from right shoulder to left hip; with the other one labeled as well, the longer counts. Persons
    without a measurable torso are left out and counted in `unmeasured`. Predictions meet persons as in `match`.
    Raises DataError for predictions of another skeleton or data set, RunError for predictions that are not finite.
    """
    return _pck(truth, predictions, threshold, lambda person: torso_diagonal(person, truth.skeleton), ())


def pckh(truth: PoseDataset, predictions: Sequence[Prediction], threshold: float = 0.5) -> Pck:
    """PCKh@`threshold` (MPII; Andriluka et al. 2014): correct when distance <= threshold x `Person.head_size`.

    The head size is .6 of the head box's diagonal already. `total` leaves out pelvis and thorax, as MPII's does, and
    is None when the set has no head size at all. Otherwise as `pck_torso`.
    """
    return _pck(truth, predictions, threshold, lambda person: person.head_size, NOT_IN_PCKH_TOTAL)


def torso_diagonal(person: Instance, skeleton: Skeleton) -> float | None:
    """The longer of the labeled shoulder-to-opposite-hip distances in pixels; None where there is none above 0."""
    if person.joints is None or person.visibility is None:
        return None
    lengths = []
    for shoulder, hip in (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip")):
        a, b = skeleton.find(shoulder), skeleton.find(hip)
        if a is not None and b is not None and person.visibility[a] > 0 and person.visibility[b] > 0:
            lengths.append(float(np.linalg.norm(person.joints[a] - person.joints[b])))
    return max(lengths, default=0.0) or None


def match(truth: PoseDataset, predictions: Sequence[Prediction]) -> list[Prediction | None]:
    """The prediction of each person, in the set's order; None for persons without one, crowds and unlabeled persons.

    A prediction whose `annotation_id` its image has belongs to that person (the better scored of two). The rest, from
    detected boxes, are given out greedily within each image: of all pairs with a person that has none yet the one with
    the highest OKS first. At most 20 detections per image take part, the best scored ones, as in COCO's AP.

    Raises DataError when an annotation id occurs twice within an image.
    """
    position: dict[tuple[int | str, int], int] = {}
    names = zip(truth.instances.image_ids, truth.instances.annotation_ids.tolist(), strict=True)
    for i, (image_id, identity) in enumerate(names):
        if position.setdefault((image_id, identity), i) != i:
            raise DataError(
                f"{truth.source}: annotation id {identity} occurs twice in image {image_id!r}; "
                "evaluate joined sets one by one"
            )
    counted = evaluated(truth)
    matched: list[Prediction | None] = [None] * len(truth)
    detections: dict[int | str, list[Prediction]] = defaultdict(list)
    for p in predictions:
        place = None if p.annotation_id is None else position.get((p.image_id, p.annotation_id))
        if place is None:
            detections[p.image_id].append(p)
        elif counted[place]:
            other = matched[place]
            matched[place] = p if other is None or p.score > other.score else other
    _give_out(truth, detections, matched)
    return matched


def _give_out(
    truth: PoseDataset, detections: dict[int | str, list[Prediction]], matched: list[Prediction | None]
) -> None:
    """Gives detections to the persons that have no prediction yet; changes `matched`."""
    waiting: dict[int | str, list[int]] = defaultdict(list)
    image_ids = truth.instances.image_ids
    for i in np.flatnonzero(evaluated(truth)).tolist():
        if matched[i] is None and image_ids[i] in detections:
            waiting[image_ids[i]].append(i)
    for image_id, persons in waiting.items():
        candidates = best_ranked(detections[image_id])
        poses = np.stack([p.joints for p in candidates])
        similarity = np.stack([_similarity(truth[i], poses, truth.skeleton) for i in persons])
        for pair in np.argsort(-similarity, axis=None, kind="stable"):
            row, column = divmod(int(pair), len(candidates))
            if np.isfinite(similarity[row, column]):
                matched[persons[row]] = candidates[column]
                similarity[row, :] = similarity[:, column] = np.nan


def _similarity(person: Instance, poses: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """OKS of a person with poses (n, K, 2); without an area, the box's stands in."""
    assert person.joints is not None and person.visibility is not None
    area = person.area or max(person.box[2] * person.box[3], 1.0)
    return object_keypoint_similarity(person.joints, person.visibility, area, poses, skeleton.sigmas)


def joint_counts(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
    """Correct and labeled joints of each person, (N, 2) integers, as they enter the totals of PCK@0.2 and PCKh@0.5."""
    found = {}
    for name, threshold, size_of, not_in_total in (
        ("PCK@0.2", 0.2, lambda person: torso_diagonal(person, truth.skeleton), ()),
        ("PCKh@0.5", 0.5, lambda person: person.head_size, NOT_IN_PCKH_TOTAL),
    ):
        judged = _judge_joints(truth, predictions, threshold, size_of)
        chosen = _in_total(truth.skeleton, not_in_total)
        sums = [judged.correct[:, chosen].sum(axis=1), judged.labeled[:, chosen].sum(axis=1)]
        found[name] = np.stack(sums, axis=1)
    return found


class _Judged(NamedTuple):
    """By person and joint (N, K): labeled and measured, and of those correct; by person (N,): measured, predicted."""

    correct: np.ndarray
    labeled: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray


def _judge_joints(
    truth: PoseDataset,
    predictions: Sequence[Prediction],
    threshold: float,
    size_of: Callable[[Instance], float | None],
) -> _Judged:
    check_predictions(truth, predictions)
    matched, shape = match(truth, predictions), (len(truth), len(truth.skeleton))
    judged = _Judged(np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape[0], bool), np.zeros(shape[0], bool))
    for i in np.flatnonzero(evaluated(truth)).tolist():
        person, prediction = truth[i], matched[i]
        assert person.joints is not None and person.visibility is not None
        size = size_of(person)
        if not size:
            continue
        judged.measured[i] = True
        judged.labeled[i] = person.visibility > 0
        if prediction is not None:
            judged.predicted[i] = True
            distance = np.linalg.norm(prediction.joints - person.joints, axis=1)
            judged.correct[i] = judged.labeled[i] & (distance / size <= threshold)
    return judged


def _in_total(skeleton: Skeleton, not_in_total: Sequence[str]) -> np.ndarray:
    return np.array([name not in not_in_total for name in skeleton.joints])


def _pck(
    truth: PoseDataset,
    predictions: Sequence[Prediction],
    threshold: float,
    size_of: Callable[[Instance], float | None],
    not_in_total: Sequence[str],
) -> Pck:
    judged = _judge_joints(truth, predictions, threshold, size_of)
    correct, labeled = judged.correct.sum(axis=0), judged.labeled.sum(axis=0)
    in_total = _in_total(truth.skeleton, not_in_total)
    joints, measured = int(labeled[in_total].sum()), int(judged.measured.sum())
    by_name = zip(truth.skeleton.joints, correct, labeled, strict=True)
    return Pck(
        total=int(correct[in_total].sum()) / joints if joints else None,
        per_joint={name: int(c) / int(of) if of else None for name, c, of in by_name},
        persons=measured,
        unmeasured=int(evaluated(truth).sum()) - measured,
        missing=measured - int(judged.predicted.sum()),
        joints=joints,
    )
