"""The gain from unlabeled images: the difference between a method's network and one that learned from labels alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from semipose.metrics.bootstrap import Interval, differences
from semipose.metrics.matching import match_dataset
from semipose.metrics.pck import pck_torso, pckh
from semipose.metrics.registry import is_error, shown
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, evaluated
from semipose.utils.text import plural

FEW_LABELS = 30
"""With fewer labeled persons the teacher itself is likely to be poor."""
LOW_CONFIDENCE = 0.7
"""Peaks on unlabeled images below this fraction of those on labeled images hint at other contents."""

PREFERRED = {"PCK@0.2": pck_torso, "PCKh@0.5": pckh, "pixel_error": None}
"""Metrics of the gain; the first that measures at least half of the persons is used, pixel error all. PCK resolves
small differences better than AP."""


@dataclass(frozen=True)
class Gain:
    """What the unlabeled images brought, on persons that no network has learned from.

    Attributes:
        metric: The metric of `value`, a name in `METRICS`.
        value: The value of the method's network minus that of the labels-alone network.
        interval: Its 95 % interval (paired bootstrap over images).
        persons: Number of persons that the metric measures.
        evaluated_on: `validation` or `test`.
        baseline: The network that the gain is over, in words.
    """

    metric: str
    value: float
    interval: Interval
    persons: int
    evaluated_on: str
    baseline: str = "labels alone"

    @property
    def is_harm(self) -> bool:
        """Whether the unlabeled images made the network worse: the whole interval is on the side of labels alone."""
        return self.interval[0] > 0 if is_error(self.metric) else self.interval[1] < 0

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields; fractions, or pixels for `pixel_error`."""
        return asdict(self)

    def describe(self) -> str:
        """Returns the gain in one line, with fractions × 100."""
        unit = " px" if is_error(self.metric) else ""
        name = "pixel error" if is_error(self.metric) else self.metric
        text = f"unlabeled images: {shown(self.metric, self.value):+.1f}{unit} {name} over {self.baseline}"
        persons = plural(self.persons, f"{self.evaluated_on} person")
        low, high = (shown(self.metric, end) for end in self.interval)
        better = ", lower is better" if is_error(self.metric) else ""
        return f"{text} (95 % interval {low:+.1f} to {high:+.1f}{unit}{better}, {persons})"


def measure_gain(
    truth: PoseDataset,
    ours: Sequence[Prediction],
    labels_alone: Sequence[Prediction],
    evaluated_on: str,
    baseline: str = "labels alone",
) -> Gain | None:
    """Returns the gain of `ours` over `labels_alone`; None for sets of fewer than 10 images."""
    matched = match_dataset(truth, ours)
    found = differences(matched, match_dataset(truth, labels_alone))
    persons = int(evaluated(truth).sum())
    for metric, accuracy in PREFERRED.items():
        difference, measured = found.get(metric), accuracy(matched).persons if accuracy else persons
        if difference is not None and 2 * measured >= persons:
            return Gain(metric, difference.value, difference.interval, measured, evaluated_on, baseline)
    return None


def explain_harm(labeled: int, confidence: float) -> str:
    """Returns the likely reason why unlabeled images made a network worse, and what to try.

    Args:
        labeled: Number of labeled persons; 0 in an adaptation.
        confidence: The teacher's mean peak on unlabeled images as a fraction of that on labeled ones, before it
            taught.
    """
    if not labeled:
        return "it is confident and wrong too often on these images: raise `method.min_peak`, or label some of them"
    if confidence < LOW_CONFIDENCE:
        return (
            f"the teacher's peaks on unlabeled images are {100 * confidence:.0f} % of those on labeled ones, so these "
            "images seem to show something else: use images of the same kind, or label some of them"
        )
    if labeled < FEW_LABELS:
        return f"{labeled} labeled persons are few for a teacher: label more, for example those that suggest finds"
    return (
        "the teacher is confident and wrong too often: raise `method.min_peak`, label more persons, or train without "
        "the unlabeled images"
    )
