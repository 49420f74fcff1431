"""What a training returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semipose.metrics.bootstrap import Interval
from semipose.metrics.gain import Gain
from semipose.metrics.registry import is_of_part, value_text

NetworkScores = dict[str, float | None]
"""The scores of one network by metric, for example AP: fractions, or errors in pixels."""


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Attributes:
        folder: The run folder.
        scores: Scores of the kept weights by network, with "mean" and "ensemble" if there are several headline
            networks; empty if there is neither a test nor a validation set.
        headline_networks: The networks whose mean score is the score of the method.
        protocol: The data and the settings of the evaluation, in one line.
        seconds: Duration of the training.
        best: The network of best.safetensors; None without scores.
        intervals: 95 % intervals of the best network's AP, PCK@0.2, PCKh@0.5 and the mean, median, rmse and p90 of its
            pixel error, over resampled test sets.
        pixel_error: The best network's mean, median, rmse, p90 and by_joint, in pixels; None without scores.
        gain: What the unlabeled images brought; None for a method that does not measure it, and without enough persons
            to measure it on.
        boxes: The boxes of the evaluated persons, in words; empty without scores.
        unlabeled_not_used: Why the training used none of its unlabeled images; empty otherwise.
        gain_not_measured: Why it is not known what they brought; empty otherwise.
        harm: That they did harm on the validation persons, the likely reason, and what to try; empty otherwise.
        data: What the training set holds, how much of it was used, and what was left out, as `DataAccount.as_dict`.
    """

    folder: Path
    scores: dict[str, NetworkScores]
    headline_networks: tuple[str, ...]
    protocol: str
    seconds: float
    best: str | None = None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    pixel_error: Mapping[str, Any] | None = None
    gain: Gain | None = None
    boxes: str = ""
    unlabeled_not_used: str = ""
    gain_not_measured: str = ""
    harm: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line for each network with its scores in percent and errors in pixels."""
        lines = [f"TrainResult of {self.folder} ({self.seconds:.0f} s)"]
        for name, scores in self.scores.items():
            known = {key: v for key, v in scores.items() if v is not None and not is_of_part(key)}
            shown = "  ".join(f"{key} {value_text(key, v)}" for key, v in known.items())
            lines.append(f"  {name}{' (best)' if name == self.best else ''}: {shown}")
        return "\n".join([*lines, f"  {self.protocol}", *([f"  {gain}"] if (gain := self.describe_gain()) else [])])

    def describe_gain(self) -> str:
        """Returns in one line what the unlabeled images brought, or why they were not used or this is not known.

        Empty for a method that does not measure it.
        """
        if self.unlabeled_not_used:
            return f"unlabeled images: not used, {self.unlabeled_not_used}"
        if self.gain_not_measured:
            return f"unlabeled images: gain not measured, {self.gain_not_measured}"
        return "; ".join(filter(None, [self.gain.describe() if self.gain else "", self.harm]))

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields of scores.json, which `train` prints as JSON too: all but the folder and the data."""
        return {
            "scores": self.scores,
            "headline_networks": self.headline_networks,
            "protocol": self.protocol,
            "boxes": self.boxes,
            "seconds": self.seconds,
            "best": self.best,
            "intervals": self.intervals,
            "pixel_error": self.pixel_error,
            "gain": self.gain and self.gain.as_dict(),
            "unlabeled_not_used": self.unlabeled_not_used,
            "gain_not_measured": self.gain_not_measured,
            "harm": self.harm,
        }
