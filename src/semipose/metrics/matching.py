"""Assignment of predictions to annotated persons."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from semipose.errors import DataError
from semipose.metrics.base import MatchedDataset
from semipose.metrics.instance_score import InstanceScore, oks_nms, rescore
from semipose.metrics.oks import best_ranked, object_keypoint_similarity
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, check_predictions, evaluated

SAME_BOX = 0.5
"""Least IoU of the boxes of a prediction and the person whose id it has; ids shift when annotations are deleted."""


def match_dataset(
    truth: PoseDataset, predictions: Sequence[Prediction], instance_score: InstanceScore | None = None
) -> MatchedDataset:
    """Returns the data set with its predictions, matched as `match` does.

    Args:
        truth: The annotated persons.
        predictions: The predictions.
        instance_score: Computes the scores of persons by the peaks of their joints; `rescored` also leaves duplicates
            out of AP. If not given, AP ranks by the scores of the predictions and counts all.

    Raises:
        DataError: If the predictions are for another skeleton or data set, or an annotation id occurs twice.
        RunError: If a prediction is not finite.
    """
    check_predictions(truth, predictions)
    if instance_score is not None:
        predictions = rescore(predictions, instance_score)
    counted = oks_nms(predictions, truth.skeleton.sigmas) if instance_score == "rescored" else predictions
    return MatchedDataset(truth, counted, match(truth, predictions), len(predictions) - len(counted))


def match(truth: PoseDataset, predictions: Sequence[Prediction]) -> list[Prediction | None]:
    """Returns the prediction of each person, in the order of `truth`; None for persons without one.

    A prediction belongs to the person of its image whose id is its `annotation_id`, if both have about the same box (an
    IoU of at least .5); if there are two, the one with the higher score does. All other predictions, which were made on
    detected boxes or other annotations, are assigned greedily within each image: the pair of a person without
    prediction and a detection with the highest OKS is matched first; of pairs with the same OKS (0, far away), the
    nearest. As in COCO's AP, only the 20 detections with the highest scores in an image take part. Crowds and persons
    without labeled joints get no prediction.

    Raises:
        DataError: If an annotation id occurs twice within an image.
    """
    position: dict[tuple[int | str, int], int] = {}
    keys = zip(truth.instances.image_ids, truth.instances.annotation_ids.tolist(), strict=True)
    for i, (image_id, annotation_id) in enumerate(keys):
        if position.setdefault((image_id, annotation_id), i) != i:
            raise DataError(
                f"{truth.source}: annotation id {annotation_id} occurs twice in image {image_id!r}; "
                "evaluate merged sets one by one"
            )
    is_evaluated, boxes = evaluated(truth), truth.instances.boxes.tolist()
    matched: list[Prediction | None] = [None] * len(truth)
    detections: dict[int | str, list[Prediction]] = defaultdict(list)
    for p in predictions:
        index = None if p.annotation_id is None else position.get((p.image_id, p.annotation_id))
        if index is None or not _is_same_box(p.box, boxes[index]):
            detections[p.image_id].append(p)
        elif is_evaluated[index]:
            other = matched[index]
            matched[index] = p if other is None or p.score > other.score else other
    _assign_detections(truth, detections, matched)
    return matched


def _is_same_box(first: Sequence[float], second: Sequence[float]) -> bool:
    width, height = (min(first[n] + first[n + 2], second[n] + second[n + 2]) - max(first[n], second[n]) for n in (0, 1))
    shared = max(width, 0.0) * max(height, 0.0)
    return shared >= SAME_BOX * (first[2] * first[3] + second[2] * second[3] - shared)


def _assign_detections(
    truth: PoseDataset, detections: dict[int | str, list[Prediction]], matched: list[Prediction | None]
) -> None:
    """Assigns detections to persons that have no prediction yet; changes `matched`."""
    unmatched: dict[int | str, list[int]] = defaultdict(list)
    image_ids = truth.instances.image_ids
    for i in np.flatnonzero(evaluated(truth)).tolist():
        if matched[i] is None and image_ids[i] in detections:
            unmatched[image_ids[i]].append(i)
    for image_id, persons in unmatched.items():
        candidates = best_ranked(detections[image_id])
        poses = np.stack([p.joints for p in candidates])
        similarity = np.stack([_similarity(truth[i], poses, truth.skeleton.sigmas) for i in persons])
        apart = np.stack([_distance(truth[i], poses) for i in persons])
        for pair in np.lexsort((apart.ravel(), -similarity.ravel())):
            row, column = divmod(int(pair), len(candidates))
            if np.isfinite(similarity[row, column]):
                matched[persons[row]] = candidates[column]
                similarity[row, :] = similarity[:, column] = np.nan


def _distance(person: Instance, poses: np.ndarray) -> np.ndarray:
    """Returns the mean distance of a person's labeled joints to those of poses (n, K, 2)."""
    assert person.joints is not None and person.visibility is not None
    labeled = person.visibility > 0
    distances: np.ndarray = np.linalg.norm(poses[:, labeled] - person.joints[labeled], axis=-1).mean(axis=1)
    return distances


def _similarity(person: Instance, poses: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """Returns the OKS of a person with poses (n, K, 2); the area of the box replaces a missing area."""
    assert person.joints is not None and person.visibility is not None
    area = person.area or max(person.box[2] * person.box[3], 1.0)
    return object_keypoint_similarity(person.joints, person.visibility, area, poses, sigmas)
