"""PCK of the torso diagonal and PCKh of the head size: the share of joints found within a distance."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semipose.data.records import Person, PersonSet
from semipose.evaluation.oks import object_keypoint_similarity
from semipose.evaluation.predictions import Prediction


@dataclass(frozen=True)
class Pck:
    """Share of labeled joints within the distance, over all joints and by joint; None without a measurable person.

    `persons` were measured, `unmeasured` had labels but no reference length.
    """

    total: float | None
    per_joint: dict[str, float | None]
    persons: int
    unmeasured: int


def pck_torso(truth: PersonSet, predictions: Sequence[Prediction], threshold: float = 0.2) -> Pck:
    """PCK with the torso diagonal as length: right shoulder to left hip, the longer diagonal when both exist."""
    skeleton = truth.skeleton
    ends = [
        (skeleton.find(f"{a}_shoulder"), skeleton.find(f"{b}_hip")) for a, b in (("right", "left"), ("left", "right"))
    ]

    def torso(person: Person) -> float | None:
        if person.joints is None or person.visibility is None:
            return None
        lengths = [
            float(np.linalg.norm(person.joints[a] - person.joints[b]))
            for a, b in ends
            if a is not None and b is not None and person.visibility[a] > 0 and person.visibility[b] > 0
        ]
        return max(lengths, default=0.0) or None

    return _pck(truth, predictions, threshold, [torso(p) for p in truth.persons], ())


def pckh(truth: PersonSet, predictions: Sequence[Prediction], threshold: float = 0.5) -> Pck:
    """PCKh: the length is the head size of the data set (MPII: .6 × head-box diagonal); total without pelvis, thorax."""
    sizes = [p.head_size or None for p in truth.persons]
    return _pck(truth, predictions, threshold, sizes, ("pelvis", "thorax"))


def _pck(
    truth: PersonSet,
    predictions: Sequence[Prediction],
    threshold: float,
    lengths: list[float | None],
    apart: tuple[str, ...],
) -> Pck:
    found = match(truth, predictions)
    names = truth.skeleton.joints
    right, labeled, measured, unmeasured = np.zeros(len(names)), np.zeros(len(names)), 0, 0
    for number, (person, length) in enumerate(zip(truth.persons, lengths, strict=True)):
        if not person.labeled or person.is_crowd or person.joints is None or person.visibility is None:
            continue
        if length is None:
            unmeasured += 1
            continue
        measured += 1
        visible = person.visibility > 0
        labeled += visible
        if number in found:
            distance = np.linalg.norm(found[number].joints - person.joints, axis=1)
            right += visible & (distance <= threshold * length)
    counted = np.array([name not in apart for name in names])
    total = float(right[counted].sum() / labeled[counted].sum()) if labeled[counted].any() else None
    per_joint = {n: float(r / c) if c else None for n, r, c in zip(names, right, labeled, strict=True)}
    return Pck(total, per_joint, measured, unmeasured)


def match(truth: PersonSet, predictions: Sequence[Prediction]) -> dict[int, Prediction]:
    """The prediction of each labeled person by its position: by annotation id, else greedily by OKS within an image."""
    position = {(p.image_id, p.annotation_id): i for i, p in enumerate(truth.persons)}
    found: dict[int, Prediction] = {}
    loose: dict[int | str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        place = position.get((prediction.image_id, prediction.annotation_id or 0))
        if place is None:
            loose[prediction.image_id].append(prediction)
        elif place not in found or found[place].score < prediction.score:
            found[place] = prediction
    for i, person in enumerate(truth.persons):
        candidates = loose.get(person.image_id)
        if i in found or not candidates or not person.labeled or person.joints is None or person.visibility is None:
            continue
        joints, visibility, area = person.joints, person.visibility, person.area
        sigmas = truth.skeleton.sigmas
        likeness = [object_keypoint_similarity(joints, visibility, area, c.joints, sigmas) for c in candidates]
        best = int(np.argmax(likeness))
        if likeness[best] > 0:
            found[i] = candidates.pop(best)
    return found
