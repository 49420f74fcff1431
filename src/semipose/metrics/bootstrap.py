"""How sure a figure is: bootstrap intervals over the images of a test set, and of differences between two networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from semipose.metrics.oks import THRESHOLDS, Matches, coco_matches, image_numbers
from semipose.metrics.pck import joint_counts
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction

RESAMPLES = 1000
FEWEST = 10
"""Images below which a set says nothing about others."""
LEVEL = 0.95
FIGURES = ("AP", "PCK@0.2", "PCKh@0.5")
RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads precision."""

Interval = tuple[float, float]
Judged = tuple[PoseDataset, Sequence[Prediction]]
"""Persons and what was predicted for them."""


@dataclass(frozen=True)
class Outcomes:
    """What became of each prediction and joint, image by image: any figure of any resample follows from it.

    `joints`: by figure, correct and labeled joints of each image (I, 2).
    """

    matches: Matches
    joints: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, truth: PoseDataset, predictions: Sequence[Prediction], numbers: dict[int | str, int] | None = None
    ) -> "Outcomes":
        """`numbers`: of the images, from 1. Raises as `score` does for predictions that don't belong to `truth`."""
        numbers = numbers or image_numbers(truth, predictions)
        places = np.array([numbers[image_id] - 1 for image_id in truth.instances.image_ids], np.int64)
        joints = {}
        for name, counts in joint_counts(truth, predictions).items():
            joints[name] = np.zeros((len(numbers), 2), np.int64)
            np.add.at(joints[name], places, counts)
        return cls(coco_matches(truth, predictions, numbers), joints)

    def figures(self, counts: np.ndarray) -> dict[str, float]:
        """AP, PCK@0.2 and PCKh@0.5 with every image counted `counts` (I,) times; NaN where nothing is to count."""
        found = {"AP": self._average_precision(counts)}
        for name, sums in self.joints.items():
            correct, labeled = counts @ sums
            found[name] = correct / labeled if labeled else np.nan
        return found

    @cached_property
    def _places(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """By threshold, the positions of hits and of detections that are ignored."""
        m = self.matches
        return [(np.flatnonzero(h), np.flatnonzero(~(h | n))) for h, n in zip(m.hits, m.misses, strict=True)]

    def _average_precision(self, counts: np.ndarray) -> float:
        """COCO's: precision, made to fall with recall, at 101 recalls, mean over the OKS thresholds.

        Looked at where detections hit: between two hits precision falls and recall stays.
        """
        wanted = counts @ self.matches.wanted
        if not wanted:
            return np.nan
        weights = counts[self.matches.images]
        so_far, total = np.cumsum(weights), 0.0
        for places, ignored in self._places:
            hits = np.cumsum(weights[places])
            passed_over = np.concatenate([[0], np.cumsum(weights[ignored])])[np.searchsorted(ignored, places)]
            precision = hits / np.maximum(so_far[places] - passed_over, 1)
            precision = np.maximum.accumulate(precision[::-1])[::-1]
            reached = np.searchsorted(hits / wanted, RECALLS, side="left")
            total += float(precision[reached[reached < len(precision)]].sum())
        return total / len(RECALLS) / len(THRESHOLDS)


def resampled(outcomes: Sequence[Outcomes], seed: int = 0, count: int = RESAMPLES) -> list[dict[str, np.ndarray]]:
    """Figures of each of `outcomes` over `count` draws of as many images with replacement, the same draws for all.

    Persons of one image stay together, since they are no independent samples. (Neither are neighboring frames of a
    video: intervals on such sets come out too narrow.) Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    generator, images = np.random.default_rng(seed), len(outcomes[0].matches.wanted)
    count = count if images >= FEWEST else 0
    draws = [np.bincount(generator.integers(0, images, images), minlength=images) for _ in range(count)]
    rows = [[own.figures(draw) for draw in draws] for own in outcomes]
    return [{name: np.array([row[name] for row in own]) for name in FIGURES} for own in rows]


def interval(values: np.ndarray, level: float = LEVEL) -> Interval | None:
    """The middle `level` of resampled figures; None where there are none or some draw had nothing to count."""
    if not len(values) or np.isnan(values).any():
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[str, Interval | None]:
    """95 % intervals of AP, PCK@0.2 and PCKh@0.5; None where a figure is None, or the set has fewer than 10 images."""
    (found,) = resampled([Outcomes.of(truth, predictions)])
    return {name: interval(values) for name, values in found.items()}


def describe(found: Mapping[str, Interval | None], of: str = "") -> str:
    """Intervals in words, × 100; empty where there are none."""
    known = {name: around for name, around in found.items() if around is not None}
    parts = [f"{name} {100 * low:.1f} to {100 * high:.1f}" for name, (low, high) in known.items()]
    return f"95 % intervals{of} (bootstrap over images): {', '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class Difference:
    """How much higher the first of two figures is, its 95 % interval, and the share of resamples in which it is."""

    value: float
    interval: Interval
    higher: float


def describe_differences(found: Mapping[str, Difference | None]) -> str:
    """Differences in words, × 100; empty where there are none."""
    parts = [
        f"{name} {100 * d.value:+.1f} ({100 * d.interval[0]:+.1f} to {100 * d.interval[1]:+.1f})"
        for name, d in found.items()
        if d is not None
    ]
    return f"first minus second, 95 % interval (paired by image): {', '.join(parts)}" if parts else ""


def differences(first: Judged, second: Judged) -> dict[str, Difference | None]:
    """Differences of AP, PCK@0.2 and PCKh@0.5 between two sets of predictions for the same persons, paired by image."""
    numbers = image_numbers(first[0], [*first[1], *second[1]])
    outcomes = [Outcomes.of(truth, predictions, numbers) for truth, predictions in (first, second)]
    whole = [own.figures(np.ones(len(numbers), np.int64)) for own in outcomes]
    ours, theirs = resampled(outcomes)
    found: dict[str, Difference | None] = {}
    for name in ours:
        gain = ours[name] - theirs[name]
        around = interval(gain)
        if around is None:
            found[name] = None
            continue
        value = float(whole[0][name] - whole[1][name])
        # A draw in which both are equal counts half.
        found[name] = Difference(value, around, float((gain > 0).mean() + (gain == 0).mean() / 2))
    return found
