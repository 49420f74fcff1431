"""OKS average precision and recall, the COCO keypoint protocol over any skeleton, through faster-coco-eval."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from semipose.data.records import PersonSet
from semipose.evaluation.predictions import Prediction

NAMES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")


def oks_scores(truth: PersonSet, predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """AP over OKS .50:.05:.95, AP50, AP75, AP_M, AP_L and AR as fractions; None where no person is in the size range.

    At most 20 results an image count. Crowds and persons without labeled joints are ignored, not missed.
    """
    persons = [p for p in truth.persons if p.joints is not None]
    if not any(p.labeled and not p.is_crowd for p in persons):
        return dict.fromkeys(NAMES)
    if not predictions:
        return dict.fromkeys(NAMES, 0.0)
    ids = {image: n for n, image in enumerate(dict.fromkeys(p.image_id for p in truth.persons), start=1)}
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(_container(truth, ids))
        results = reference.loadRes(_results(predictions, ids))
        evaluation = COCOeval_faster(
            reference, results, "keypoints", kpt_oks_sigmas=np.array(truth.skeleton.sigmas, dtype=np.float64), print_function=_silent
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(v) for v in evaluation.stats[: len(NAMES)]]
    return {name: None if value < 0 else value for name, value in zip(NAMES, values, strict=True)}


def object_keypoint_similarity(
    joints: np.ndarray, visibility: np.ndarray, area: float, predicted: np.ndarray, sigmas: Sequence[float]
) -> float:
    """OKS of one prediction (K, 2) with one labeled person: mean over labeled joints of exp(-d² / (2 area k²))."""
    labeled = visibility > 0
    if not labeled.any():
        return 0.0
    squared = ((predicted - joints) ** 2).sum(axis=1)[labeled]
    k = 2 * np.asarray(sigmas)[labeled]
    return float(np.exp(-squared / k**2 / (area + np.spacing(1)) / 2).mean())


def _silent(*_: Any) -> None:
    """Takes the place of print."""


def _container(truth: PersonSet, ids: dict[int | str, int]) -> dict[str, Any]:
    records = []
    for number, p in enumerate(truth.persons, start=1):
        joints = np.zeros((len(truth.skeleton), 2)) if p.joints is None else p.joints
        visibility = np.zeros(len(truth.skeleton)) if p.visibility is None else p.visibility
        records.append(
            {
                "id": number,
                "image_id": ids[p.image_id],
                "category_id": 1,
                "iscrowd": int(p.is_crowd),
                "bbox": list(p.box),
                "area": p.area,
                "keypoints": np.column_stack([joints, visibility]).ravel().tolist(),
                "num_keypoints": int((visibility > 0).sum()),
            }
        )
    category = {"id": 1, "name": "person", "keypoints": list(truth.skeleton.joints), "skeleton": []}
    return {"images": [{"id": n} for n in ids.values()], "annotations": records, "categories": [category]}


def _results(predictions: Sequence[Prediction], ids: dict[int | str, int]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": ids[p.image_id],
            "category_id": 1,
            "keypoints": np.column_stack([p.joints, p.scores]).ravel().tolist(),
            "score": float(p.score),
        }
        for p in predictions
        if p.image_id in ids
    ]
