"""The score of a predicted person, by which AP ranks, and the suppression of duplicates by OKS."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from semipose.metrics.oks import object_keypoint_similarity
from semipose.structures.predictions import Prediction

InstanceScore = Literal["rescored", "mean"]
"""How the score of a person follows from the peaks of its joints: `rescored` is the mean of the peaks above .2 (0 if
there is none), with OKS-NMS at .9 afterwards; `mean` is the mean of all peaks. Both are multiplied by the score of the
box, 1 for annotated boxes."""

MIN_PEAK = 0.2
"""Peaks up to this value do not count in a `rescored` person (IN_VIS_THRE of the papers' code)."""
NMS_THRESHOLD = 0.9
"""OKS above which OKS-NMS takes two predictions for the same person (OKS_THRE of the papers' code)."""

DESCRIPTIONS: dict[InstanceScore, str] = {
    "rescored": f"mean peak of the joints above {MIN_PEAK} × box score, OKS-NMS at {NMS_THRESHOLD}",
    "mean": "mean peak of all joints × box score",
}
"""The instance scores in words, for the protocol."""


def instance_scores(peaks: np.ndarray, box_scores: np.ndarray, kind: InstanceScore) -> np.ndarray:
    """Returns the scores of N persons.

    Args:
        peaks: (N, K) heatmap peaks of the joints.
        box_scores: (N,) scores of the boxes, 1 for annotated ones.
        kind: How peaks become a score.

    Returns:
        (N,) scores.

    Reference: Xiao et al., ECCV 2018, section 4.1; Xie et al., ICCV 2021 (released code).
    """
    counted = peaks > MIN_PEAK if kind == "rescored" else np.ones_like(peaks, bool)
    sums = np.where(counted, peaks, 0.0).sum(axis=1)
    return np.asarray(sums / np.maximum(counted.sum(axis=1), 1) * box_scores)


def rescore(predictions: Sequence[Prediction], kind: InstanceScore) -> list[Prediction]:
    """Returns the predictions with the instance scores of `kind`.

    Joints without a peak in any prediction, which the training had no labels of, do not count.
    """
    if not predictions:
        return []
    peaks = np.stack([p.scores for p in predictions])
    scores = instance_scores(peaks[:, _predicted(peaks)], np.array([p.box_score for p in predictions]), kind)
    return [replace(p, score=score) for p, score in zip(predictions, scores.tolist(), strict=True)]


def oks_nms(
    predictions: Sequence[Prediction], sigmas: Sequence[float], threshold: float = NMS_THRESHOLD
) -> list[Prediction]:
    """Returns the predictions without those whose OKS with a better one in their image exceeds the threshold.

    Predictions are taken by descending score, of equal scores the earlier one first. OKS is that of all joints, and its
    scale is the mean area of the two crops; joints without a peak in any prediction do not count.

    Args:
        predictions: The predictions of any number of images.
        sigmas: OKS sigmas of the K joints.
        threshold: The largest OKS of two persons.

    Reference: Papandreou et al., CVPR 2017, section 3.3; the crop as the scale as in the released code of Xiao et al.,
    ECCV 2018.
    """
    if not predictions:
        return []
    by_image: dict[int | str, list[int]] = defaultdict(list)
    for n, p in enumerate(predictions):
        by_image[p.image_id].append(n)
    counted = _predicted(np.stack([p.scores for p in predictions]))
    joints = np.stack([p.joints for p in predictions])[:, counted]
    areas, scores = np.array([_area(p) for p in predictions]), np.array([p.score for p in predictions])
    known_sigmas, kept = np.asarray(sigmas)[counted].tolist(), []
    for members in by_image.values():
        own = np.array(members)
        rest = own[np.argsort(-scores[own], kind="stable")]
        while len(rest):
            first, rest = rest[0], rest[1:]
            kept.append(int(first))
            shared = (areas[first] + areas[rest]) / 2
            similar = object_keypoint_similarity(
                joints[first], np.ones(len(known_sigmas)), shared, joints[rest], known_sigmas
            )
            rest = rest[similar <= threshold]
    return [predictions[n] for n in sorted(kept)]


def _predicted(peaks: np.ndarray) -> np.ndarray:
    """Whether each joint has a peak in some prediction, (K,); all have if none has."""
    found = (peaks != 0).any(axis=0)
    return found if found.any() else np.ones_like(found)


def _area(prediction: Prediction) -> float:
    return prediction.crop_area or prediction.box[2] * prediction.box[3]
