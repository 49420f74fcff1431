"""Predicted poses: one record a person, saved and read as COCO keypoint results."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from semipose.data.formats.coco import AREA_OF_BOX, finite
from semipose.data.formats.json_files import read_json
from semipose.errors import DataError, RunError, collect_errors
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO, Skeleton
from semipose.utils.files import write_text

LARGEST = 1e7
"""Numbers from here on in a file are no pixels (and their squares may overflow)."""
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


def save_predictions(
    predictions: Iterable[Prediction],
    path: Path | str,
    sums: Path | None = None,
    files: Mapping[int | str, str] | None = None,
) -> None:
    """Writes COCO keypoint results, [{image_id, category_id, keypoints: [x, y, score] * K, score, bbox}], by renaming.

    Numbers keep full precision; `annotation_id` is an extra key where it is known, `file_name` where `files` has the
    image's. `sums` is the folder whose SHA256SUMS knows the file. Raises DataError when the folder can't be written.
    """
    known = files or {}
    records = [_record(p) | ({"file_name": known[p.image_id]} if p.image_id in known else {}) for p in predictions]
    _write_by_renaming(records, Path(path), sums)


def save_submission(predictions: Sequence[Prediction], path: Path | str) -> None:
    """Writes a result file as COCO's keypoint server takes it: whole image numbers, category 1, 17 joints, 2 decimals.

    Raises DataError for image ids that are no numbers or another number of joints, and when the file can't be written;
    RunError for predictions that are not finite.
    """
    path = Path(path)
    records = []
    for n, p in enumerate(predictions, start=1):
        if not isinstance(p.image_id, int):
            raise DataError(
                f"prediction {n} is for image {p.image_id!r}; COCO's server takes whole numbers: predict its image list"
            )
        if len(p.joints) != len(COCO):
            raise DataError(f"prediction {n} has {len(p.joints)} joints; COCO's server takes its own {len(COCO)}")
        record = _record(p)
        if not np.isfinite([*record["keypoints"], record["score"]]).all():
            raise RunError(f"prediction {n} is not finite; the network has diverged: lower the learning rate")
        keypoints = [round(v, 2) for v in record["keypoints"]]
        records.append({"image_id": p.image_id, "category_id": 1, "keypoints": keypoints, "score": round(p.score, 5)})
    _write_by_renaming(records, path)


def load_predictions(
    path: Path | str, skeleton: Skeleton, problems: list[str] | None = None, truth: PoseDataset | None = None
) -> list[Prediction]:
    """Predictions of a COCO keypoint results file, in its order.

    A record with a `file_name` belongs to the image of `truth` so named, whatever its `image_id`: numbers given to the
    images of a folder are not those of an annotation file. A missing `bbox`, which COCO's format leaves out, becomes
    the box of the joints; `annotation_id` may be missing.
    Raises DataError with file, record number (from 1) and remedy for anything that doesn't fit `skeleton`'s K joints;
    broken records are left out instead where `problems` is a list to note them in.
    """
    path = Path(path)
    records = read_json(path, "predictions file")
    if not isinstance(records, list):
        raise DataError(f"predictions file {path} is no list; write COCO keypoint results: a JSON list of objects")
    named = {image.name: identity for identity, image in truth.image_paths.items()} if truth else {}
    found = []
    for number, record in enumerate(records, start=1):
        with collect_errors(problems):
            prediction = _prediction(path, number, record, len(skeleton))
            name = record.get("file_name")
            if truth is not None and isinstance(name, str):
                prediction = replace(prediction, image_id=named.get(Path(name).name, name))
            found.append(prediction)
    return found


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
            area=p.box[2] * p.box[3] * AREA_OF_BOX,
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


def _write_by_renaming(content: list[dict[str, Any]], path: Path, sums: Path | None = None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content), sums)
    except OSError as error:
        raise DataError(f"predictions can't be written to {path} ({error.strerror}); choose another place") from None


def _record(p: Prediction) -> dict[str, Any]:
    values = np.concatenate([p.joints, p.scores[:, None]], axis=1).astype(np.float64)
    record: dict[str, Any] = {
        "image_id": p.image_id,
        "category_id": p.category_id,
        "keypoints": values.ravel().tolist(),
        "score": float(p.score),
        "bbox": [float(v) for v in p.box],
    }
    if p.annotation_id is not None:
        record["annotation_id"] = p.annotation_id
    return record


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


def _prediction(path: Path, number: int, record: Any, k: int) -> Prediction:
    if not isinstance(record, dict):
        _fail(path, number, "is no object", "write one object a person")
    for field in ("image_id", "category_id", "keypoints", "score"):
        if record.get(field) is None:
            _fail(path, number, f"has no '{field}'", "write image_id, category_id, keypoints and score")
    if not isinstance(record["image_id"], int | str) or isinstance(record["image_id"], bool):
        _fail(path, number, f"'image_id' is {record['image_id']!r}", "write the image's id: a whole number or a text")
    for field in ("category_id", "annotation_id"):
        value = record.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            _fail(path, number, f"'{field}' is {value!r}", "write a whole number")
    joints = _numbers(record["keypoints"], 3 * k)
    if joints is None:
        given = record["keypoints"]
        found = f"has {len(given)} entries or one that is no finite number" if isinstance(given, list) else "is no list"
        _fail(path, number, f"'keypoints' {found}", f"write {3 * k} finite numbers: x, y, score for {k} joints")
    joints = joints.reshape(k, 3)
    score = _numbers([record["score"]], 1)
    if score is None:
        _fail(path, number, f"'score' is {record['score']!r}", "write a finite number")
    return Prediction(
        image_id=record["image_id"],
        annotation_id=record.get("annotation_id"),
        joints=joints[:, :2].copy(),
        scores=joints[:, 2].copy(),
        score=float(score[0]),
        box=_box(path, number, record, joints),
        category_id=record["category_id"],
    )


def _box(path: Path, number: int, record: dict, joints: np.ndarray) -> tuple[float, float, float, float]:
    if record.get("bbox") is None:
        low, high = joints[:, :2].min(axis=0), joints[:, :2].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
    box = _numbers(record["bbox"], 4)
    if box is None:
        _fail(path, number, f"'bbox' is {str(record['bbox'])[:60]}", "write 4 finite numbers: x, y, width, height")
    x, y, width, height = box.tolist()
    return x, y, width, height


def _numbers(values: Any, length: int) -> np.ndarray | None:
    """`length` finite numbers of a size that pixels have, or None."""
    array = finite(values, length)
    return array if array is not None and bool((np.abs(array) < LARGEST).all()) else None


def _fail(path: Path, number: int, what: str, remedy: str) -> NoReturn:
    raise DataError(f"{path}, record {number}: {what}; {remedy}")
