"""The scores of predictions on a data set, and the protocol that is reported with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from semipose.metrics.instance_score import InstanceScore
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks_scale import ap_caveats
from semipose.metrics.registry import METRICS, is_error, value_text
from semipose.structures.boxes import AROUND_LABELS
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, evaluated
from semipose.utils.text import plural


@dataclass(frozen=True)
class EvaluationProtocol:
    """The data and the settings of an evaluation; scores are comparable only if their protocols agree.

    Attributes:
        boxes: `ground truth`, `around the labels`, `whole images`, other words, or the file of detections.
        flip_test: Whether heatmaps were averaged with those of the mirrored image; None if unknown.
        sigmas: Where the OKS sigmas come from: the known skeleton, or given, by body part, or by default.
        n_persons: Number of evaluated persons.
        n_images: Number of their images.
        source: The data set.
        weights_selection: How the weights were chosen, for example `best weights on validation`.
        left_out: What was broken and left out, in words; empty if nothing was.
        leakage: How many of the images were used in training, in words; empty if that does not matter.
        decoder: How heatmaps became joints; empty if unknown.
        instance_score: How joints became the score of a person, in words.
        unlearned_joints: Joints that are not scored because the training had no labels of them.
        in_16_bit: Whether heatmaps were computed in 16 bit.
        ap_caveats: Why AP measures little on this data set; empty if it can be used.
    """

    boxes: str
    flip_test: bool | None
    sigmas: str
    n_persons: int
    n_images: int
    source: str
    weights_selection: str
    left_out: str = ""
    leakage: str = ""
    decoder: str = ""
    instance_score: str = ""
    unlearned_joints: tuple[str, ...] = ()
    in_16_bit: bool = False
    ap_caveats: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        truth: PoseDataset,
        *,
        boxes: str,
        flip_test: bool | None,
        weights_selection: str,
        left_out: str = "",
        leakage: str = "",
        decoder: str = "",
        instance_score: str = "",
        unlearned_joints: tuple[str, ...] = (),
        in_16_bit: bool = False,
    ) -> "EvaluationProtocol":
        """Returns the protocol of an evaluation on `truth`, without its crowds and unlabeled persons."""
        persons = truth.instances.take(np.flatnonzero(evaluated(truth)))
        return cls(
            boxes=boxes,
            flip_test=flip_test,
            sigmas=truth.skeleton.describe_sigmas(),
            n_persons=len(persons),
            n_images=len(set(persons.image_ids)),
            source=truth.source,
            weights_selection=weights_selection,
            left_out=left_out,
            leakage=leakage,
            decoder=decoder,
            instance_score=instance_score,
            unlearned_joints=unlearned_joints,
            in_16_bit=in_16_bit,
            ap_caveats=ap_caveats(truth),
        )

    def describe(self) -> str:
        """Returns the protocol as one line of text."""
        unlearned = ", ".join(self.unlearned_joints)
        return "; ".join(
            (
                f"{self.source}: {plural(self.n_persons, 'person')} in {plural(self.n_images, 'image')}",
                f"boxes: {self.boxes}",
                *([] if self.flip_test is None else [f"flip test: {'on' if self.flip_test else 'off'}"]),
                *([f"decoder: {self.decoder}"] if self.decoder else []),
                *(["heatmaps in 16 bit"] if self.in_16_bit else []),
                *([f"instance score: {self.instance_score}"] if self.instance_score else []),
                *([f"not scored, without labels in training: {unlearned}"] if unlearned else []),
                f"OKS sigmas: {self.sigmas}",
                *([f"AP measures little: {', '.join(self.ap_caveats)}"] if self.ap_caveats else []),
                f"weights: {self.weights_selection}",
                *([f"left out as broken: {self.left_out}"] if self.left_out else []),
                *([self.leakage] if self.leakage else []),
            )
        )


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores of a set of predictions by all metrics in `METRICS`; `scores["AP"]` returns one of them.

    Attributes:
        values: Scores by public name: AP, AP50, AP75, AR, PCK@0.2 and PCKh@0.5 as fractions, pixel_error in pixels;
            None where the data lacks what a metric needs.
        details: More of them: AP_M, AP_L, PCKh@0.1, pixel_error_median, pixel_error_rmse and pixel_error_p90.
        by_joint: Scores by joint name and their `total`, by public name; what is None is left out.
        by_part: PCKh@0.5 of head, shoulder, elbow, wrist, hip, knee and ankle; empty without head sizes.
        counts: Numbers of evaluated `persons` and their `images`, of `predictions` and those `elsewhere`, on images
            without persons (they lower AP), and of persons that have `no_prediction`, `no_torso`, `no_head_size` or
            `no_area`, and of predictions that OKS-NMS has `suppressed`.
        notes: Why a score is missing that is expected of every data set, or what limits its meaning.
    """

    values: Mapping[str, float | None]
    details: Mapping[str, float | None]
    by_joint: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    notes: Sequence[str] = ()
    by_part: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        return {**self.as_dict(), **self.details}[name]

    def __repr__(self) -> str:
        known = [(name, value) for name, value in self.values.items() if value is not None]
        percent = [f"{name} {value_text(name, value)}" for name, value in known if not is_error(name)]
        errors = [f"; {name} {value_text(name, value)} px" for name, value in known if is_error(name)]
        persons = plural(self.counts["persons"], "person")
        return f"Scores(× 100: {', '.join(percent) or 'none'}{''.join(errors)}; {persons})"

    def as_dict(self) -> dict[str, float | None]:
        """Returns the scores by their public names, those of body parts as in `PCKh@0.5/head`."""
        parts = {f"{name}/{part}": value for name, own in self.by_part.items() for part, value in own.items()}
        return {**self.values, **parts}

    @property
    def pixel_error(self) -> dict[str, Any] | None:
        """The pixel error's mean, median, rmse, p90 and its means by_joint; None without a labeled, predicted joint."""
        if self.values.get("pixel_error") is None:
            return None
        rest = {name: self.details[f"pixel_error_{name}"] for name in ("median", "rmse", "p90")}
        return {"mean": self.values["pixel_error"], **rest, "by_joint": self.by_joint["pixel_error"]}


def describe_pixel_error(found: Mapping[str, Any] | None, of: str = "", boxes: str = "") -> str:
    """Returns the statistics of `Scores.pixel_error` as one line of text, which is empty where there are none.

    Args:
        found: The statistics.
        of: The network, after a space.
        boxes: The boxes of the protocol, which the line names if they were made from the labels.
    """
    names = {"mean": "mean", "median": "median", "rmse": "RMSE", "p90": "90th percentile"}
    parts = [f"{text} {found[name]:.1f}" for name, text in names.items()] if found else []
    where = f", in boxes {boxes}" if boxes == AROUND_LABELS else ""
    return f"pixel error{of}: {', '.join(parts)} px{where}" if parts else ""


def score(truth: PoseDataset, predictions: Sequence[Prediction], instance_score: InstanceScore | None = None) -> Scores:
    """Returns all scores that `truth` allows: AP needs areas, PCK shoulders and hips, PCKh head sizes.

    `instance_score` is that of `match_dataset`.

    Raises:
        DataError: If the predictions are for another skeleton or data set.
        RunError: If a prediction is not finite.
    """
    data = match_dataset(truth, predictions, instance_score)
    results = [metric.evaluate(data) for metric in METRICS.values()]
    indices, images = np.flatnonzero(evaluated(truth)), set(truth.instances.image_ids)
    counts = {
        "persons": len(indices),
        "images": len(set(truth.instances.take(indices).image_ids)),
        "predictions": len(predictions),
        "elsewhere": sum(p.image_id not in images for p in predictions),
        "no_prediction": sum(data.matched[i] is None for i in indices.tolist()),
    }
    return Scores(
        values={name: value for result in results for name, value in result.values.items()},
        details={name: value for result in results for name, value in result.details.items()},
        by_joint={name: values for result in results for name, values in result.by_joint.items()},
        by_part={name: values for result in results for name, values in result.by_part.items()},
        counts=counts | {name: count for result in results for name, count in result.counts.items()},
        notes=[*_ap_notes(truth), *(note for result in results for note in result.notes)],
    )


def _ap_notes(truth: PoseDataset) -> list[str]:
    caveats = ap_caveats(truth)
    return [f"AP measures little here: {', '.join(caveats)}; compare pixel errors"] if caveats else []
