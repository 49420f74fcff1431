"""Bootstrap over the images of a test set: intervals of metrics and of differences between two networks.

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semipose.metrics.base import MatchedDataset, Outcomes
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks import image_numbers
from semipose.metrics.registry import METRICS
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction

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
        higher: Fraction of resamples in which the first value is higher; ties count half.
    """

    value: float
    interval: Interval
    higher: float


def outcomes(data: MatchedDataset, numbers: Mapping[int | str, int] | None = None) -> dict[str, Outcomes]:
    """Returns the per-image outcomes of every metric with intervals, by its name in `METRICS`.

    Args:
        data: The data set and its predictions.
        numbers: Image numbers from `image_numbers`; computed from `data` if not given.
    """
    numbers = numbers or image_numbers(data.truth, data.predictions)
    by_metric = {name: metric.outcomes(data, numbers) for name, metric in METRICS.items()}
    return {name: values for name, values in by_metric.items() if values is not None}


def intervals(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[str, Interval | None]:
    """Returns 95 % intervals by metric; None where the value is None or the set has fewer than 10 images."""
    numbers = image_numbers(truth, predictions)
    resamples = _resamples(len(numbers))
    by_metric = outcomes(match_dataset(truth, predictions), numbers)
    return {name: _interval(_values(values, resamples)) for name, values in by_metric.items()}


def differences(first: MatchedDataset, second: MatchedDataset) -> dict[str, Difference | None]:
    """Returns, by metric, the difference between two sets of predictions for the same persons, paired by image."""
    numbers = image_numbers(first.truth, [*first.predictions, *second.predictions])
    resamples, all_once = _resamples(len(numbers)), np.ones(len(numbers), np.int64)
    firsts, seconds = outcomes(first, numbers), outcomes(second, numbers)
    by_metric: dict[str, Difference | None] = {}
    for name in firsts:
        gains = _values(firsts[name], resamples) - _values(seconds[name], resamples)
        interval = _interval(gains)
        if interval is None:
            by_metric[name] = None
            continue
        value = float(firsts[name].value(all_once) - seconds[name].value(all_once))
        by_metric[name] = Difference(value, interval, float((gains > 0).mean() + (gains == 0).mean() / 2))
    return by_metric


def describe(found: Mapping[str, Interval | None], of: str = "") -> str:
    """Returns the intervals × 100 as one line of text; empty if there are none."""
    known = {name: interval for name, interval in found.items() if interval is not None}
    parts = [f"{name} {100 * low:.1f} to {100 * high:.1f}" for name, (low, high) in known.items()]
    return f"95 % intervals{of} (bootstrap over images): {', '.join(parts)}" if parts else ""


def describe_differences(found: Mapping[str, Difference | None]) -> str:
    """Returns the differences × 100 as one line of text; empty if there are none."""
    parts = [
        f"{name} {100 * d.value:+.1f} ({100 * d.interval[0]:+.1f} to {100 * d.interval[1]:+.1f})"
        for name, d in found.items()
        if d is not None
    ]
    return f"first minus second, 95 % interval (paired by image): {', '.join(parts)}" if parts else ""


def _resamples(images: int, seed: int = 0) -> list[np.ndarray]:
    """Returns 1,000 resamples: how often each image (I,) is drawn, with replacement.

    Images are resampled, not persons, because the persons in one image are not independent samples. (Neighboring frames
    of a video are not independent either, so intervals on such sets are too narrow.)
    """
    if images < MIN_IMAGES:
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
