"""COCO keypoint annotations."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.image_names import ImageFolder, ImageId, id_value, image_id_of, require_images
from semipose.data.formats.json_files import is_json_object, iterate_records, read_json
from semipose.data.formats.values import (
    finite_numbers,
    is_id,
    is_number,
    require_number,
)
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, Instances, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton, infer_skeleton

log = logging.getLogger(__name__)


class Image(TypedDict, total=False):
    """The keys of an image that are read."""

    id: Any
    file_name: Any


class Annotation(TypedDict, total=False):
    """The keys of an annotation that are read."""

    id: Any
    image_id: Any
    category_id: Any
    iscrowd: Any
    bbox: Any
    area: Any
    keypoints: Any
    head_size: Any


class Container(TypedDict, total=False):
    """The keys of the file that are read; other keys, above all segmentations, take no memory.

    Images and annotations stay encoded until `iterate_records` decodes them as `Image` and `Annotation`.
    """

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[dict[str, Any]]


class CocoFormat(Format):
    """A JSON object with images, annotations and categories."""

    def matches(self, path: Path) -> bool:
        """Returns whether a file is a JSON object."""
        return is_json_object(path)

    def read(self, path: Path, images: Path | None = None, problems: list[str] | None = None) -> PoseDataset:
        """Reads the persons of a COCO file, as `Format.read` describes."""
        return read_coco(path, images, problems=problems)

    def read_boxes(
        self, path: Path, images: Path | None, problems: list[str] | None, skeleton: Skeleton | None
    ) -> PoseDataset:
        """Reads the persons of a COCO file without their joints, which may be missing or broken."""
        return read_coco(path, images, labels=False, skeleton=skeleton, problems=problems)


def read_coco(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    labels: bool = True,
    skeleton: Skeleton | None = None,
    problems: list[str] | None = None,
) -> PoseDataset:
    """Reads the persons of a COCO keypoints file.

    Crowds and persons without labeled joints stay in the data set, because the COCO evaluation uses them.

    Args:
        path: The annotation file.
        images: The image folder; None for `images/`, a folder with the name of the file or the folder of the file.
        labels: Whether joints are read.
        skeleton: The skeleton of a file without joint names, used if `labels` is False.
        problems: Collects one line for each broken record, which is then left out.

    Returns:
        The persons, in the order of the file.

    Raises:
        DataError: If the file cannot be used, or a record is broken and `problems` is None.
    """
    path = Path(path)
    content = read_json(path, "annotation file", Container)
    if not isinstance(content, dict):
        raise DataError(f"annotation file {path} is not COCO: it needs images, annotations and categories")
    image_records, records, categories = (_list(content, key, path) for key in ("images", "annotations", "categories"))
    if not records:
        raise DataError(f"annotation file {path} has no annotations; label at least one person")
    ids, skeleton = _person_categories(categories, path, None if labels else skeleton)
    files = _image_files(image_records, _image_root(path, images), path, problems)
    reader = _Reader(path, skeleton, ids, {c.get("id") for c in categories}, files, labels)
    persons = Instances.from_instances(reader.persons(records, problems), len(skeleton))
    if any(reader.by_value):
        log.info(
            "%s: %d annotations have text for a number as 'image_id', or the reverse; matched by value",
            *(path, sum(reader.by_value)),
        )
    if not len(persons):
        raise DataError(
            f"annotation file {path} has no person of category {sorted(map(str, ids))[0]}; check category_id"
        )
    require_images(persons.paths, path, problems)
    used = {image_id for image_id, _ in persons.images}
    empty_images = tuple((image_id, Path(image)) for image_id, image in files.items() if image_id not in used)
    return PoseDataset(skeleton, persons, str(path), empty_images)


def read_image_list(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None, skeleton: Skeleton
) -> PoseDataset:
    """Reads the images of a COCO file without annotations (`image_info_test-dev2017.json`).

    Returns:
        A data set of images without persons, for boxes of a detector.

    Raises:
        DataError: If the file has no list of images, or the first image does not exist.
    """
    path = Path(path)
    content = read_json(path, "image list", Container)
    records = content.get("images") if isinstance(content, dict) else None
    if not isinstance(records, list) or not records:
        raise DataError(f"image list {path} has no list 'images'; use COCO's image_info file")
    files = _image_files(records, _image_root(path, images), path)
    require_images(list(files.values()), path)
    return PoseDataset(skeleton, (), str(path), tuple((image_id, Path(image)) for image_id, image in files.items()))


def _list(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(record, dict | msgspec.Raw) for record in found):
        raise _missing_list(path, key)
    return found


def _missing_list(path: Path, key: str) -> DataError:
    return DataError(
        f"annotation file {path} has no list of objects {key!r}; it needs images, annotations and categories"
    )


def _person_categories(
    categories: list[dict[str, Any]], path: Path, skeleton: Skeleton | None
) -> tuple[set[Any], Skeleton]:
    """The ids of the categories that are read, and their skeleton."""
    if not categories or not all(is_id(c.get("id")) for c in categories):
        raise DataError(f"annotation file {path} needs categories, each with an 'id'")
    with_joints = [c for c in categories if c.get("keypoints")]
    if not with_joints:
        if skeleton is not None:
            return {c.get("id") for c in categories}, skeleton
        raise DataError(f"annotation file {path} has no category with 'keypoints'; list the joint names in one")
    names = with_joints[0]["keypoints"]
    if not isinstance(names, list) or any(c["keypoints"] != names for c in with_joints):
        raise DataError(f"annotation file {path} has categories with different 'keypoints'; use one list in a file")
    limbs = _limbs(with_joints[0].get("skeleton") or [], len(names), path)
    return {c.get("id") for c in with_joints}, infer_skeleton(names, limbs, name=path.stem)


def _limbs(pairs: Any, k: int, path: Path) -> list[tuple[int, int]]:
    if not isinstance(pairs, list):
        raise DataError(f"annotation file {path}: 'skeleton' of the category is not a list of pairs of joints")
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(isinstance(i, int) and 1 <= i <= k for i in pair):
            raise DataError(
                f"annotation file {path}: limb {str(pair)[:40]} of the category is not a pair of joints 1 to {k}"
            )
    return [(a - 1, b - 1) for a, b in pairs]


def _image_root(path: Path, images: str | os.PathLike[str] | None) -> Path:
    if images is not None:
        root = Path(images)
        if not root.is_dir():
            raise DataError(f"`images`: folder {root} does not exist")
        return root
    candidates = (path.parent / "images", path.parent / path.stem, path.parent)
    return next(c for c in candidates if c.is_dir())


def _image_files(records: list[Any], root: Path, path: Path, problems: list[str] | None = None) -> dict[Any, str]:
    """Paths by image id, as strings because a Path takes four times the memory."""
    files: dict[Any, str] = {}
    folder = ImageFolder(root)
    for number, record in enumerate(iterate_records(records, path, Image)):
        if not isinstance(record, dict):
            raise _missing_list(path, "images")
        with collect_errors(problems):
            image_id, name = image_id_of(record.get("id")), record.get("file_name")
            if image_id is None or not isinstance(name, str) or not name:
                raise DataError(f"{path}: image record {number} needs an 'id' and a 'file_name'")
            if image_id in files:
                raise DataError(f"{path}: image id {image_id} occurs twice; ids must be unique")
            files[image_id] = str(folder.find(name, f"{path}: image {image_id}"))
    folder.report(path)
    return files


@dataclass(frozen=True)
class _Reader:
    """Reads annotations of the categories `category_ids`, one at a time."""

    path: Path
    skeleton: Skeleton
    category_ids: set[Any]
    known_categories: set[Any]
    files: dict[Any, str]
    labels: bool
    by_value: list[bool] = field(default_factory=list)

    def persons(self, records: list[Any], problems: list[str] | None) -> Iterator[Instance]:
        ids: set[Any] = set()
        without_box = 0
        for number, record in enumerate(iterate_records(records, self.path, Annotation)):
            if not isinstance(record, dict):
                raise _missing_list(self.path, "annotations")
            person = None
            annotation_id = record.get("id", number + 1)
            where = f"{self.path}: annotation {str(annotation_id)[:40]}"
            with collect_errors(problems):
                if not is_id(annotation_id) or isinstance(annotation_id, str) or annotation_id in ids:
                    raise DataError(f"{where}: the id is not a number or occurs twice; ids must be unique numbers")
                ids.add(annotation_id)
                if not self._is_person(record, where):
                    continue
                person = self._person(record, annotation_id, where)
                without_box += person is None
            if person is not None:
                yield person
        if without_box:
            log.warning("%s: %d annotations have neither a box nor a labeled joint; left out", self.path, without_box)

    def _is_person(self, record: dict[str, Any], where: str) -> bool:
        category = record.get("category_id", next(iter(self.category_ids)))
        if not is_id(category) or category not in self.known_categories:
            raise DataError(f"{where}: no category has the id {str(category)[:40]}; add it to 'categories'")
        return category in self.category_ids

    def _image_id(self, value: Any, where: str) -> ImageId:
        """The id in `files` that equals a value, be it as text for a number or the reverse."""
        image_id = image_id_of(value)
        if image_id is not None and image_id not in self.files:
            image_id = self._ids_by_value.get(id_value(image_id))
            self.by_value.append(image_id is not None)
        if image_id is None:
            raise DataError(f"{where}: no image has the id {str(value)[:40]}; add it to 'images'")
        return image_id

    @cached_property
    def _ids_by_value(self) -> dict[ImageId, ImageId]:
        return {id_value(image_id): image_id for image_id in self.files}

    def _person(self, record: dict[str, Any], annotation_id: int, where: str) -> Instance | None:
        """The person of a record, or None if it has neither a box nor a labeled joint."""
        image_id = self._image_id(record.get("image_id"), where)
        joints, visibility = _joints(record, self.skeleton, where) if self.labels else (None, None)
        box = _box(record.get("bbox"), where) or _box_of_joints(joints, visibility)
        if box is None:
            return None
        area, head_size = record.get("area"), record.get("head_size")
        return Instance(
            image=Path(self.files[image_id]),
            image_id=image_id,
            annotation_id=annotation_id,
            box=box,
            joints=joints,
            visibility=visibility,
            area=estimate_area(box) if area is None else _area(area, f"{where}: area"),
            is_crowd=bool(record.get("iscrowd", 0)),
            head_size=require_number(head_size, f"{where}: head_size") if head_size else None,
        )


def _joints(record: dict[str, Any], skeleton: Skeleton, where: str) -> tuple[np.ndarray, np.ndarray]:
    flat, count = record.get("keypoints"), 3 * len(skeleton)
    if not isinstance(flat, list) or len(flat) != count:
        found = len(flat) if isinstance(flat, list) else "none"
        raise DataError(f"{where}: needs {count} numbers in 'keypoints' ({len(skeleton)} joints), has {found}")
    numbers = finite_numbers(flat, count)
    if numbers is None:  # some converters write NaN or null for the position of an unlabeled joint
        flat = [0 if flat[i // 3 * 3 + 2] == 0 else value for i, value in enumerate(flat)]
        numbers = finite_numbers(flat, count)
    if numbers is None:
        wrong = next(v for v in flat if not is_number(v))
        raise DataError(f"{where}: keypoints: {str(wrong)[:40]!r} is not a usable number")
    if not set(flat[2::3]) <= {0, 1, 2}:
        raise DataError(f"{where}: a visibility is none of 0, 1, 2")
    values = numbers.reshape(-1, 3)
    visibility = values[:, 2].astype(np.int8)
    return values[:, :2] * (visibility > 0)[:, None], visibility


def _box(box: Any, where: str) -> tuple[float, float, float, float] | None:
    """The annotated box, or None if there is none."""
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: 'bbox' needs four numbers, x, y, width and height")
    x, y, width, height = (require_number(v, f"{where}: bbox") for v in box)
    if width < 0 or height < 0:
        raise DataError(f"{where}: 'bbox' has a negative size; it is [x, y, width, height]")
    return x, y, width, height


def _box_of_joints(
    joints: np.ndarray | None, visibility: np.ndarray | None
) -> tuple[float, float, float, float] | None:
    """The bounding box of the labeled joints with a tenth of its size as margin, or None if there are none."""
    if joints is None or visibility is None or not visibility.any():
        return None
    low, high = joints[visibility > 0].min(axis=0), joints[visibility > 0].max(axis=0)
    margin = 0.1 * (high - low) + 1
    x, y = low - margin
    width, height = high - low + 2 * margin
    return float(x), float(y), float(width), float(height)


def _area(value: Any, what: str) -> float:
    area = require_number(value, what)
    if area < 0:
        raise DataError(f"{what} is negative ({area}); leave it out to estimate it from the box")
    return area
