"""The abstract classes of metrics: their input, their result, and the outcomes that the bootstrap resamples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction


@dataclass(frozen=True, eq=False)
class MatchedDataset:
    """A data set with its predictions, as built by `matching.match_dataset`.

    Attributes:
        truth: The annotated persons.
        predictions: The predictions that AP counts, in any order.
        matched: The prediction of each person of `truth`; None for persons without one. It may be one that AP does not
            count.
        suppressed: Number of predictions that OKS-NMS takes for duplicates, which AP does not count.
    """

    truth: PoseDataset
    predictions: Sequence[Prediction]
    matched: Sequence[Prediction | None]
    suppressed: int = 0


@dataclass(frozen=True)
class MetricResult:
    """The values of a metric on one data set.

    Attributes:
        values: Values by public name, fractions from 0 to 1 or errors in pixels; None where the data lacks what the
            metric needs.
        details: More of them, which tables leave out.
        by_joint: Values by joint name and their `total`, by public name.
        by_part: Values by body part (head, shoulder, …), by public name.
        counts: Persons that are left out, by reason.
        notes: Why a value is missing that is expected of every data set, what limits its meaning, and which predictions
            it does not count.
    """

    values: Mapping[str, float | None]
    details: Mapping[str, float | None] = field(default_factory=dict)
    by_joint: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_part: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Outcomes(ABC):
    """Per-image outcomes of one metric, from which its value on any resample of the images is computed."""

    @abstractmethod
    def value(self, counts: np.ndarray) -> float:
        """Returns the value if image i occurs counts[i] times; NaN if nothing can be measured."""


class Metric(ABC):
    """A metric of predicted poses.

    Attributes:
        is_error: Whether the values are errors in pixels, of which the lower one is better; otherwise they are
            fractions.
    """

    is_error: bool = False

    @abstractmethod
    def evaluate(self, data: MatchedDataset) -> MetricResult:
        """Returns the values of the metric on a data set."""

    def outcomes(self, data: MatchedDataset, numbers: Mapping[int | str, int]) -> Mapping[str, Outcomes]:
        """Returns the per-image outcomes of the values that have bootstrap intervals, by public name; none by default.

        Args:
            data: The data set and its predictions.
            numbers: The number of each image id, from 1; image n is entry n - 1 of `counts` in `Outcomes.value`.
        """
        return {}
