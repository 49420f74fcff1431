"""Predictions: joints found for one person box each, saved and read as COCO keypoint results."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.coco import read_json
from semipose.data.records import PersonSet
from semipose.errors import DataError
from semipose.skeletons import Skeleton


@dataclass(frozen=True, eq=False)
class Prediction:
    """Joints (K, 2) in image pixels with scores (K,) for the person box `box`, and the instance's score.

    `annotation_id` names the annotated person whose box was used; None for a detection.
    """

    image_id: int | str
    annotation_id: int | None
    joints: np.ndarray
    scores: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    category_id: int = 1


def save_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Writes COCO keypoint results, by renaming; `annotation_id` is added where it is known."""
    records: list[dict[str, Any]] = []
    for p in predictions:
        record: dict[str, Any] = {
            "image_id": p.image_id,
            "category_id": p.category_id,
            "keypoints": np.column_stack([p.joints, p.scores]).ravel().tolist(),
            "score": float(p.score),
            "bbox": [float(v) for v in p.box],
        }
        if p.annotation_id is not None:
            record["annotation_id"] = p.annotation_id
        records.append(record)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(records))
    temporary.replace(path)


def load_predictions(path: Path, skeleton: Skeleton) -> list[Prediction]:
    """Reads COCO keypoint results for K = len(skeleton); DataError names file, record and remedy."""
    content = read_json(path, "predictions file")
    if not isinstance(content, list):
        raise DataError(f"predictions file {path} is no list of results; it needs [{{image_id, keypoints, score}}, …]")
    return [_read(record, f"{path}: result {number}", skeleton) for number, record in enumerate(content)]


def _read(record: Any, where: str, skeleton: Skeleton) -> Prediction:
    if not isinstance(record, dict) or not isinstance(record.get("image_id"), int | str):
        raise DataError(f"{where} needs an image_id")
    flat, wanted = record.get("keypoints"), 3 * len(skeleton)
    if not isinstance(flat, list) or len(flat) != wanted:
        found = len(flat) if isinstance(flat, list) else "none"
        raise DataError(f"{where} needs {wanted} numbers in 'keypoints' (x, y, score of {len(skeleton)} joints), has {found}")
    numbers = [*flat, record.get("score", 1.0), *(record.get("bbox") or (0, 0, 0, 0))]
    if len(numbers) != wanted + 5 or not all(_is_number(v) for v in numbers):
        raise DataError(f"{where} has a value that is no finite number; mend or remove the record")
    values = np.array(numbers, dtype=np.float64)
    joints = values[:wanted].reshape(-1, 3)
    x, y, width, height = values[wanted + 1 :].tolist()
    identity = record.get("annotation_id")
    return Prediction(
        image_id=record["image_id"],
        annotation_id=identity if isinstance(identity, int) else None,
        joints=joints[:, :2],
        scores=joints[:, 2],
        score=float(values[wanted]),
        box=(x, y, width, height),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e7 and math.isfinite(value)


def ground_truth_as_predictions(persons: PersonSet) -> list[Prediction]:
    """The labeled joints as perfect predictions, one per person that has some; crowds are left out."""
    return [
        Prediction(p.image_id, p.annotation_id, p.joints.copy(), np.ones(len(p.joints)), 1.0, p.box)
        for p in persons.persons
        if p.labeled and not p.is_crowd and p.joints is not None
    ]
