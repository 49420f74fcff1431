"""COCO keypoint annotations."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice, read_categories
from semipose.data.formats.image_files import ImageFolder, require_images
from semipose.data.formats.image_names import ImageId, id_value, image_id_of, spellings
from semipose.data.formats.json_files import is_json_object, iterate_records, read_json
from semipose.data.formats.values import (
    NO_BOX,
    box_of_joints,
    finite_numbers,
    is_id,
    is_number,
    require_number,
)
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, Instances, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton
from semipose.utils.files import is_file
from semipose.utils.text import plural

log = logging.getLogger(__name__)

CROWD_FLAGS: dict[Any, bool] = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True, None: False}
"""The meaning of the values of `iscrowd` (booleans equal 0 and 1); text is compared in lower case."""
FIRST_IMAGES = 10
"""Number of images by whose names the image folder is found."""


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
    individual: Any
    box_from_labels: Any


class Container(TypedDict, total=False):
    """The keys of the file that are read; other keys, above all segmentations, take no memory.

    Images and annotations stay encoded until `iterate_records` decodes them as `Image` and `Annotation`.
    """

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[dict[str, Any]]
    image_folder: Any
    pre_labels: Any


class CocoFormat(Format):
    """A JSON object with images, annotations and categories."""

    def matches(self, path: Path) -> bool:
        """Returns whether a file is a JSON object."""
        return is_json_object(path)

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of a COCO file, as `Format.read` describes."""
        return read_coco(path, images, problems=problems, category=category)

    def read_boxes(
        self,
        path: Path,
        images: Path | None,
        problems: list[str] | None,
        skeleton: Skeleton | None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of a COCO file without their joints, which may be missing or broken."""
        return read_coco(path, images, labels=False, skeleton=skeleton, problems=problems, category=category)


def read_coco(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    labels: bool = True,
    skeleton: Skeleton | None = None,
    problems: list[str] | None = None,
    category: CategoryChoice = ANY_CATEGORY,
) -> PoseDataset:
    """Reads the persons of a COCO keypoints file.

    Crowds and persons without labeled joints stay in the data set, because the COCO evaluation uses them.

    Args:
        path: The annotation file.
        images: The image folder; None for `images/`, a folder with the name of the file, the folder of the file or the
            one that `write_coco` noted: the one that has most of the first images, the first of these if none has.
        labels: Whether joints are read.
        skeleton: The skeleton of a file without joint names, used if `labels` is False.
        problems: Collects one line for each broken record, which is then left out.
        category: The category that is read where the file has several.

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
    if labels and content.get("pre_labels"):
        log.warning(
            f"{path} holds predictions that suggest wrote as pre-labels: correct them first; if that is done, remove "
            "the key 'pre_labels'"
        )
    read = read_categories(
        categories, path, None if labels else skeleton, category, lambda: _category_ids(records, path)
    )
    skeleton = read.skeleton
    root = _image_root(path, images, image_records, content.get("image_folder"))
    files = _image_files(image_records, root, path, problems)
    reader = _Reader(path, skeleton, read.ids, {c.get("id") for c in categories}, files, labels)
    persons = Instances.from_instances(reader.persons(records, problems), len(skeleton))
    if any(reader.by_value):
        log.info(
            "%s: %d annotations have text for a number as 'image_id', or the reverse; matched by value",
            *(path, sum(reader.by_value)),
        )
    if not len(persons):
        raise _no_persons(path, reader, len(records), problems)
    reader.log_estimates()
    require_images(persons.paths, path, problems)
    used = {image_id for image_id, _ in persons.images} | reader.unknown
    empty_images = tuple((image_id, Path(image)) for image_id, image in files.items() if image_id not in used)
    return PoseDataset(skeleton, persons, str(path), empty_images, read.category, dict(reader.left_out))


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
    files = _image_files(records, _image_root(path, images, records, content.get("image_folder")), path)
    require_images(list(files.values()), path)
    return PoseDataset(skeleton, (), str(path), tuple((image_id, Path(image)) for image_id, image in files.items()))


def _no_persons(path: Path, reader: "_Reader", count: int, problems: list[str] | None) -> DataError:
    if problems:
        return DataError(f"none of the {count} annotations in {path} can be used")
    if reader.left_out[NO_BOX]:
        return DataError(
            f"annotation file {path} has no usable person: {plural(reader.left_out[NO_BOX], 'annotation')} {NO_BOX}; "
            "add a 'bbox' to each"
        )
    category = sorted(map(str, reader.category_ids))[0]
    return DataError(f"annotation file {path} has no person of category {category}; check category_id")


def _list(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(record, dict | msgspec.Raw) for record in found):
        raise _missing_list(path, key)
    return found


def _category_ids(records: list[Any], path: Path) -> set[Any]:
    ids = (r.get("category_id") for r in iterate_records(records, path, Annotation) if isinstance(r, dict))
    return {category_id for category_id in ids if is_id(category_id)}


def _missing_list(path: Path, key: str) -> DataError:
    return DataError(
        f"annotation file {path} has no list of objects {key!r}; it needs images, annotations and categories"
    )


def _image_root(path: Path, images: str | os.PathLike[str] | None, records: list[Any], written: Any) -> Path:
    """The image folder: the given one, else the one that has most of the first images under their exact names."""
    if images is not None:
        root = Path(images)
        if not root.is_dir():
            raise DataError(f"`images`: folder {root} does not exist")
        return root
    first = [r.get("file_name") for r in iterate_records(records[:FIRST_IMAGES], path, Image) if isinstance(r, dict)]
    names = [spellings(name) for name in first if isinstance(name, str)]
    candidates = [path.parent / "images", path.parent / path.stem, path.parent]
    if isinstance(written, str) and "\0" not in written:
        candidates.append(Path(os.path.normpath(path.parent / written)))
    candidates = [folder for folder in candidates if folder.is_dir()]
    return max(candidates, key=lambda c: sum(any(is_file(c.joinpath(*parts)) for parts in name) for name in names))


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
    """Reads annotations of the categories `category_ids`, one at a time.

    What is left out is counted in `left_out` by reason, what is estimated in `estimated` (`box`, `area`). `unknown` are
    the images of persons that are left out: a prediction there is no false positive.
    """

    path: Path
    skeleton: Skeleton
    category_ids: frozenset[Any]
    known_categories: set[Any]
    files: dict[Any, str]
    labels: bool
    left_out: Counter[str] = field(default_factory=Counter)
    estimated: Counter[str] = field(default_factory=Counter)
    unknown: set[Any] = field(default_factory=set)
    by_value: list[bool] = field(default_factory=list)

    def persons(self, records: list[Any], problems: list[str] | None) -> Iterator[Instance]:
        ids: set[Any] = set()
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
                    self.left_out["of another category"] += 1
                    continue
                person = self._person(record, annotation_id, where)
                if person is None:
                    self.left_out[NO_BOX] += 1
            if person is not None:
                yield person
            elif (image_id := self._find_image(record.get("image_id"))) is not None:
                self.unknown.add(image_id)
        if self.left_out[NO_BOX]:
            log.warning("%s: %s %s; left out", self.path, plural(self.left_out[NO_BOX], "annotation"), NO_BOX)

    def log_estimates(self) -> None:
        """Logs how many boxes and areas the file lacks or gives as 0."""
        for what, instead in (("box", "the extent of the labeled joints"), ("area", "an estimate from the box")):
            if count := self.estimated[what]:
                persons = plural(count, "person")
                log.warning("%s: %s of %s missing or 0: %s is used", self.path, what, persons, instead)

    def _is_person(self, record: dict[str, Any], where: str) -> bool:
        category = record.get("category_id", next(iter(self.category_ids)))
        if not is_id(category) or category not in self.known_categories:
            raise DataError(f"{where}: no category has the id {str(category)[:40]}; add it to 'categories'")
        return category in self.category_ids

    def _find_image(self, value: Any) -> ImageId | None:
        """The id in `files` that equals a value, be it as text for a number or the reverse; None if there is none."""
        image_id = image_id_of(value)
        return image_id if image_id is None or image_id in self.files else self._ids_by_value.get(id_value(image_id))

    def _image_id(self, value: Any, where: str) -> ImageId:
        image_id = self._find_image(value)
        if image_id is None:
            raise DataError(f"{where}: no image has the id {str(value)[:40]}; add it to 'images'")
        if image_id != value:
            self.by_value.append(True)
        return image_id

    @cached_property
    def _ids_by_value(self) -> dict[ImageId, ImageId]:
        return {id_value(image_id): image_id for image_id in self.files}

    def _person(self, record: dict[str, Any], annotation_id: int, where: str) -> Instance | None:
        """The person of a record, or None if it has neither a box nor two labeled joints that could make one."""
        image_id = self._image_id(record.get("image_id"), where)
        joints, visibility = _joints(record, self.skeleton, where) if self.labels else (None, None)
        box, head_size = _box(record.get("bbox"), where), record.get("head_size")
        area, is_crowd = _area(record.get("area"), f"{where}: area"), _is_crowd(record.get("iscrowd"), where)
        estimated = None
        if visibility is not None and joints is not None and not (box and box[2] * box[3] > 0):
            estimated = box_of_joints(joints, visibility > 0)
            is_point = box is not None and not (box[2] or box[3] or area) and visibility.any()
            box = estimated or (None if is_point else box)
        if box is None:
            return None
        self.estimated["box"] += estimated is not None
        self.estimated["area"] += self.labels and area == 0 and box[2] * box[3] > 0
        return Instance(
            image=Path(self.files[image_id]),
            image_id=image_id,
            annotation_id=annotation_id,
            box=box,
            joints=joints,
            visibility=visibility,
            area=area or estimate_area(box),
            is_crowd=is_crowd,
            head_size=require_number(head_size, f"{where}: head_size") if head_size else None,
            box_from_labels=estimated is not None or record.get("box_from_labels") is True,
            category_id=record.get("category_id") if len(self.category_ids) > 1 else None,
            individual=individual if isinstance(individual := record.get("individual"), str) else None,
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


def _is_crowd(value: Any, where: str) -> bool:
    key = value.lower() if isinstance(value, str) else value
    if not isinstance(key, int | float | str | None) or key not in CROWD_FLAGS:
        raise DataError(f"{where}: 'iscrowd' is {str(value)[:40]!r}; it is 0 or 1")
    return CROWD_FLAGS[key]


def _area(value: Any, what: str) -> float | None:
    if value is None:
        return None
    area = require_number(value, what)
    if area < 0:
        raise DataError(f"{what} is negative ({area}); leave it out to estimate it from the box")
    return area
