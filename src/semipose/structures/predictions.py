"""Predicted poses: one record a person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semipose.errors import DataError, RunError
from semipose.structures.instances import Instance, PoseDataset, estimate_area

JOINT_SCORE = 0.2
"""Joints of a lower score are no labels to correct, where nothing else is asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The pose found in one box of one image.

    `annotation_id` names the annotated person whose box was used and is None for a detector's box. `joints` (K, 2)
    float64 in pixels of the image, `scores` (K,) one per joint, `score` the instance's, by which AP ranks.
    `box` is [x, y, width, height] in pixels.
    """

    image_id: int | str
    annotation_id: int | None
    joints: np.ndarray
    scores: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    category_id: int = 1


def ground_truth_as_predictions(persons: PoseDataset) -> list[Prediction]:
    """The labels themselves as predictions with score 1: the best that any figure can become on this set.

    Crowds and persons without labeled joints have none; joints without a label get score 0.
    """
    return [_truth(p) for p in persons.instances if is_evaluated(p)]


def as_annotations(
    persons: PoseDataset, predictions: Sequence[Prediction], min_score: float = JOINT_SCORE
) -> PoseDataset:
    """The photographs of `persons` with predictions as if they were labels, to be corrected in a labeling tool.

    Joints with a lower score than `min_score` are left unlabeled, at (0, 0) as in COCO; annotation ids count from 1.
    """
    images = persons.image_paths
    labeled = (
        Instance(
            images[p.image_id],
            p.image_id,
            number,
            p.box,
            p.joints * (p.scores >= min_score)[:, None],
            np.where(p.scores >= min_score, 2, 0).astype(np.int8),
            area=estimate_area(p.box),
        )
        for number, p in enumerate(predictions, start=1)
    )
    return PoseDataset(persons.skeleton, labeled, "predictions", persons.empty_images)


def is_evaluated(person: Instance) -> bool:
    """Whether figures count the person: at least one labeled joint and no crowd."""
    return person.labeled and not person.is_crowd


def evaluated(persons: PoseDataset) -> np.ndarray:
    """`is_evaluated` of everyone, (N,)."""
    return persons.instances.labeled & ~persons.instances.is_crowd


def check_predictions(truth: PoseDataset, predictions: Sequence[Prediction]) -> None:
    """Raises DataError when predictions belong to another skeleton or data set, RunError when one is not finite.

    Not-a-number must stop here: COCO's matching would count it as a perfect match.
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


def _truth(person: Instance) -> Prediction:
    assert person.joints is not None and person.visibility is not None
    return Prediction(
        image_id=person.image_id,
        annotation_id=person.annotation_id,
        joints=person.joints.astype(np.float64),
        scores=(person.visibility > 0).astype(np.float64),
        score=1.0,
        box=person.box,
    )
