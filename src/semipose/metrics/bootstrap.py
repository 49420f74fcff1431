"""Bootstrap over the images of a test set: intervals of metrics, and of differences between two networks.

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
"""Sets with fewer images get no intervals: the bootstrap needs more."""
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """The difference between two values of a metric.

    Attributes:
        value: First minus second.
        interval: Its 95 % interval.
        higher: Fraction of resamples in which the first is higher; ties count half.
    """

    value: float
    interval: Interval
    higher: float


def outcomes(data: MatchedDataset, numbers: Mapping[int | str, int] | None = None) -> dict[str, Outcomes]:
    """Returns the outcomes by image of every metric that has intervals, by its name in `METRICS`.

    Args:
        data: The data set and its predictions.
        numbers: Numbers of the images, from `image_numbers`; computed from `data` if not given.
    """
    numbers = numbers or image_numbers(data.truth, data.predictions)
    found = {name: metric.outcomes(data, numbers) for name, metric in METRICS.items()}
    return {name: own for name, own in found.items() if own is not None}


def intervals(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[str, Interval | None]:
    """Returns 95 % intervals by metric; None where the value is None or the set has fewer than 10 images."""
    numbers = image_numbers(truth, predictions)
    resamples = _resamples(len(numbers))
    found = outcomes(match_dataset(truth, predictions), numbers)
    return {name: _interval(_values(own, resamples)) for name, own in found.items()}


def differences(first: MatchedDataset, second: MatchedDataset) -> dict[str, Difference | None]:
    """Returns the differences by metric between two sets of predictions for the same persons, paired by image."""
    numbers = image_numbers(first.truth, [*first.predictions, *second.predictions])
    resamples, everything = _resamples(len(numbers)), np.ones(len(numbers), np.int64)
    ours, theirs = outcomes(first, numbers), outcomes(second, numbers)
    found: dict[str, Difference | None] = {}
    for name in ours:
        gains = _values(ours[name], resamples) - _values(theirs[name], resamples)
        around = _interval(gains)
        if around is None:
            found[name] = None
            continue
        value = float(ours[name].value(everything) - theirs[name].value(everything))
        found[name] = Difference(value, around, float((gains > 0).mean() + (gains == 0).mean() / 2))
    return found


def describe(found: Mapping[str, Interval | None], of: str = "") -> str:
    """Returns intervals × 100 as one line of text, which is empty where there are none."""
    known = {name: around for name, around in found.items() if around is not None}
    parts = [f"{name} {100 * low:.1f} to {100 * high:.1f}" for name, (low, high) in known.items()]
    return f"95 % intervals{of} (bootstrap over images): {', '.join(parts)}" if parts else ""


def describe_differences(found: Mapping[str, Difference | None]) -> str:
    """Returns differences × 100 as one line of text, which is empty where there are none."""
    parts = [
        f"{name} {100 * d.value:+.1f} ({100 * d.interval[0]:+.1f} to {100 * d.interval[1]:+.1f})"
        for name, d in found.items()
        if d is not None
    ]
    return f"first minus second, 95 % interval (paired by image): {', '.join(parts)}" if parts else ""


def _resamples(images: int, seed: int = 0) -> list[np.ndarray]:
    """How often each image is drawn (I,) in each of 1,000 draws with replacement.

    Persons of one image stay together, since they are not independent samples. (Neither are neighboring frames of a
    video: intervals on such sets are too narrow.)
    """
    if images < MIN_IMAGES:
        return []
    generator = np.random.default_rng(seed)
    return [np.bincount(generator.integers(0, images, images), minlength=images) for _ in range(RESAMPLES)]


def _values(found: Outcomes, resamples: list[np.ndarray]) -> np.ndarray:
    return np.array([found.value(counts) for counts in resamples])


def _interval(values: np.ndarray) -> Interval | None:
    """The middle 95 % of resampled values; None where there are none or one of them could not be measured."""
    if not len(values) or np.isnan(values).any():
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
