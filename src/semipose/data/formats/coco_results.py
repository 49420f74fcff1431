"""COCO keypoint results: the file format of predictions, and of submissions to COCO's server."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.formats.image_names import ImageIndex, ImageReference, image_id_of
from semipose.data.formats.json_files import first_record, read_json_list
from semipose.data.formats.values import finite_numbers
from semipose.errors import DataError, RunError, collect_errors
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import COCO, Skeleton
from semipose.utils.files import write_text

LARGEST_COORDINATE = 1e7
"""No pixel coordinate is larger, and the square of a larger one may overflow."""


def save_predictions(
    predictions: Iterable[Prediction], path: str | os.PathLike[str], *, files: Mapping[int | str, str] | None = None
) -> None:
    """Writes predictions as COCO keypoint results.

    Each record is {image_id, category_id, keypoints: [x, y, score] * K, score, bbox}, with numbers in full precision.
    Extra keys are `box_score` and, where they are known, `annotation_id`, `crop_area` in square pixels, `track_id` and
    the name of the `individual`.
    If the network is calibrated, the scores of keypoints are probabilities, and the extra key `peaks` has K peaks.

    Args:
        predictions: The predictions, in the order of the file.
        path: The file to write; its folder is created.
        files: File names by image id, written as the extra key `file_name`.

    Raises:
        DataError: If the file cannot be written.
    """
    names = files or {}
    records = [_record(p) | ({"file_name": names[p.image_id]} if p.image_id in names else {}) for p in predictions]
    _write(records, Path(path))


def is_prediction_file(path: Path) -> bool:
    """Returns whether a file is a list of predictions, perhaps an empty one; files of labels and of boxes are not."""
    record = first_record(path)
    return {"keypoints", "score"} <= record.keys() or path.read_bytes().strip() == b"[]"


def save_submission(predictions: Sequence[Prediction], path: str | os.PathLike[str]) -> None:
    """Writes a result file for COCO's keypoint server: integer image ids, category 1, 17 joints, 2 decimals.

    Raises:
        DataError: If an image id is not an integer, the number of joints is not 17, or the file cannot be written.
        RunError: If a prediction is not finite.
    """
    records = []
    for n, p in enumerate(predictions, start=1):
        if not isinstance(p.image_id, int):
            raise DataError(
                f"prediction {n} is for image {p.image_id!r}, but COCO's server takes integer image ids; predict on "
                "COCO's image list"
            )
        if len(p.joints) != len(COCO):
            raise DataError(f"prediction {n} has {len(p.joints)} joints, but COCO's server takes {len(COCO)}")
        keypoints = _keypoints(p)
        if not np.isfinite([*keypoints, p.score]).all():
            raise RunError(f"prediction {n} is not finite: the network has diverged; lower the learning rate")
        rounded = [round(v, 2) for v in keypoints]
        records.append({"image_id": p.image_id, "category_id": 1, "keypoints": rounded, "score": round(p.score, 5)})
    _write(records, Path(path))


def load_predictions(
    path: str | os.PathLike[str],
    skeleton: Skeleton,
    problems: list[str] | None = None,
    truth: PoseDataset | None = None,
    left_out: Counter[str] | None = None,
) -> list[Prediction]:
    """Reads the predictions of a COCO keypoint results file.

    A missing `bbox`, which COCO's format leaves out, becomes the bounding box of the joints; `annotation_id` may be
    missing, `box_score` is then 1, and `crop_area` unknown.

    Args:
        path: The file.
        skeleton: The skeleton that the keypoints must fit.
        problems: Collects one line for each broken record, which is then left out.
        truth: The data set that the predictions are for. A record with a `file_name` belongs to its image of that
            name, whatever the `image_id`, because images of a folder are numbered differently. Predictions for other
            images are left out and counted in a warning.
        left_out: A counter to which the number of these is added.

    Returns:
        The predictions, in the order of the file.

    Raises:
        DataError: If the file cannot be read, a record is broken or its image ambiguous and `problems` is None, or no
            prediction is for an image of `truth`.
    """
    path = Path(path)
    records = read_json_list(path, "predictions file", "COCO keypoint results: a JSON list of objects")
    found: list[Prediction] = []
    references: list[ImageReference] = []
    for number, record in enumerate(records, start=1):
        with collect_errors(problems):
            prediction = _prediction(record, len(skeleton), f"{path}, record {number}")
            found.append(prediction)
            references.append(ImageReference.of(record) or ImageReference(prediction.image_id))
    if truth is None or not found:
        return found
    ambiguous = len(problems or ())
    ids = ImageIndex.of_dataset(truth).locate(references, path, "prediction", truth.source, problems)
    if left_out is not None:
        left_out["predictions for other images"] += ids.count(None) - (len(problems or ()) - ambiguous)
    return [replace(p, image_id=i) for p, i in zip(found, ids, strict=True) if i is not None]


def _write(records: list[dict[str, Any]], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(records))
    except OSError as error:
        raise DataError(f"predictions can't be written to {path} ({error.strerror}); choose another location") from None


def _keypoints(p: Prediction) -> list[float]:
    return np.column_stack([p.joints, p.confidences]).astype(np.float64).ravel().tolist()


def _record(p: Prediction) -> dict[str, Any]:
    record = {
        "image_id": p.image_id,
        "category_id": p.category_id,
        "keypoints": _keypoints(p),
        "score": float(p.score),
        "bbox": [float(v) for v in p.box],
        "box_score": float(p.box_score),
    }
    peaks = None if p.calibrated is None else p.scores.astype(np.float64).tolist()
    known = {
        "annotation_id": p.annotation_id,
        "crop_area": p.crop_area,
        "track_id": p.track,
        "individual": p.individual,
        "peaks": peaks,
    }
    record |= {key: value for key, value in known.items() if value is not None}
    return record


def _prediction(record: Any, k: int, where: str) -> Prediction:
    if not isinstance(record, dict):
        raise DataError(f"{where}: is not an object; write one object for each person")
    for field in ("image_id", "category_id", "keypoints", "score"):
        if record.get(field) is None:
            raise DataError(f"{where}: has no '{field}'; write image_id, category_id, keypoints and score")
    image_id = image_id_of(record["image_id"])
    if image_id is None:
        raise DataError(f"{where}: 'image_id' is {record['image_id']!r}; write an integer or a string")
    for field, types, what in (
        ("category_id", int | str, "an integer or a string"),
        ("annotation_id", int, "an integer"),
    ):
        value = record.get(field)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise DataError(f"{where}: '{field}' is {value!r}; write {what}")
    given = record["keypoints"]
    values = finite_numbers(given, 3 * k, LARGEST_COORDINATE)
    if values is None:
        found = f"{len(given)} entries or one that is not a finite number" if isinstance(given, list) else "no list"
        raise DataError(f"{where}: 'keypoints' has {found}; write {3 * k} numbers: x, y, score for {k} joints")
    score = finite_numbers([record["score"]], 1, LARGEST_COORDINATE)
    if score is None:
        raise DataError(f"{where}: 'score' is {record['score']!r}; write a finite number")
    box_score, crop_area = (_number(record, field, where) for field in ("box_score", "crop_area"))
    joints, scores = values.reshape(k, 3)[:, :2].copy(), values[2::3].copy()
    peaks = None if record.get("peaks") is None else finite_numbers(record["peaks"], k)
    if peaks is None and record.get("peaks") is not None:
        raise DataError(f"{where}: 'peaks' is {str(record['peaks'])[:60]}; write {k} finite numbers")
    return Prediction(
        image_id=image_id,
        annotation_id=record.get("annotation_id"),
        joints=joints,
        scores=scores if peaks is None else peaks,
        score=float(score[0]),
        box=_box(record.get("bbox"), joints, where),
        category_id=record["category_id"],
        box_score=1.0 if box_score is None else box_score,
        crop_area=crop_area,
        calibrated=None if peaks is None else scores,
    )


def _number(record: dict[str, Any], field: str, where: str) -> float | None:
    """The finite number of an extra key; None if the record lacks it."""
    if record.get(field) is None:
        return None
    value = finite_numbers([record[field]], 1)
    if value is None:
        raise DataError(f"{where}: '{field}' is {record[field]!r}; write a finite number")
    return float(value[0])


def _box(given: Any, joints: np.ndarray, where: str) -> tuple[float, float, float, float]:
    """The box of a record, or the bounding box of its joints if it has none."""
    if given is None:
        low, high = joints.min(axis=0), joints.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
    box = finite_numbers(given, 4, LARGEST_COORDINATE)
    if box is None:
        raise DataError(f"{where}: 'bbox' is {str(given)[:60]}; write 4 finite numbers: x, y, width, height")
    x, y, width, height = box.tolist()
    return x, y, width, height
