"""Bootstrap over the images of a test set: intervals of metrics and of differences between two networks.

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semipose.metrics.base import MatchedDataset, Outcomes
from semipose.metrics.instance_score import InstanceScore
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks import image_numbers
from semipose.metrics.registry import METRICS, is_error, shown
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, evaluated_images

RESAMPLES = 1000
MIN_IMAGES = 10
"""Smallest number of images for intervals."""
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """The difference between the values of a metric for two sets of predictions.

    Attributes:
        value: First minus second.
        interval: Its 95 % interval.
        higher: Fraction of resamples in which the first is higher; ties count half.
        lower_is_better: Whether the metric is an error: the first is then better where the difference is negative.
    """

    value: float
    interval: Interval
    higher: float
    lower_is_better: bool = False


def outcomes(data: MatchedDataset, numbers: Mapping[int | str, int] | None = None) -> dict[str, Outcomes]:
    """Returns the per-image outcomes of every value with intervals, by its public name.

    Args:
        data: The data set and its predictions.
        numbers: Image numbers from `image_numbers`; computed from `data` if not given.
    """
    numbers = numbers or image_numbers(data.truth, data.predictions)
    by_metric = (metric.outcomes(data, numbers) for metric in METRICS.values())
    return {name: own for values in by_metric for name, own in values.items()}


def intervals(
    truth: PoseDataset, predictions: Sequence[Prediction], instance_score: InstanceScore | None = None
) -> dict[str, Interval | None]:
    """Returns 95 % intervals by public name; None where the value is None or fewer than 10 images have labels.

    `instance_score` is that of `match_dataset`.
    """
    numbers = image_numbers(truth, predictions)
    resamples = _resamples(len(numbers), evaluated_images(truth))
    by_metric = outcomes(match_dataset(truth, predictions, instance_score), numbers)
    return {name: _interval(_values(values, resamples)) for name, values in by_metric.items()}


def differences(first: MatchedDataset, second: MatchedDataset) -> dict[str, Difference | None]:
    """Returns the differences by public name between two sets of predictions for the same persons, paired by image.

    Errors are compared on the persons that have a prediction in both sets: a person that one of them lacks would
    otherwise make its mean error lower.
    """
    numbers = image_numbers(first.truth, [*first.predictions, *second.predictions])
    resamples = _resamples(len(numbers), evaluated_images(first.truth))
    common = _predicted_by_both(first, second)
    found: dict[str, Difference | None] = {}
    for metric in METRICS.values():
        ours, theirs = (metric.outcomes(data, numbers) for data in (common if metric.is_error else (first, second)))
        for name in ours:
            found[name] = _difference(ours[name], theirs[name], resamples, metric.is_error)
    return found


def _difference(
    ours: Outcomes, theirs: Outcomes, resamples: list[np.ndarray], lower_is_better: bool
) -> Difference | None:
    gains = _values(ours, resamples) - _values(theirs, resamples)
    around = _interval(gains)
    if around is None:
        return None
    everything = np.ones(len(resamples[0]), np.int64)
    value = float(ours.value(everything) - theirs.value(everything))
    higher = float((gains > 0).mean() + (gains == 0).mean() / 2)
    return Difference(value, around, higher, lower_is_better)


def describe(found: Mapping[str, Interval | None], of: str = "") -> str:
    """Returns intervals × 100, of errors in pixels, as one line of text, which is empty where there are none."""
    known = {name: around for name, around in found.items() if around is not None}
    parts = [
        f"{name} {shown(name, low):.1f} to {shown(name, high):.1f}{' px' if is_error(name) else ''}"
        for name, (low, high) in known.items()
    ]
    return f"95 % intervals{of} (bootstrap over images): {', '.join(parts)}" if parts else ""


def describe_differences(found: Mapping[str, Difference | None]) -> str:
    """Returns differences × 100, of errors in pixels, as one line of text, which is empty where there are none."""
    parts = [
        f"{name} {shown(name, d.value):+.1f} ({shown(name, d.interval[0]):+.1f} to {shown(name, d.interval[1]):+.1f})"
        + (" px, lower is better" if d.lower_is_better else "")
        for name, d in found.items()
        if d is not None
    ]
    return f"first minus second, 95 % interval (paired by image): {', '.join(parts)}" if parts else ""


def _predicted_by_both(first: MatchedDataset, second: MatchedDataset) -> tuple[MatchedDataset, MatchedDataset]:
    """Both with the predictions of the persons alone that have one in both."""
    sets = (first, second)
    keys = [
        list(zip(d.truth.instances.image_ids, d.truth.instances.annotation_ids.tolist(), strict=True)) for d in sets
    ]
    known = [
        {key for key, found in zip(own, data.matched, strict=True) if found is not None}
        for own, data in zip(keys, sets, strict=True)
    ]
    both = known[0] & known[1]
    ours, theirs = (
        replace(data, matched=[p if key in both else None for key, p in zip(own, data.matched, strict=True)])
        for own, data in zip(keys, sets, strict=True)
    )
    return ours, theirs


def _resamples(images: int, labeled: int, seed: int = 0) -> list[np.ndarray]:
    """Returns 1,000 resamples: how often each image (I,) is drawn, with replacement; none if too few are labeled.

    Images are resampled, not persons, because the persons in one image are not independent samples. (Neighboring frames
    of a video are not independent either, so intervals on such sets are too narrow.)
    """
    if labeled < MIN_IMAGES:
        return []
    generator = np.random.default_rng(seed)
    return [np.bincount(generator.integers(0, images, images), minlength=images) for _ in range(RESAMPLES)]


def _values(metric_outcomes: Outcomes, resamples: list[np.ndarray]) -> np.ndarray:
    return np.array([metric_outcomes.value(counts) for counts in resamples])


def _interval(values: np.ndarray) -> Interval | None:
    """Returns the middle 95 % of resampled values; None if there are none or one could not be measured."""
    if not len(values) or np.isnan(values).any():
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
