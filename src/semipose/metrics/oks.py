"""Object keypoint similarity and COCO's average precision over it, for any skeleton."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, check_predictions, evaluated

MAX_DETECTIONS = 20
"""Best-ranked predictions that COCO's keypoint evaluation keeps per image."""

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))
"""OKS from which a prediction is right; AP is the mean over them."""

FIGURES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
"""Names of the first entries of COCO's keypoint summary."""


def oks_scores(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[str, float | None]:
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
    if not (evaluated(truth) & (truth.instances.areas > 0)).any():
        return dict.fromkeys(FIGURES)
    images = image_numbers(truth, predictions)
    annotated = COCO(print_function=_silent)
    annotated.dataset = {
        "images": [{"id": number} for number in images.values()],
        "annotations": _annotations(truth, images),
        "categories": [{"id": 1, "name": "person"}],
    }
    annotated.createIndex()
    found = COCO(print_function=_silent)
    found.dataset = {**annotated.dataset, "annotations": _results(predictions, images)}
    found.createIndex()
    evaluation = _Evaluation(
        annotated, found, "keypoints", print_function=_silent, kpt_oks_sigmas=list(truth.skeleton.sigmas)
    )
    evaluation.similarities = _similarities(truth, predictions, images)
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


@dataclass(frozen=True)
class Matches:
    """COCO's matching at every threshold, areas of any size. Images count from 0, in COCO's order.

    `images` (D,): the image of each detection, by falling score. `hits` and `misses` (T, D): whether it counts for or
    against; neither where it met a person that is ignored. `wanted` (I,): persons that count, by image.
    """

    images: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    wanted: np.ndarray


def coco_matches(truth: PoseDataset, predictions: Sequence[Prediction], numbers: dict[int | str, int]) -> Matches:
    """Who met whom in `oks_scores`, for figures over other choices of images. `numbers`: of all images, from 1.

    Nobody is wanted where no evaluated person has an area.
    """
    shown, ranked = _shown(truth), _ranked(predictions)
    counted, crowds = evaluated(truth), truth.instances.is_crowd
    similarities = _similarities(truth, predictions, numbers)
    images, scores, hits, misses = [], [], [], []
    for image_id, number in numbers.items():
        detections = ranked.get(image_id, [])
        persons = np.array(shown.get(image_id, []), np.int64)
        order = np.argsort(~counted[persons], kind="stable")  # those that are ignored last
        similarity = similarities.get(number, np.zeros((len(detections), len(persons))))[:, order]
        met, ignored = _greedy(similarity, counted[persons[order]], crowds[persons[order]])
        images += [number - 1] * len(detections)
        scores += [predictions[n].score for n in detections]
        hits.append(met & ~ignored)
        misses.append(~met)
    by_score = np.argsort(-np.array(scores), kind="stable")
    measurable = counted if (counted & (truth.instances.areas > 0)).any() else np.zeros_like(counted)
    places = np.array([numbers[image_id] - 1 for image_id in truth.instances.image_ids], np.int64)
    wanted = np.bincount(places[measurable], minlength=len(numbers))
    none = np.zeros((len(THRESHOLDS), 0), bool)
    return Matches(
        np.array(images, np.int64)[by_score],
        np.concatenate([none, *hits], axis=1)[:, by_score],
        np.concatenate([none, *misses], axis=1)[:, by_score],
        wanted,
    )


def _greedy(similarity: np.ndarray, counted: np.ndarray, crowds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's matching in one image: by threshold and detection, whether it met a person, and one that is ignored."""
    met = np.zeros((len(THRESHOLDS), len(similarity)), bool)
    ignored = met.copy()
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(counted), bool)
        for d, row in enumerate(similarity):
            best, chosen = min(threshold, 1 - 1e-10), -1
            for g, value in enumerate(row):
                if taken[g] and not crowds[g]:
                    continue
                if chosen >= 0 and counted[chosen] and not counted[g]:
                    break
                if value >= best:
                    best, chosen = value, g
            if chosen >= 0:
                met[t, d], ignored[t, d], taken[chosen] = True, not counted[chosen], True
    return met, ignored


def best_ranked(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The predictions of one image that count: at most 20, by falling score, equal scores in their given order."""
    return sorted(predictions, key=lambda p: -p.score)[:MAX_DETECTIONS]


def image_numbers(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[int | str, int]:
    """A number from 1 for each image, in the order of the ids: COCO needs numbers, and ties are settled by them."""
    ids: set[int | str] = {*truth.instances.image_ids, *(p.image_id for p in predictions)}
    numbers = sorted(i for i in ids if isinstance(i, int))
    texts = sorted(i for i in ids if isinstance(i, str))
    order: list[int | str] = [*numbers, *texts]
    return {image_id: n for n, image_id in enumerate(order, start=1)}


def _shown(truth: PoseDataset) -> dict[int | str, list[int]]:
    """The persons of each image."""
    shown: dict[int | str, list[int]] = defaultdict(list)
    for n, image_id in enumerate(truth.instances.image_ids):
        shown[image_id].append(n)
    return shown


def _ranked(predictions: Sequence[Prediction]) -> dict[int | str, list[int]]:
    """The predictions of each image that count, as `best_ranked` orders them."""
    ranked: dict[int | str, list[int]] = defaultdict(list)
    for n in sorted(range(len(predictions)), key=lambda n: -predictions[n].score):
        if len(ranked[predictions[n].image_id]) < MAX_DETECTIONS:
            ranked[predictions[n].image_id].append(n)
    return ranked


class _Evaluation(COCOeval_faster):
    """COCO's matching and accumulation over similarities that were computed for all images at once."""

    similarities: dict[int, np.ndarray]

    def computeOks(self, imgId: int, catId: int) -> Any:  # noqa: N802
        """Similarities of an image's best ranked predictions with its persons; [] where either is missing."""
        return self.similarities.get(imgId, [])


def _similarities(
    truth: PoseDataset, predictions: Sequence[Prediction], images: dict[int | str, int]
) -> dict[int, np.ndarray]:
    """OKS of each image's best ranked predictions (rows) with its persons (columns), by the image's number.

    As in COCO, a person without labeled joints is as near as the prediction's joints are to its doubled box.
    """
    shown, ranked = _shown(truth), _ranked(predictions)
    both = [image for image in images if shown.get(image) and ranked.get(image)]
    if not both:
        return {}
    rows = np.concatenate([np.repeat(ranked[i], len(shown[i])) for i in both])
    columns = np.concatenate([np.tile(shown[i], len(ranked[i])) for i in both])
    persons = truth.instances
    found = np.stack([p.joints for p in predictions])[rows]
    labeled = persons.visibility[columns] > 0
    distance = found - persons.joints[columns]
    unlabeled = ~labeled.any(axis=1)
    corner, size = np.split(persons.boxes[columns[unlabeled], None], 2, axis=2)
    outside = found[unlabeled]
    distance[unlabeled] = np.maximum(0, corner - size - outside) + np.maximum(0, outside - corner - 2 * size)
    labeled[unlabeled] = True
    variances = (2 * np.asarray(truth.skeleton.sigmas)) ** 2
    errors = (distance**2).sum(axis=-1) / variances / (persons.areas[columns, None] + np.spacing(1)) / 2
    values = (np.exp(-errors) * labeled).sum(axis=1) / labeled.sum(axis=1)
    parts = np.split(values, np.cumsum([len(ranked[i]) * len(shown[i]) for i in both])[:-1])
    return {images[i]: part.reshape(len(ranked[i]), len(shown[i])) for i, part in zip(both, parts, strict=True)}


def _annotations(truth: PoseDataset, images: dict[int | str, int]) -> list[dict[str, Any]]:
    """COCO records, numbered anew from 1: faster_coco_eval takes id 0 for "unmatched", and joined sets repeat ids."""
    p = truth.instances
    flat = np.concatenate([p.joints, p.visibility[..., None]], axis=2, dtype=np.float64).reshape(len(p), -1).tolist()
    counts = (p.visibility > 0).sum(axis=1).tolist()
    columns = zip(p.image_ids, flat, counts, p.boxes.tolist(), p.areas.tolist(), p.is_crowd.tolist(), strict=True)
    return [
        {
            "id": number,
            "image_id": images[image_id],
            "category_id": 1,
            "keypoints": keypoints,
            "num_keypoints": count,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, (image_id, keypoints, count, box, area, crowd) in enumerate(columns, start=1)
    ]


def _results(predictions: Sequence[Prediction], images: dict[int | str, int]) -> list[dict[str, Any]]:
    """COCO result records as `loadRes` completes them: area and box are those of the joints' extent."""
    if not predictions:
        return []
    joints, scores = np.stack([p.joints for p in predictions]), np.stack([p.scores for p in predictions])
    flat = np.concatenate([joints, scores[..., None]], axis=2).reshape(len(predictions), -1).tolist()
    low, high = joints.min(axis=1), joints.max(axis=1)
    boxes, areas = np.concatenate([low, high - low], axis=1).tolist(), np.prod(high - low, axis=1).tolist()
    return [
        {
            "id": number,
            "image_id": images[p.image_id],
            "category_id": 1,
            "keypoints": flat[number - 1],
            "score": float(p.score),
            "bbox": boxes[number - 1],
            "area": areas[number - 1],
            "iscrowd": 0,
        }
        for number, p in enumerate(predictions, start=1)
    ]


def _silent(*_: object) -> None:
    """Takes the place of faster_coco_eval's printing."""
