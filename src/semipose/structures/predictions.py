"""Predicted poses, one `Prediction` per person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semipose.errors import DataError, RunError
from semipose.structures.instances import Instance, PoseDataset


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The predicted pose of one person.

    Attributes:
        image_id: Id of the image.
        annotation_id: Id of the annotated person whose box was used; None for the box of a detector.
        joints: (K, 2) float64 in pixels of the image.
        scores: (K,) heatmap peak of each joint; 0 for joints that the training had no labels of.
        score: Confidence of the person, by which AP ranks.
        box: x, y, width and height in pixels.
        category_id: Id of the person's category.
        box_score: Score of the box, 1 for annotated boxes.
        crop_area: Area of the crop that the network saw in square pixels of the image, the scale of OKS-NMS; None if it
            is unknown.
        track: Number of the person in a video, from 1 on, the same in all frames; None if persons are not tracked.
        individual: Name of the annotated animal or person whose box was used, where the data set gives one.
        calibrated: (K,) probability that each joint is right, 0 for joints without labels in training; None if the
            network is not calibrated. Metrics do not use it.
    """

    image_id: int | str
    annotation_id: int | None
    joints: np.ndarray
    scores: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    category_id: int | str = 1
    box_score: float = 1.0
    crop_area: float | None = None
    track: int | None = None
    individual: str | None = None
    calibrated: np.ndarray | None = None

    @property
    def confidences(self) -> np.ndarray:
        """What tables and drawings show as the score of each joint, (K,): the probability, else the peak."""
        return self.scores if self.calibrated is None else self.calibrated


def ground_truth_as_predictions(persons: PoseDataset) -> list[Prediction]:
    """Returns the labels as predictions with score 1, which get the highest possible scores on this data set.

    Crowds and persons without labeled joints have none; joints without a label have score 0.
    """
    return [_truth(p, persons.category_id_of(p)) for p in persons.instances if is_evaluated(p)]


def is_evaluated(person: Instance) -> bool:
    """Returns whether metrics count the person: at least one labeled joint and no crowd."""
    return person.labeled and not person.is_crowd


def evaluated(persons: PoseDataset) -> np.ndarray:
    """Returns `is_evaluated` of all persons, (N,)."""
    return persons.instances.labeled & ~persons.instances.is_crowd


def evaluated_images(persons: PoseDataset) -> int:
    """Returns the number of images with persons that count."""
    ids = zip(persons.instances.image_ids, evaluated(persons).tolist(), strict=True)
    return len({image_id for image_id, counts in ids if counts})


def check_predictions(truth: PoseDataset, predictions: Sequence[Prediction]) -> None:
    """Checks that predictions belong to a data set.

    Predictions that are not numbers must stop here: COCO's matching would count them as perfect.

    Raises:
        DataError: If predictions are for another skeleton or data set.
        RunError: If a prediction is not finite.
    """
    k = len(truth.skeleton)
    for n, p in enumerate(predictions, start=1):
        where = f"prediction {n} (image {p.image_id!r})"
        if p.joints.shape != (k, 2) or p.scores.shape != (k,):
            found = f"joints {p.joints.shape} and scores {p.scores.shape}"
            raise DataError(
                f"{where} has {found}, but {truth.source} has {k} joints ({truth.skeleton.name}); "
                "use predictions of the same skeleton"
            )
        if not (np.isfinite(p.joints).all() and np.isfinite(p.scores).all() and np.isfinite(p.score)):
            raise RunError(f"{where} is not finite; the network has diverged: lower the learning rate")
    known = set(truth.instances.image_ids)
    if predictions and known and not any(p.image_id in known for p in predictions):
        raise DataError(
            f"none of {len(predictions)} predictions is for an image of {truth.source} "
            f"(first image id {predictions[0].image_id!r}); use predictions made on this data set"
        )


def _truth(person: Instance, category_id: int | str) -> Prediction:
    assert person.joints is not None and person.visibility is not None
    return Prediction(
        image_id=person.image_id,
        annotation_id=person.annotation_id,
        joints=person.joints.astype(np.float64),
        scores=(person.visibility > 0).astype(np.float64),
        score=1.0,
        box=person.box,
        category_id=category_id,
    )
