"""Object keypoint similarity and COCO's average precision over it, for any skeleton."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from semipose.data.records import Person, PersonSet
from semipose.evaluation.predictions import Prediction, check_predictions, is_evaluated

MAX_DETECTIONS = 20
"""Best-ranked predictions that COCO's keypoint evaluation keeps per image."""

FIGURES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
"""Names of the first entries of COCO's keypoint summary."""


def oks_scores(truth: PersonSet, predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """COCO keypoint AP, AP50, AP75, AP_M, AP_L and AR as fractions, with the OKS sigmas of `truth.skeleton`.

    AP and AR are means over OKS thresholds .50, .55, … .95; areas (medium 32² to 96², large above, square pixels) and
    the scale of OKS come from `Person.area`. As in COCO, crowds and persons without labeled joints are ignored: who
    matches them counts neither for nor against; predictions on images without persons count against; `annotation_id`
    plays no part. Figures equal pycocotools on results without 'bbox' (an unmatched prediction's area is then that of
    its joints' extent, which concerns AP_M and AP_L alone).

    None where no person falls in the area range, everywhere when no evaluated person has an area. Raises DataError for
    predictions of another skeleton or data set, RunError for predictions that are not finite.
    """
    check_predictions(truth, predictions)
    if not any(is_evaluated(p) and p.area > 0 for p in truth.persons):
        return dict.fromkeys(FIGURES)
    images = _image_numbers(truth, predictions)
    annotated = COCO(print_function=_silent)
    annotated.dataset = {
        "images": [{"id": number} for number in images.values()],
        # faster_coco_eval takes id 0 for "unmatched", and joined sets may repeat ids: number anew from 1
        "annotations": [_annotation(n, p, images, len(truth.skeleton)) for n, p in enumerate(truth.persons, start=1)],
        "categories": [{"id": 1, "name": "person"}],
    }
    annotated.createIndex()
    found = annotated.loadRes([_result(p, images) for p in predictions])
    evaluation = COCOeval_faster(
        annotated, found, "keypoints", print_function=_silent, kpt_oks_sigmas=list(truth.skeleton.sigmas)
    )
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.run()
    return {
        name: None if value < 0 else float(value)
        for name, value in zip(FIGURES, evaluation.all_stats[: len(FIGURES)], strict=True)
    }


def object_keypoint_similarity(
    truth_joints: np.ndarray,
    visibility: np.ndarray,
    area: np.ndarray | float,
    predicted: np.ndarray,
    sigmas: Sequence[float],
) -> np.ndarray:
    """OKS of pairs of poses: mean over labeled joints of exp(-d² / (2 area (2 sigma)²)), COCO keypoint evaluation.

    `truth_joints` and `predicted` (..., K, 2) in pixels, `visibility` (..., K), `area` (...) in square pixels,
    `sigmas` (K,); leading axes broadcast. Returns (...), between 0 and 1; NaN for a person without labeled joints.
    """
    squared = ((np.asarray(predicted, np.float64) - truth_joints) ** 2).sum(axis=-1)
    labeled = np.broadcast_to(np.asarray(visibility) > 0, squared.shape)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    scale = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    similar = np.where(labeled, np.exp(-squared / variances / scale / 2), 0.0)
    count = labeled.sum(axis=-1)
    return np.where(count > 0, similar.sum(axis=-1) / np.maximum(count, 1), np.nan)


def best_ranked(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The predictions of one image that count: at most 20, by falling score, equal scores in their given order."""
    return sorted(predictions, key=lambda p: -p.score)[:MAX_DETECTIONS]


def _image_numbers(truth: PersonSet, predictions: Sequence[Prediction]) -> dict[int | str, int]:
    """A number from 1 for each image, in the order of the ids: COCO needs numbers, and ties are settled by them."""
    ids: set[int | str] = {p.image_id for p in truth.persons} | {p.image_id for p in predictions}
    numbers = sorted(i for i in ids if isinstance(i, int))
    texts = sorted(i for i in ids if isinstance(i, str))
    order: list[int | str] = [*numbers, *texts]
    return {image_id: n for n, image_id in enumerate(order, start=1)}


def _annotation(number: int, person: Person, images: dict[int | str, int], k: int) -> dict[str, Any]:
    values = np.zeros((k, 3))
    if person.joints is not None and person.visibility is not None:
        values[:, :2], values[:, 2] = person.joints, person.visibility
    return {
        "id": number,
        "image_id": images[person.image_id],
        "category_id": 1,
        "keypoints": values.ravel().tolist(),
        "num_keypoints": int((values[:, 2] > 0).sum()),
        "bbox": list(person.box),
        "area": float(person.area),
        "iscrowd": int(person.is_crowd),
    }


def _result(p: Prediction, images: dict[int | str, int]) -> dict[str, Any]:
    values = np.concatenate([p.joints, p.scores[:, None]], axis=1)
    return {
        "image_id": images[p.image_id],
        "category_id": 1,
        "keypoints": values.ravel().tolist(),
        "score": float(p.score),
    }


def _silent(*_: object) -> None:
    """Takes the place of faster_coco_eval's printing."""
