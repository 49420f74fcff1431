"""Calibration: the probability that a joint is right as a function of its heatmap's peak, and how well it is met."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field

from semipose.metrics.base import MatchedDataset
from semipose.metrics.matching import match_dataset
from semipose.metrics.pck import torso_diagonal
from semipose.metrics.pixel_error import pixel_errors
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.utils.section import Section
from semipose.utils.text import plural

MIN_PERSONS = 10
"""Fewest labeled validation persons that a calibration is fitted to: with fewer, scores are often worse than the peaks
of a network that was trained with MSE (docs/research/calibration.md)."""
MIN_JOINTS = 10
"""Fewest labeled joints that a calibration is fitted to."""
BINS = 10
"""Number of bins of equal width of the reliability diagram."""
TORSO, POSE = 0.2, 0.1
"""Largest error of a right joint, relative to the torso's diagonal or to the longer side of the pose."""
NOT_CALIBRATED = "scores are peaks of the heatmap, not calibrated"


class Calibration(Section):
    """The probability that a joint is right: 1 / (1 + exp(-slope · peak - intercept)).

    Peaks of any loss have one, also those above 1, and a higher peak has a higher one.

    Reference: Platt, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers 1999.
    """

    slope: float = Field(gt=0)
    """How fast the odds grow with the peak."""
    intercept: float
    """The logarithm of the odds at peak 0."""

    def confidences(self, peaks: np.ndarray) -> np.ndarray:
        """Returns the probabilities of peaks, of the same shape."""
        return _sigmoid(self.slope * peaks + self.intercept)


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram of confidences.

    Attributes:
        error: The expected calibration error: the mean difference between confidence and share of right joints, over
            bins weighted by their joints.
        bins: Number of joints, mean confidence and share of right joints of each bin that has any, by confidence.
    """

    error: float
    bins: Sequence[tuple[int, float, float]]

    @classmethod
    def of(cls, confidences: np.ndarray, right: np.ndarray) -> "Reliability":
        """Returns that of M joints; confidences outside of 0…1 are limited to it.

        Args:
            confidences: (M,) float.
            right: (M,) bool.

        Reference: Guo et al., On calibration of modern neural networks, ICML 2017, equation 3.
        """
        limited = np.clip(confidences, 0.0, 1.0)
        number = np.minimum((limited * BINS).astype(int), BINS - 1)
        members = [number == b for b in range(BINS)]
        bins = [(int(m.sum()), float(limited[m].mean()), float(right[m].mean())) for m in members if m.any()]
        return cls(sum(n * abs(c - r) for n, c, r in bins) / max(len(right), 1), bins)


@dataclass(frozen=True)
class CalibrationReport:
    """The calibration of one network, or why it has none.

    Attributes:
        calibration: None if it could not be fitted.
        reason: Why not.
        persons: Number of validation persons with joints that are right or wrong.
        joints: Number of these joints.
        criterion: When a joint is right, in words.
        before: Reliability of the peaks.
        after: Reliability of the confidences. The joints of each half of the images have those of a calibration that
            was fitted to the other half.
    """

    calibration: Calibration | None
    reason: str = ""
    persons: int = 0
    joints: int = 0
    criterion: str = ""
    before: Reliability | None = None
    after: Reliability | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes by name, ready for JSON."""
        return asdict(self) | {"calibration": self.calibration and self.calibration.model_dump()}

    def describe(self) -> str:
        """Returns what the scores of joints are, in one line."""
        if self.calibration is None or self.before is None or self.after is None:
            return f"{NOT_CALIBRATED}: {self.reason}"
        return (
            f"scores of joints are probabilities of being right ({self.criterion}), fitted to {self.joints} joints of "
            f"{self.persons} validation persons; expected calibration error {self.before.error:.3f} before, "
            f"{self.after.error:.3f} after (each half of the images by the fit to the other)"
        )


def calibrate_networks(
    truth: PoseDataset | None, predictions: Mapping[str, Sequence[Prediction]]
) -> dict[str, CalibrationReport]:
    """Returns the calibration of each network by its name.

    Args:
        truth: The validation persons; None if there are none.
        predictions: The predictions of each network for them.
    """
    if truth is None:
        return {name: CalibrationReport(None, "no validation labels") for name in predictions}
    return {name: calibrate(match_dataset(truth, own)) for name, own in predictions.items()}


def calibrate(data: MatchedDataset) -> CalibrationReport:
    """Fits a calibration to the labeled joints of validation persons with a prediction.

    A joint is right if its error is at most .2 × the torso's diagonal, as in PCK@0.2; where no person has a torso, at
    most .1 × the longer side of the box around the person's labeled joints, the PCK of Yang and Ramanan (TPAMI 2013).
    """
    errors, criterion = _relative_errors(data)
    known = ~np.isnan(errors)
    right = errors[known] <= 1
    scores = [np.zeros(errors.shape[1]) if p is None else p.scores for p in data.matched]
    peaks = np.array(scores).reshape(errors.shape)[known]
    half = np.broadcast_to(data.truth.instances.image_index[:, None] % 2, known.shape)[known]
    persons, joints = int(known.any(axis=1).sum()), len(right)
    if persons < MIN_PERSONS:
        return CalibrationReport(None, _too_few(persons), persons, joints, criterion)
    calibration, folds = fit(peaks, right), [fit(peaks[half != h], right[half != h]) for h in (0, 1)]
    if calibration is None or None in folds:
        reason = _reason(right) if calibration is None else f"{joints} labeled validation joints are too few to test it"
        return CalibrationReport(None, reason, persons, joints, criterion)
    confidences = np.where(half == 0, *(fold.confidences(peaks) for fold in folds if fold))
    before, after = Reliability.of(peaks, right), Reliability.of(confidences, right)
    return CalibrationReport(calibration, "", persons, joints, criterion, before, after)


def fit(peaks: np.ndarray, right: np.ndarray) -> Calibration | None:
    """Returns the calibration with the largest likelihood, by Newton's method.

    The targets are Platt's, (n₊ + 1)/(n₊ + 2) for right and 1/(n₋ + 2) for wrong joints, which keep the slope finite
    where the peaks separate them.

    Args:
        peaks: (M,) peaks of labeled joints.
        right: (M,) bool, which of them are right.

    Returns:
        None if there are fewer than `MIN_JOINTS`, if all are right or all wrong, or if higher peaks are not more often
        right.

    Reference: Platt 1999, section 2; Lin, Lin and Weng, A note on Platt's probabilistic outputs, Machine Learning 2007.
    """
    positive = int(right.sum())
    negative = len(right) - positive
    if len(right) < MIN_JOINTS or not positive or not negative or np.ptp(peaks) == 0:
        return None
    target = np.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2))
    inputs = np.column_stack([peaks, np.ones_like(peaks)])
    weights = np.zeros(2)
    for _ in range(100):
        scores = inputs @ weights
        loss, p = _loss(scores, target), _sigmoid(scores)
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, inputs.T @ (p - target))
        while _loss(inputs @ (weights - step), target) > loss and np.abs(step).max() > 1e-12:
            step /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    slope, intercept = weights.tolist()
    return Calibration(slope=slope, intercept=intercept) if slope > 0 else None


def _relative_errors(data: MatchedDataset) -> tuple[np.ndarray, str]:
    """The errors (N, K) relative to the largest one of a right joint, NaN where they are unknown, and that in words."""
    truth, distances = data.truth, pixel_errors(data)
    diagonals = [torso_diagonal(person, truth.skeleton) or np.nan for person in truth.instances]
    errors = distances / (TORSO * np.array(diagonals).reshape(-1, 1))
    if not np.isnan(errors).all():
        return errors, f"within {TORSO} × the torso's diagonal"
    labeled = (truth.instances.visibility > 0)[..., None]
    joints = truth.instances.joints.astype(np.float64)
    extent = np.where(labeled, joints, -np.inf).max(axis=1) - np.where(labeled, joints, np.inf).min(axis=1)
    side = extent.max(axis=1)
    errors = distances / (POSE * np.where(side > 0, side, np.nan)[:, None])
    return errors, f"within {POSE} × the longer side of the pose"


def _too_few(persons: int) -> str:
    if not persons:
        return "no validation labels"
    return f"only {plural(persons, 'labeled validation person')}, {MIN_PERSONS} are needed"


def _reason(right: np.ndarray) -> str:
    if right.all() or not right.any():
        return f"all {len(right)} labeled validation joints are {'right' if right.all() else 'wrong'}"
    return "the joints of the validation persons are not more often right where peaks are higher"


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray((1 + np.tanh(scores / 2)) / 2)  # no overflow for large scores


def _loss(scores: np.ndarray, target: np.ndarray) -> float:
    """The negative logarithm of the likelihood."""
    return float((np.logaddexp(0, scores) - target * scores).sum())
