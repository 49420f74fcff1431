"""AI Challenger's keypoint annotations in their official JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice
from semipose.data.formats.image_files import require_images
from semipose.data.formats.json_files import first_record, iterate_records, read_json
from semipose.data.formats.values import box_of_joints, finite_numbers
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, Instances, PoseDataset
from semipose.structures.skeletons import AI_CHALLENGER
from semipose.utils.files import is_file

VISIBILITY = np.array([0, 2, 1, 0], dtype=np.int8)
"""COCO's visibility for AI Challenger's: 1 visible, 2 occluded, 3 absent (0 does not occur)."""
IMAGE_FOLDERS = ("keypoint_train_images_20170902", "keypoint_validation_images_20170911", "images", ".")
"""Image folders next to the file, in the official archives or a folder of the user."""


class AIChallengerFormat(Format):
    """A list of images with the boxes and joints of their persons.

    `area` is the area of the box, as in the official evaluation.

    Reference:
        Wu et al., AI Challenger: A Large-scale Dataset for Going Deeper in Image Understanding, 2017.
    """

    def matches(self, path: Path) -> bool:
        """Returns whether a file is a list of records with keypoint annotations."""
        return "keypoint_annotations" in first_record(path)

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of an AI Challenger list, as `Format.read` describes."""
        records = read_json(path, "AI Challenger list", list[msgspec.Raw])
        if not isinstance(records, list) or not records:
            raise DataError(f"AI Challenger list {path} is empty; use the official keypoint_*_annotations JSON")
        root = images or _image_root(path)
        empty_images: list[tuple[int | str, Path]] = []

        def read_persons() -> Iterator[Instance]:
            count = 0
            for number, record in enumerate(iterate_records(records, path)):
                found: list[Instance] = []
                with collect_errors(problems):
                    found = _persons(record, number, count, root, path)
                    if not found:
                        empty_images.append((record["image_id"], root / f"{record['image_id']}.jpg"))
                count += len(found)
                yield from found

        persons = Instances.from_instances(read_persons(), len(AI_CHALLENGER))
        if not len(persons):
            raise DataError(f"AI Challenger list {path} has no persons; label at least one")
        require_images(persons.paths, path, problems)
        return PoseDataset(AI_CHALLENGER, persons, str(path), tuple(empty_images))


def _image_root(path: Path) -> Path:
    name = f"{first_record(path).get('image_id')}.jpg"
    return next((path.parent / f for f in IMAGE_FOLDERS if is_file(path.parent / f / name)), path.parent)


def _persons(record: Any, number: int, first_id: int, root: Path, path: Path) -> list[Instance]:
    """The persons of one image, with ids from `first_id`."""
    image_id = record.get("image_id") if isinstance(record, dict) else None
    if not isinstance(image_id, str) or not image_id or set(image_id) & set("/\\\0"):
        raise DataError(f"{path}: record {number} needs an 'image_id', a file name without folder")
    boxes, keypoints = record.get("human_annotations"), record.get("keypoint_annotations")
    if not isinstance(boxes, dict) or not isinstance(keypoints, dict):
        raise DataError(f"{path}: image {image_id} needs 'human_annotations' and 'keypoint_annotations'")
    found: list[Instance] = []
    for human in sorted(boxes, key=lambda name: (len(name), name)):
        where = f"{path}: image {image_id}, {human}"
        box = _box(boxes[human], where)
        joints, visibility = _joints(keypoints.get(human), where)
        estimated = None if box[2] * box[3] > 0 else box_of_joints(joints, visibility > 0)
        box = estimated or box
        found.append(
            Instance(
                image=root / f"{image_id}.jpg",
                image_id=image_id,
                annotation_id=first_id + len(found),
                box=box,
                joints=joints,
                visibility=visibility,
                area=box[2] * box[3],
                box_from_labels=estimated is not None,
            )
        )
    return found


def _box(corners: Any, where: str) -> tuple[float, float, float, float]:
    numbers = finite_numbers(corners, 4)
    if numbers is None:
        raise DataError(f"{where}: needs a box of 4 numbers")
    left, top, right, bottom = numbers.tolist()
    if right < left or bottom < top:
        raise DataError(f"{where}: the box has a negative size; it is [x1, y1, x2, y2]")
    return left, top, right - left, bottom - top


def _joints(flat: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    numbers = finite_numbers(flat, 3 * len(AI_CHALLENGER))
    if numbers is None:
        raise DataError(f"{where}: needs {3 * len(AI_CHALLENGER)} numbers of keypoints")
    values = numbers.reshape(-1, 3)
    if not np.isin(values[:, 2], (1, 2, 3)).all():
        raise DataError(f"{where}: a visibility is none of 1, 2, 3")
    visibility = VISIBILITY[values[:, 2].astype(int)]
    return values[:, :2] * (visibility > 0)[:, None], visibility
