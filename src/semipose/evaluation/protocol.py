"""Scores: every figure a prediction gets, and Protocol: the conditions printed with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from semipose.data.records import PersonSet
from semipose.evaluation.oks import oks_scores
from semipose.evaluation.pck import pck_torso, pckh
from semipose.evaluation.predictions import Prediction


@dataclass(frozen=True)
class Protocol:
    """How figures were made. `boxes` is "ground truth" or a detections file; `weights_selection` says which weights."""

    boxes: str
    flip_test: bool
    sigmas: str
    n_persons: int
    n_images: int
    source: str
    weights_selection: str

    def describe(self) -> str:
        """One line to print with every figure."""
        flip = "with" if self.flip_test else "no"
        return (
            f"{self.n_persons} persons in {self.n_images} images of {self.source}; boxes: {self.boxes}; {flip} flip test; "
            f"OKS sigmas: {self.sigmas}; weights: {self.weights_selection}"
        )


@dataclass(frozen=True)
class Scores:
    """Figures as fractions; None where the data lacks what they need."""

    oks: dict[str, float | None]
    pck: float | None
    pckh: float | None
    per_joint: dict[str, float | None]
    """PCK@0.2 of each joint (PCKh@0.5 where the data measures heads)."""
    unmeasured: int
    """Labeled persons without a measurable torso, left out of PCK@0.2."""

    def as_dict(self) -> dict[str, float | None]:
        """AP, AP50, AP75, AR, PCK@0.2, PCKh@0.5."""
        main = {name: self.oks[name] for name in ("AP", "AP50", "AP75", "AR")}
        return {**main, "PCK@0.2": self.pck, "PCKh@0.5": self.pckh}


def score(truth: PersonSet, predictions: Sequence[Prediction]) -> Scores:
    """All figures of `predictions` on the labeled persons of `truth`."""
    torso, head = pck_torso(truth, predictions), pckh(truth, predictions)
    per_joint = head.per_joint if head.total is not None else torso.per_joint
    return Scores(oks_scores(truth, predictions), torso.total, head.total, per_joint, torso.unmeasured)
