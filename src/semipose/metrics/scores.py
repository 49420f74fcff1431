"""The scores of predictions on a data set, and the protocol that is reported with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semipose.metrics.matching import match_dataset
from semipose.metrics.registry import METRICS
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, evaluated
from semipose.utils.text import plural


@dataclass(frozen=True)
class EvaluationProtocol:
    """The data and the settings of an evaluation; scores are comparable only if their protocols agree.

    Attributes:
        boxes: `ground truth` or the file of detections.
        flip_test: Whether heatmaps were averaged with those of the mirrored image.
        sigmas: The skeleton whose OKS sigmas were used.
        n_persons: Number of evaluated persons.
        n_images: Number of their images.
        source: The data set.
        weights_selection: How the weights were selected, for example `best weights on validation`.
        left_out: Text about broken data that was left out; empty if there was none.
        leakage: Text about images that were also used in training; empty if it does not apply.
        decoder: How heatmaps were decoded to joints; empty if unknown.
    """

    boxes: str
    flip_test: bool
    sigmas: str
    n_persons: int
    n_images: int
    source: str
    weights_selection: str
    left_out: str = ""
    leakage: str = ""
    decoder: str = ""

    @classmethod
    def of(
        cls,
        truth: PoseDataset,
        *,
        boxes: str,
        flip_test: bool,
        weights_selection: str,
        left_out: str = "",
        leakage: str = "",
        decoder: str = "",
    ) -> "EvaluationProtocol":
        """Returns the protocol of an evaluation on `truth`, without its crowds and unlabeled persons."""
        persons = truth.instances.take(np.flatnonzero(evaluated(truth)))
        return cls(
            boxes=boxes,
            flip_test=flip_test,
            sigmas=truth.skeleton.name,
            n_persons=len(persons),
            n_images=len(set(persons.image_ids)),
            source=truth.source,
            weights_selection=weights_selection,
            left_out=left_out,
            leakage=leakage,
            decoder=decoder,
        )

    def describe(self) -> str:
        """Returns the protocol as one line of text."""
        return "; ".join(
            (
                f"{self.source}: {plural(self.n_persons, 'person')} in {plural(self.n_images, 'image')}",
                f"boxes: {self.boxes}",
                f"flip test: {'on' if self.flip_test else 'off'}",
                *([f"decoder: {self.decoder}"] if self.decoder else []),
                f"OKS sigmas: {self.sigmas}",
                f"weights: {self.weights_selection}",
                *([f"left out as broken: {self.left_out}"] if self.left_out else []),
                *([self.leakage] if self.leakage else []),
            )
        )


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores of a set of predictions by all metrics in `METRICS`; `scores["AP"]` returns one of them.

    Attributes:
        values: Scores by public name (AP, AP50, AP75, AR, PCK@0.2, PCKh@0.5), as fractions; None where the data set
            lacks the annotations needed.
        details: The further scores AP_M, AP_L and PCKh@0.1.
        by_joint: Scores by public name, then by joint name; `total` is the score over all joints.
        counts: Numbers of evaluated `persons`, of their `images`, of `predictions`, of predictions `elsewhere` (on
            images without persons; they lower AP), and of persons with `no_prediction`, `no_torso`, `no_head_size` or
            `no_area`.
        notes: Reasons for missing scores that every data set is expected to have.
    """

    values: Mapping[str, float | None]
    details: Mapping[str, float | None]
    by_joint: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    notes: Sequence[str] = ()

    def __getitem__(self, name: str) -> float | None:
        return {**self.values, **self.details}[name]

    def __repr__(self) -> str:
        known = [f"{name} {100 * value:.1f}" for name, value in self.values.items() if value is not None]
        return f"Scores(× 100: {', '.join(known) or 'none'}; {plural(self.counts['persons'], 'person')})"

    def as_dict(self) -> dict[str, float | None]:
        """Returns the scores by their public names."""
        return dict(self.values)


def score(truth: PoseDataset, predictions: Sequence[Prediction]) -> Scores:
    """Returns all scores that `truth` allows: AP needs areas, PCK shoulders and hips, PCKh head sizes.

    Raises:
        DataError: If the predictions are for another skeleton or data set.
        RunError: If a prediction is not finite.
    """
    data = match_dataset(truth, predictions)
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
        counts=counts | {name: count for result in results for name, count in result.counts.items()},
        notes=[note for result in results for note in result.notes],
    )
