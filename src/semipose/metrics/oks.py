"""Object keypoint similarity (OKS) and COCO's average precision based on it, for any skeleton."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from semipose.metrics.base import MatchedDataset, Metric, MetricResult, Outcomes
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, check_predictions, evaluated
from semipose.utils.text import plural

MAX_DETECTIONS = 20
"""Number of predictions per image that COCO's keypoint evaluation uses, those with the highest scores."""
THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))
"""OKS thresholds at which a prediction is correct; AP is the mean over the thresholds."""
RECALLS = np.linspace(0, 1, 101)
"""Recall values at which COCO evaluates precision."""
NAMES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
"""The first entries of COCO's keypoint summary."""


class KeypointAP(Metric):
    """COCO's keypoint AP, AP50, AP75 and AR, with AP_M and AP_L (medium and large persons) as details."""

    def evaluate(self, data: MatchedDataset) -> MetricResult:
        """Returns the values of `oks_scores`."""
        scores, details = oks_scores(data.truth, data.predictions), ("AP_M", "AP_L")
        no_area = evaluated(data.truth) & (data.truth.instances.areas <= 0)
        by_image = Counter(prediction.image_id for prediction in data.predictions)
        beyond = sum(max(0, count - MAX_DETECTIONS) for count in by_image.values())
        return MetricResult(
            {name: value for name, value in scores.items() if name not in details},
            {name: scores[name] for name in details},
            counts={"no_area": int(no_area.sum()), "suppressed": data.suppressed},
            notes=[
                *[f"AP: OKS-NMS leaves out {plural(data.suppressed, 'prediction')} as duplicates"]
                * (data.suppressed > 0),
                *[f"AP: {beyond} predictions beyond the {MAX_DETECTIONS} of an image that COCO counts are left out"]
                * (beyond > 0),
            ],
        )

    def outcomes(self, data: MatchedDataset, numbers: Mapping[int | str, int]) -> Mapping[str, Outcomes]:
        """Returns COCO's matches per image."""
        return {"AP": coco_matches(data.truth, data.predictions, numbers)}


def oks_scores(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """Returns COCO's AP, AP50, AP75, AP_M, AP_L and AR as fractions, with the sigmas of the skeleton.

    AP and AR are means over the OKS thresholds .50, .55, … .95. `Instance.area` gives the scale of OKS and decides
    which persons are medium (32² to 96² square pixels) and large (above). As in COCO, crowds and persons without
    labeled joints are ignored, as are predictions that match them; predictions on images without persons count as
    errors; `annotation_id` is not used. The values equal those of pycocotools on results without 'bbox', where the area
    of an unmatched prediction is that of the extent of its joints; this affects only AP_M and AP_L.

    Returns:
        Values by name; None where no person is in the area range. All are None if no evaluated person has an area.

    Raises:
        DataError: If the predictions are for another skeleton or data set.
        RunError: If a prediction is not finite.
    """
    check_predictions(truth, predictions)
    if not (evaluated(truth) & (truth.instances.areas > 0)).any():
        return dict.fromkeys(NAMES)
    images = image_numbers(truth, predictions)
    annotated = COCO(print_function=_silent)
    annotated.dataset = {
        "images": [{"id": number} for number in images.values()],
        "annotations": _annotations(truth, images),
        "categories": [{"id": 1, "name": "person"}],
    }
    annotated.createIndex()
    results = COCO(print_function=_silent)
    results.dataset = {**annotated.dataset, "annotations": _results(predictions, images)}
    results.createIndex()
    evaluation = _Evaluation(
        annotated, results, "keypoints", print_function=_silent, kpt_oks_sigmas=list(truth.skeleton.sigmas)
    )
    evaluation.similarities = _similarities(truth, predictions, images)
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.run()
    return {
        name: None if value < 0 else float(value)
        for name, value in zip(NAMES, evaluation.all_stats[: len(NAMES)], strict=True)
    }


def object_keypoint_similarity(
    truth_joints: np.ndarray,
    visibility: np.ndarray,
    area: np.ndarray | float,
    predicted: np.ndarray,
    sigmas: Sequence[float],
) -> np.ndarray:
    """Returns the OKS of pairs of poses: the mean over labeled joints of exp(-d² / (2 area (2 sigma)²)).

    Leading axes broadcast.

    Args:
        truth_joints: (..., K, 2) in pixels.
        visibility: (..., K); a joint is labeled if its value is above 0.
        area: (...) areas of the persons in square pixels.
        predicted: (..., K, 2) in pixels.
        sigmas: OKS sigmas of the K joints.

    Returns:
        (...) values from 0 to 1; NaN for a person without labeled joints.

    Reference: COCO keypoint evaluation, https://cocodataset.org/#keypoints-eval.
    """
    squared = ((np.asarray(predicted, np.float64) - truth_joints) ** 2).sum(axis=-1)
    labeled = np.broadcast_to(np.asarray(visibility) > 0, squared.shape)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    scale = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    similar = np.where(labeled, np.exp(-squared / variances / scale / 2), 0.0)
    count = labeled.sum(axis=-1)
    return np.where(count > 0, similar.sum(axis=-1) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class CocoMatches(Outcomes):
    """COCO's matches at every threshold, for persons of any area.

    Images are numbered from 0 in COCO's order. D is the number of detections, T of thresholds, I of images.

    Attributes:
        images: (D,) image of each detection, sorted by descending score.
        hits: (T, D) whether the detection is a true positive.
        misses: (T, D) whether it is a false positive; a detection that matches an ignored person is neither.
        positives: (I,) number of persons in each image that are not ignored.
    """

    images: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    positives: np.ndarray

    def value(self, counts: np.ndarray) -> float:
        """Returns AP: the mean over OKS thresholds and 101 recall values of the monotone precision envelope.

        Only true positives are evaluated: between two of them precision falls and recall does not change.
        """
        positives = counts @ self.positives
        if not positives:
            return np.nan
        weights = counts[self.images]
        so_far, total = np.cumsum(weights), 0.0
        for hit_positions, ignored in self._positions:
            hits = np.cumsum(weights[hit_positions])
            skipped = np.concatenate([[0], np.cumsum(weights[ignored])])[np.searchsorted(ignored, hit_positions)]
            precision = hits / np.maximum(so_far[hit_positions] - skipped, 1)
            precision = np.maximum.accumulate(precision[::-1])[::-1]
            reached = np.searchsorted(hits / positives, RECALLS, side="left")
            total += float(precision[reached[reached < len(precision)]].sum())
        return total / len(RECALLS) / len(THRESHOLDS)

    @cached_property
    def _positions(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The positions of true positives and of ignored detections, by threshold."""
        pairs = zip(self.hits, self.misses, strict=True)
        return [(np.flatnonzero(hits), np.flatnonzero(~(hits | misses))) for hits, misses in pairs]


def coco_matches(
    truth: PoseDataset, predictions: Sequence[Prediction], numbers: Mapping[int | str, int]
) -> CocoMatches:
    """Returns the matches from which `oks_scores` follow; `numbers` numbers all images from 1.

    If no evaluated person has an area, no person is a positive.
    """
    by_image, ranked = _persons_by_image(truth), _ranked(predictions)
    is_evaluated, crowds = evaluated(truth), truth.instances.is_crowd
    similarities = _similarities(truth, predictions, numbers)
    images, scores, hits, misses = [], [], [], []
    for image_id, number in numbers.items():
        detections = ranked.get(image_id, [])
        persons = np.array(by_image.get(image_id, []), np.int64)
        order = np.argsort(~is_evaluated[persons], kind="stable")  # ignored persons last
        similarity = similarities.get(number, np.zeros((len(detections), len(persons))))[:, order]
        matched, ignored = _greedy(similarity, is_evaluated[persons[order]], crowds[persons[order]])
        images += [number - 1] * len(detections)
        scores += [predictions[n].score for n in detections]
        hits.append(matched & ~ignored)
        misses.append(~matched)
    by_score = np.argsort(-np.array(scores), kind="stable")
    measurable = is_evaluated if (is_evaluated & (truth.instances.areas > 0)).any() else np.zeros_like(is_evaluated)
    image_indices = np.array([numbers[image_id] - 1 for image_id in truth.instances.image_ids], np.int64)
    positives = np.bincount(image_indices[measurable], minlength=len(numbers))
    none = np.zeros((len(THRESHOLDS), 0), bool)
    return CocoMatches(
        np.array(images, np.int64)[by_score],
        np.concatenate([none, *hits], axis=1)[:, by_score],
        np.concatenate([none, *misses], axis=1)[:, by_score],
        positives,
    )


def _greedy(similarity: np.ndarray, is_evaluated: np.ndarray, crowds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns COCO's matches in one image: (T, D) whether a detection is matched, and to an ignored person."""
    matched = np.zeros((len(THRESHOLDS), len(similarity)), bool)
    ignored = matched.copy()
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(is_evaluated), bool)
        for d, row in enumerate(similarity):
            best, match = min(threshold, 1 - 1e-10), -1
            for g, value in enumerate(row):
                if taken[g] and not crowds[g]:
                    continue
                if match >= 0 and is_evaluated[match] and not is_evaluated[g]:
                    break
                if value >= best:
                    best, match = value, g
            if match >= 0:
                matched[t, d], ignored[t, d], taken[match] = True, not is_evaluated[match], True
    return matched, ignored


def best_ranked(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Returns the at most 20 predictions of an image that are evaluated, by descending score; the sort is stable."""
    return sorted(predictions, key=lambda p: -p.score)[:MAX_DETECTIONS]


def image_numbers(truth: PoseDataset, predictions: Sequence[Prediction]) -> dict[int | str, int]:
    """Returns a number from 1 for each image, in the order of the ids: COCO needs numbers, and breaks ties by them."""
    ids: set[int | str] = {*truth.instances.image_ids, *(p.image_id for p in predictions)}
    numbers = sorted(i for i in ids if isinstance(i, int))
    texts = sorted(i for i in ids if isinstance(i, str))
    order: list[int | str] = [*numbers, *texts]
    return {image_id: n for n, image_id in enumerate(order, start=1)}


def _persons_by_image(truth: PoseDataset) -> dict[int | str, list[int]]:
    """Returns the indices of the persons of each image."""
    by_image: dict[int | str, list[int]] = defaultdict(list)
    for n, image_id in enumerate(truth.instances.image_ids):
        by_image[image_id].append(n)
    return by_image


def _ranked(predictions: Sequence[Prediction]) -> dict[int | str, list[int]]:
    """Returns the indices of the evaluated predictions of each image, in the order of `best_ranked`."""
    ranked: dict[int | str, list[int]] = defaultdict(list)
    for n in sorted(range(len(predictions)), key=lambda n: -predictions[n].score):
        if len(ranked[predictions[n].image_id]) < MAX_DETECTIONS:
            ranked[predictions[n].image_id].append(n)
    return ranked


class _Evaluation(COCOeval_faster):  # type: ignore[misc]  # the package has no types
    """COCO's matching and accumulation, with similarities that were computed for all images at once."""

    similarities: dict[int, np.ndarray]

    def computeOks(self, imgId: int, catId: int) -> Any:  # noqa: N802
        """Returns the similarities of an image's best ranked predictions and persons; [] if it lacks either."""
        return self.similarities.get(imgId, [])


def _similarities(
    truth: PoseDataset, predictions: Sequence[Prediction], images: Mapping[int | str, int]
) -> dict[int, np.ndarray]:
    """Returns the OKS of the best ranked predictions (rows) with the persons (columns), by image number.

    As in COCO, the OKS with a person without labeled joints uses the distance to the person's doubled box.
    """
    by_image, ranked = _persons_by_image(truth), _ranked(predictions)
    both = [image for image in images if by_image.get(image) and ranked.get(image)]
    if not both:
        return {}
    rows = np.concatenate([np.repeat(ranked[i], len(by_image[i])) for i in both])
    columns = np.concatenate([np.tile(by_image[i], len(ranked[i])) for i in both])
    persons = truth.instances
    predicted = np.stack([p.joints for p in predictions])[rows]
    labeled = persons.visibility[columns] > 0
    distance = predicted - persons.joints[columns]
    unlabeled = ~labeled.any(axis=1)
    corner, size = np.split(persons.boxes[columns[unlabeled], None], 2, axis=2)
    points = predicted[unlabeled]
    distance[unlabeled] = np.maximum(0, corner - size - points) + np.maximum(0, points - corner - 2 * size)
    labeled[unlabeled] = True
    variances = (2 * np.asarray(truth.skeleton.sigmas)) ** 2
    errors = (distance**2).sum(axis=-1) / variances / (persons.areas[columns, None] + np.spacing(1)) / 2
    values = (np.exp(-errors) * labeled).sum(axis=1) / labeled.sum(axis=1)
    parts = np.split(values, np.cumsum([len(ranked[i]) * len(by_image[i]) for i in both])[:-1])
    return {images[i]: part.reshape(len(ranked[i]), len(by_image[i])) for i, part in zip(both, parts, strict=True)}


def _annotations(truth: PoseDataset, images: Mapping[int | str, int]) -> list[dict[str, Any]]:
    """Returns COCO annotations with new ids from 1: to faster_coco_eval 0 means unmatched; merged sets repeat ids."""
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


def _results(predictions: Sequence[Prediction], images: Mapping[int | str, int]) -> list[dict[str, Any]]:
    """Returns COCO results completed as by `loadRes`: area and box are those of the extent of the joints."""
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
    """Prints nothing, in place of faster_coco_eval's `print`."""
