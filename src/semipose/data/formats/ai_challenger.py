"""AI Challenger's keypoint annotations in their official JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from semipose.data.formats.json_files import each, read_json
from semipose.data.formats.values import finite_numbers, require_images
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, Instances, PoseDataset
from semipose.structures.skeletons import AI_CHALLENGER
from semipose.utils.files import is_file

VISIBILITY = np.array([0, 2, 1, 0], dtype=np.int8)
"""COCO's flag for AI Challenger's: 1 visible, 2 occluded, 3 absent (0 does not occur)."""

FOLDERS = ("keypoint_train_images_20170902", "keypoint_validation_images_20170911", "images", ".")
"""Where the images lie beside the file, in the official archives or a folder of one's own."""


def read_ai_challenger(annotations: Path, images: Path | None = None, problems: list[str] | None = None) -> PoseDataset:
    """Persons of the official list, image by image; `area` is the box's, as in the official evaluation.

    Raises DataError with file, image and remedy; the persons of a broken record are left out instead where `problems`
    is a list to note it in.
    """
    records = read_json(annotations, "AI Challenger list", list[msgspec.Raw])
    if not isinstance(records, list) or not records:
        raise DataError(f"AI Challenger list {annotations} is empty; take the official keypoint_*_annotations json")
    root = images or _image_root(annotations, next(each(records, annotations)))
    empty: list[tuple[int | str, Path]] = []

    def everyone() -> Iterator[Instance]:
        first = 0
        for number, record in enumerate(each(records, annotations)):
            own: list[Instance] = []
            with collect_errors(problems):
                own = _persons(record, number, first, root, annotations)
                if not own:
                    empty.append((record["image_id"], root / f"{record['image_id']}.jpg"))
            first += len(own)
            yield from own

    persons = Instances.from_instances(everyone(), len(AI_CHALLENGER))
    if not len(persons):
        raise DataError(f"AI Challenger list {annotations} has no persons; label at least one")
    require_images(persons.paths, annotations, problems)
    return PoseDataset(AI_CHALLENGER, persons, str(annotations), tuple(empty))


def _image_root(path: Path, record: Any) -> Path:
    name = f"{record.get('image_id')}.jpg" if isinstance(record, dict) else ""
    return next((path.parent / f for f in FOLDERS if is_file(path.parent / f / name)), path.parent)


def _persons(record: Any, number: int, first: int, root: Path, path: Path) -> list[Instance]:
    """Persons of one image; ids count on from `first`."""
    identity = record.get("image_id") if isinstance(record, dict) else None
    if not isinstance(identity, str) or not identity or "/" in identity or "\\" in identity or "\0" in identity:
        raise DataError(f"{path}: record {number} needs an 'image_id', a file name without folder")
    boxes, points = record.get("human_annotations"), record.get("keypoint_annotations")
    if not isinstance(boxes, dict) or not isinstance(points, dict):
        raise DataError(f"{path}: image {identity} needs 'human_annotations' and 'keypoint_annotations'")
    found: list[Instance] = []
    for human in sorted(boxes, key=lambda name: (len(name), name)):
        where = f"{path}: image {identity}, {human}"
        corners = finite_numbers(boxes[human], 4)
        flat = finite_numbers(points.get(human), 3 * len(AI_CHALLENGER))
        if corners is None or flat is None:
            raise DataError(f"{where}: needs a box of 4 numbers and {3 * len(AI_CHALLENGER)} numbers of keypoints")
        x, y, right, bottom = corners.tolist()
        if right < x or bottom < y:
            raise DataError(f"{where}: the box ends before it begins; it is [x1, y1, x2, y2]")
        values = flat.reshape(-1, 3)
        if not np.isin(values[:, 2], (1, 2, 3)).all():
            raise DataError(f"{where}: a visibility is none of 1, 2, 3")
        visibility = VISIBILITY[values[:, 2].astype(int)]
        found.append(
            Instance(
                image=root / f"{identity}.jpg",
                image_id=identity,
                annotation_id=first + len(found),
                box=(x, y, right - x, bottom - y),
                joints=values[:, :2] * (visibility > 0)[:, None],
                visibility=visibility,
                area=(right - x) * (bottom - y),
            )
        )
    return found
