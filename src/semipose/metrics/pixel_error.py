"""Pixel error: the distance between labeled and predicted joints in pixels of the image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from semipose.metrics.base import MatchedDataset, Metric, MetricResult, Outcomes
from semipose.structures.predictions import evaluated
from semipose.utils.text import plural


class PixelError(Metric):
    """The mean distance; median, root mean square and 90th percentile as details."""

    is_error = True

    def evaluate(self, data: MatchedDataset) -> MetricResult:
        """Returns the statistics over all labeled joints of persons with a prediction, and the mean of each joint."""
        distances = pixel_errors(data)
        known = distances[~np.isnan(distances)]
        mean, median, rmse, p90 = _statistics(known) if len(known) else (None, None, None, None)
        columns = zip(data.truth.skeleton.joints, distances.T, strict=True)
        by_joint = {joint: float(np.nanmean(own)) for joint, own in columns if not np.isnan(own).all()}
        return MetricResult(
            {"pixel_error": mean},
            {"pixel_error_median": median, "pixel_error_rmse": rmse, "pixel_error_p90": p90},
            by_joint={"pixel_error": by_joint} if by_joint else {},
            notes=_notes(data),
        )

    def outcomes(self, data: MatchedDataset, numbers: Mapping[int | str, int]) -> Mapping[str, Outcomes]:
        """Returns the distances by image, for the mean, the median, the root mean square and the 90th percentile."""
        distances = pixel_errors(data)
        images = np.array([numbers[i] - 1 for i in data.truth.instances.image_ids], np.int64)
        columns = (np.nansum(distances, axis=1), np.nansum(distances**2, axis=1), (~np.isnan(distances)).sum(axis=1))
        sums = np.zeros((len(numbers), 3))
        np.add.at(sums, images, np.stack(columns, axis=1))
        images = np.repeat(images, distances.shape[1])[~np.isnan(distances).ravel()]
        known = distances[~np.isnan(distances)]
        order = np.argsort(known, kind="stable")
        return {
            "pixel_error": _MeanDistance(sums[:, [0, 2]]),
            "pixel_error_median": _Percentile(known[order], images[order], 50),
            "pixel_error_rmse": _RootMeanSquare(sums[:, [1, 2]]),
            "pixel_error_p90": _Percentile(known[order], images[order], 90),
        }


def pixel_errors(data: MatchedDataset) -> np.ndarray:
    """Returns the distance of each joint of each person in pixels.

    Returns:
        (N, K); NaN where the joint is not labeled, and for persons that are not evaluated or have no prediction.
    """
    truth = data.truth
    distances = np.full((len(truth), len(truth.skeleton)), np.nan)
    for i in np.flatnonzero(evaluated(truth)).tolist():
        prediction = data.matched[i]
        if prediction is not None:
            error = np.linalg.norm(prediction.joints - truth.instances.joints[i].astype(np.float64), axis=1)
            distances[i] = np.where(truth.instances.visibility[i] > 0, error, np.nan)
    return distances


def _statistics(distances: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, median, root mean square and 90th percentile."""
    rmse = np.sqrt(np.mean(distances**2))
    return float(np.mean(distances)), float(np.median(distances)), float(rmse), float(np.percentile(distances, 90))


@dataclass(frozen=True)
class _MeanDistance(Outcomes):
    """`sums` (I, 2): the sum of the distances of each image and their number."""

    sums: np.ndarray

    def value(self, counts: np.ndarray) -> float:
        """Returns the mean distance."""
        total, number = counts @ self.sums
        return float(total / number) if number else np.nan


@dataclass(frozen=True)
class _RootMeanSquare(_MeanDistance):
    """`sums` (I, 2): the sum of the squared distances of each image and their number."""

    def value(self, counts: np.ndarray) -> float:
        """Returns the root of the mean squared distance."""
        return float(np.sqrt(super().value(counts)))


@dataclass(frozen=True)
class _Percentile(Outcomes):
    """All D distances in ascending order (D,), the image of each (D,), and which percentile is the value."""

    distances: np.ndarray
    images: np.ndarray
    percent: float

    def value(self, counts: np.ndarray) -> float:
        """Returns the percentile of the distances as often as their image occurs, as `numpy.percentile` does."""
        last = np.cumsum(counts[self.images])  # how many of the repeated distances are up to each one
        if not len(last) or not last[-1]:
            return np.nan
        position = (last[-1] - 1) * self.percent / 100
        low, high = self.distances[np.searchsorted(last, [np.floor(position), np.ceil(position)], side="right")]
        return float(low + (high - low) * (position % 1))


def _notes(data: MatchedDataset) -> tuple[str, ...]:
    persons = np.flatnonzero(evaluated(data.truth)).tolist()
    without = sum(data.matched[i] is None for i in persons)
    if not without:
        return ()
    return (f"pixel_error leaves out {without} of {plural(len(persons), 'person')}: they have no prediction",)
