"""Percentage of correct keypoints: PCK relative to the torso diagonal and PCKh relative to the head size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from semipose.metrics.base import MatchedDataset, Metric, MetricResult, Outcomes
from semipose.structures.instances import Instance
from semipose.structures.predictions import evaluated
from semipose.structures.skeletons import Skeleton

PARTS = {
    "head": ("head_top",),
    **{part: (f"left_{part}", f"right_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
"""The joints of each column of MPII's tables, whose values are averaged."""
NOT_IN_PCKH_TOTAL = ("pelvis", "thorax")
"""Joints that MPII leaves out of its total."""


@dataclass(frozen=True)
class Accuracy:
    """The fraction of correct joints on a data set.

    Attributes:
        total: Fraction of correct joints among all labeled joints of all measured persons; None without any.
        per_joint: The same by joint name.
        persons: Number of measured persons.
        unmeasured: Number of persons left out because their torso or head size is unknown.
        missing: Number of measured persons without a prediction; all their joints count as wrong.
        joints: Number of joints in `total`.
    """

    total: float | None
    per_joint: dict[str, float | None]
    persons: int
    unmeasured: int
    missing: int
    joints: int

    @property
    def by_joint(self) -> dict[str, float]:
        """The known fractions by joint name, and the `total`."""
        return {joint: v for joint, v in {**self.per_joint, "total": self.total}.items() if v is not None}

    def by_part(self, skeleton: Skeleton) -> dict[str, float]:
        """Returns the fraction of each body part in `PARTS`: the mean over its joints, left and right.

        Reference: the columns of MPII's tables, as the released code of Xiao et al., ECCV 2018, computes them.
        """
        values = list(self.per_joint.values())
        means = {}
        for part, joints in PARTS.items():
            indices = [i for joint in joints if (i := skeleton.find(joint)) is not None]
            if known := [v for i in indices if (v := values[i]) is not None]:
                means[part] = sum(known) / len(known)
        return means


def pck_torso(data: MatchedDataset, threshold: float = 0.2) -> Accuracy:
    """Returns PCK: a joint is correct when its error is at most `threshold` × the torso diagonal.

    The diagonal is the distance from a shoulder to the opposite hip, the longer one if both are labeled.

    Reference: Yang and Ramanan, Articulated human detection with flexible mixtures of parts, TPAMI 2013.
    """
    return _torso_errors(data).accuracy(threshold)


def pckh(data: MatchedDataset, threshold: float = 0.5) -> Accuracy:
    """Returns PCKh: a joint is correct when its error is at most `threshold` × `Instance.head_size`.

    The head size is 0.6 × the diagonal of the head box. `total` leaves out pelvis and thorax, as MPII does.

    Reference: Andriluka et al., 2D human pose estimation: new benchmark and state of the art analysis, CVPR 2014.
    """
    return _head_errors(data).accuracy(threshold)


def torso_diagonal(person: Instance, skeleton: Skeleton) -> float | None:
    """Returns the longer labeled distance from a shoulder to the opposite hip in pixels; None if there is none."""
    if person.joints is None or person.visibility is None:
        return None
    lengths = []
    for a, b in _torso_diagonals(skeleton):
        if person.visibility[a] > 0 and person.visibility[b] > 0:
            lengths.append(float(np.linalg.norm(person.joints[a] - person.joints[b])))
    return max(lengths, default=0.0) or None


def _torso_diagonals(skeleton: Skeleton) -> list[tuple[int, int]]:
    """The indices of a shoulder and the opposite hip, as far as the skeleton has them."""
    names = (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip"))
    pairs = [(skeleton.find(shoulder), skeleton.find(hip)) for shoulder, hip in names]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


class PCK(Metric):
    """PCK@0.2."""

    def evaluate(self, data: MatchedDataset) -> MetricResult:
        """Returns PCK@0.2."""
        accuracy = _torso_errors(data).accuracy(0.2)
        note = "no PCK@0.2: no person has a labeled shoulder and opposite hip (joints left_shoulder, right_hip, …)"
        return MetricResult(
            {"PCK@0.2": accuracy.total},
            by_joint={"PCK@0.2": accuracy.by_joint} if accuracy.by_joint else {},
            counts={"no_torso": accuracy.unmeasured},
            notes=(note,) if accuracy.total is None and _torso_diagonals(data.truth.skeleton) else (),
        )

    def outcomes(self, data: MatchedDataset, numbers: Mapping[int | str, int]) -> Mapping[str, Outcomes]:
        """Returns the correct joints per image."""
        return {"PCK@0.2": _torso_errors(data).outcomes(0.2, numbers)}


class PCKh(Metric):
    """PCKh@0.5, also by body part, and PCKh@0.1 as a detail."""

    def evaluate(self, data: MatchedDataset) -> MetricResult:
        """Returns PCKh@0.5 and PCKh@0.1."""
        errors = _head_errors(data)
        accuracy, strict = errors.accuracy(0.5), errors.accuracy(0.1)
        by_joint = {"PCKh@0.5": accuracy.by_joint, "PCKh@0.1": strict.by_joint}
        return MetricResult(
            {"PCKh@0.5": accuracy.total},
            {"PCKh@0.1": strict.total},
            by_joint={name: values for name, values in by_joint.items() if values},
            by_part={"PCKh@0.5": parts} if (parts := accuracy.by_part(data.truth.skeleton)) else {},
            counts={"no_head_size": accuracy.unmeasured},
        )

    def outcomes(self, data: MatchedDataset, numbers: Mapping[int | str, int]) -> Mapping[str, Outcomes]:
        """Returns the correct joints per image."""
        return {"PCKh@0.5": _head_errors(data).outcomes(0.5, numbers)}


@dataclass(frozen=True)
class CorrectJoints(Outcomes):
    """The outcomes of PCK; `sums` (I, 2) are the numbers of correct and of labeled joints of each image."""

    sums: np.ndarray

    def value(self, counts: np.ndarray) -> float:
        """Returns the fraction of correct joints."""
        correct, labeled = counts @ self.sums
        return float(correct / labeled) if labeled else np.nan


@dataclass(frozen=True)
class _NormalizedErrors:
    """Joint errors in units of each person's size.

    `errors` (N, K): NaN where the joint is not labeled or the person not measured, infinite without a prediction.
    `measured`, `predicted` (N,): whether a person is measured, and whether it also has a prediction. `in_total` (K,):
    whether a joint is part of the total.
    """

    data: MatchedDataset
    errors: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray
    in_total: np.ndarray

    def accuracy(self, threshold: float) -> Accuracy:
        correct, labeled = (self.errors <= threshold).sum(axis=0), (~np.isnan(self.errors)).sum(axis=0)
        joints, measured = int(labeled[self.in_total].sum()), int(self.measured.sum())
        by_name = zip(self.data.truth.skeleton.joints, correct, labeled, strict=True)
        return Accuracy(
            total=int(correct[self.in_total].sum()) / joints if joints else None,
            per_joint={name: int(c) / int(of) if of else None for name, c, of in by_name},
            persons=measured,
            unmeasured=int(evaluated(self.data.truth).sum()) - measured,
            missing=measured - int(self.predicted.sum()),
            joints=joints,
        )

    def outcomes(self, threshold: float, numbers: Mapping[int | str, int]) -> CorrectJoints:
        errors = self.errors[:, self.in_total]
        sums = np.zeros((len(numbers), 2), np.int64)
        images = np.array([numbers[i] - 1 for i in self.data.truth.instances.image_ids], np.int64)
        counts = [(errors <= threshold).sum(axis=1), (~np.isnan(errors)).sum(axis=1)]
        np.add.at(sums, images, np.stack(counts, axis=1))
        return CorrectJoints(sums)


def _torso_errors(data: MatchedDataset) -> _NormalizedErrors:
    return _normalized_errors(data, lambda person: torso_diagonal(person, data.truth.skeleton), ())


def _head_errors(data: MatchedDataset) -> _NormalizedErrors:
    return _normalized_errors(data, lambda person: person.head_size, NOT_IN_PCKH_TOTAL)


def _normalized_errors(
    data: MatchedDataset, size_of: Callable[[Instance], float | None], not_in_total: tuple[str, ...]
) -> _NormalizedErrors:
    truth = data.truth
    errors = np.full((len(truth), len(truth.skeleton)), np.nan)
    measured, predicted = np.zeros(len(truth), bool), np.zeros(len(truth), bool)
    for i in np.flatnonzero(evaluated(truth)).tolist():
        person, prediction = truth[i], data.matched[i]
        assert person.joints is not None and person.visibility is not None
        size = size_of(person)
        if not size:
            continue
        measured[i], predicted[i] = True, prediction is not None
        distance = np.inf if prediction is None else np.linalg.norm(prediction.joints - person.joints, axis=1) / size
        errors[i] = np.where(person.visibility > 0, distance, np.nan)
    in_total = np.array([name not in not_in_total for name in truth.skeleton.keys])
    return _NormalizedErrors(data, errors, measured, predicted, in_total)
