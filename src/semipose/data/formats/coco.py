"""COCO keypoint containers, read into persons over any joint list."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np

from semipose.data.formats.json_files import each, read_json
from semipose.data.formats.values import finite_numbers, is_id, is_number, require_images, require_number
from semipose.errors import DataError, MissingImagesError, collect_errors
from semipose.structures.instances import Instance, Instances, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton, infer_skeleton
from semipose.utils.files import is_file

log = logging.getLogger(__name__)


class Image(TypedDict, total=False):
    """What is read of an image."""

    id: Any
    file_name: Any


class Annotation(TypedDict, total=False):
    """What is read of an annotation."""

    id: Any
    image_id: Any
    category_id: Any
    iscrowd: Any
    bbox: Any
    area: Any
    keypoints: Any
    head_size: Any


class Container(TypedDict, total=False):
    """What is read of a COCO container; other keys, outlines above all, take no memory.

    Images and annotations stay as they are in the file until `each` reads them as `Image` and `Annotation`.
    """

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[dict[str, Any]]


def read_coco(
    annotations: Path | str,
    images: Path | str | None = None,
    *,
    labels: bool = True,
    skeleton: Skeleton | None = None,
    problems: list[str] | None = None,
) -> PoseDataset:
    """Persons of a COCO keypoints file, in the file's order.

    `images` is the image folder (beside the file, in `images/` or a folder of the file's name, when not given).
    Crowds and persons without labeled joints stay in the set, as the COCO protocol counts them; `trainable` leaves
    them out. `labels=False` does not read joints; the category then needs none if `skeleton` is given.
    Raises DataError with file, annotation and remedy; broken annotations are left out instead where `problems` is a
    list to note them in.
    """
    path = Path(annotations)
    content = read_json(path, "annotation file", Container)
    if not isinstance(content, dict):
        raise DataError(f"annotation file {path} is no COCO container; it needs images, annotations and categories")
    lists: dict[str, list] = {}
    for key in ("images", "annotations", "categories"):
        found = content.get(key)
        if not isinstance(found, list) or not all(isinstance(r, dict | msgspec.Raw) for r in found):
            raise _no_list(path, key)
        lists[key] = found
    if not lists["annotations"]:
        raise DataError(f"annotation file {path} has no annotations; label at least one person")
    kept, skeleton = _category(lists["categories"], path, skeleton if not labels else None)
    root = _image_root(path, images)
    files = _files(lists["images"], root, path, problems)
    known = {c.get("id") for c in lists["categories"]}
    found_persons = _persons(lists["annotations"], kept, known, files, skeleton, path, labels, problems)
    persons = Instances.from_instances(found_persons, len(skeleton))
    if not len(persons):
        raise DataError(
            f"annotation file {path} has no person of category {sorted(map(str, kept))[0]}; check category_id"
        )
    require_images(persons.paths, path, problems)
    shown = {identity for identity, _ in persons.images}
    empty = tuple((identity, Path(image)) for identity, image in files.items() if identity not in shown)
    return PoseDataset(skeleton, persons, str(path), empty)


def _no_list(path: Path, key: str) -> DataError:
    return DataError(f"annotation file {path} has no list {key!r}; it needs images, annotations and categories")


def read_image_list(annotations: Path | str, images: Path | str | None, skeleton: Skeleton) -> PoseDataset:
    """The images of a COCO file without annotations (`image_info_test-dev2017.json`), as a set that shows nobody yet.

    Persons come from a detector's boxes. Raises DataError when there is no list of images or its first one is missing.
    """
    path = Path(annotations)
    content = read_json(path, "image list", Container)
    records = content.get("images") if isinstance(content, dict) else None
    if not isinstance(records, list) or not records:
        raise DataError(f"image list {path} has no list 'images'; give COCO's image_info file")
    files = _files(records, _image_root(path, images), path)
    empty = tuple((identity, Path(image)) for identity, image in files.items())
    first = empty[0][1]
    if not is_file(first):
        raise MissingImagesError(first, path)
    return PoseDataset(skeleton, (), str(path), empty)


def _category(categories: list[dict], path: Path, given: Skeleton | None) -> tuple[set, Skeleton]:
    """Category ids to read and their skeleton."""
    if not categories or not all(is_id(c.get("id")) for c in categories):
        raise DataError(f"annotation file {path} needs categories, each with an 'id'")
    with_joints = [c for c in categories if c.get("keypoints")]
    if not with_joints:
        if given is not None:
            return {c.get("id") for c in categories}, given
        raise DataError(
            f"annotation file {path} has no category with 'keypoints'; list the joint names in its category"
        )
    names = with_joints[0]["keypoints"]
    if not isinstance(names, list) or any(c["keypoints"] != names for c in with_joints):
        raise DataError(f"annotation file {path} has categories with different 'keypoints'; keep one joint list a file")
    limbs, pairs = [], with_joints[0].get("skeleton") or []
    if not isinstance(pairs, list):
        raise DataError(f"annotation file {path}: 'skeleton' of the category is no list of pairs of joints")
    for pair in pairs:
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(i, int) and 1 <= i <= len(names) for i in pair)
        ):
            raise DataError(
                f"annotation file {path}: limb {str(pair)[:40]} of the category is no pair of joints 1 … {len(names)}"
            )
        limbs.append((pair[0] - 1, pair[1] - 1))
    return {c.get("id") for c in with_joints}, infer_skeleton(names, limbs, name=path.stem)


def _image_root(path: Path, images: Path | str | None) -> Path:
    if images is not None:
        root = Path(images)
        if not root.is_dir():
            raise DataError(f"image folder {root} is not there; check --images")
        return root
    candidates = (path.parent / "images", path.parent / path.stem, path.parent)
    return next(c for c in candidates if c.is_dir())


def _files(records: list[Any], root: Path, path: Path, problems: list[str] | None = None) -> dict[Any, str]:
    """Paths by image id, as text: a Path takes four times the memory."""
    files: dict[Any, str] = {}
    for number, record in enumerate(each(records, path, Image)):
        if not isinstance(record, dict):
            raise _no_list(path, "images")
        with collect_errors(problems):
            identity, name = record.get("id"), record.get("file_name")
            if not isinstance(identity, int | str) or not isinstance(name, str) or not name:
                raise DataError(f"{path}: image record {number} needs an 'id' and a 'file_name'")
            if identity in files:
                raise DataError(f"{path}: image id {identity} occurs twice; ids must be unique")
            relative = Path(name)
            if relative.is_absolute() or ".." in relative.parts or "\0" in name:
                raise DataError(
                    f"{path}: image {identity}: file_name {name!r} leaves the image folder; make it relative to it"
                )
            files[identity] = str(root / relative)
    return files


def _persons(
    records: list[Any],
    categories: set,
    known: set,
    files: dict[Any, str],
    skeleton: Skeleton,
    path: Path,
    labels: bool,
    problems: list[str] | None,
) -> Iterator[Instance]:
    seen, boxless = set(), 0
    for number, record in enumerate(each(records, path, Annotation)):
        if not isinstance(record, dict):
            raise _no_list(path, "annotations")
        person = None
        identity = record.get("id", number + 1)
        where = f"{path}: annotation {str(identity)[:40]}"
        with collect_errors(problems):
            if not is_id(identity) or isinstance(identity, str) or identity in seen:
                raise DataError(f"{where}: the id is no number or occurs twice; ids must be unique numbers")
            seen.add(identity)
            category = record.get("category_id", next(iter(categories)))
            if not is_id(category) or category not in known:
                raise DataError(f"{where}: no category has the id {str(category)[:40]}; add it to 'categories'")
            if category not in categories:
                continue
            person = _person(record, identity, files, skeleton, where, labels)
            boxless += person is None
        if person is not None:
            yield person
    if boxless:
        log.warning("%s: %d annotations have neither a box nor a labeled joint; left out", path, boxless)


def _person(
    record: dict, identity: int, files: dict[Any, str], skeleton: Skeleton, where: str, labels: bool
) -> Instance | None:
    """One annotation; None where it has neither a box nor a labeled joint."""
    if not is_id(record.get("image_id")) or record["image_id"] not in files:
        raise DataError(f"{where}: no image has the id {str(record.get('image_id'))[:40]}; add it to 'images'")
    joints, visibility = _joints(record, skeleton, where) if labels else (None, None)
    box = _box(record, joints, visibility, where)
    if box is None:
        return None
    area = record.get("area")
    return Instance(
        image=Path(files[record["image_id"]]),
        image_id=record["image_id"],
        annotation_id=identity,
        box=box,
        joints=joints,
        visibility=visibility,
        area=_area(area, f"{where}: area") if area is not None else estimate_area(box),
        is_crowd=bool(record.get("iscrowd", 0)),
        head_size=require_number(record["head_size"], f"{where}: head_size") if record.get("head_size") else None,
    )


def _joints(record: dict, skeleton: Skeleton, where: str) -> tuple[np.ndarray, np.ndarray]:
    flat = record.get("keypoints")
    if not isinstance(flat, list) or len(flat) != 3 * len(skeleton):
        found = len(flat) if isinstance(flat, list) else "none"
        raise DataError(
            f"{where}: needs {3 * len(skeleton)} numbers in 'keypoints' ({len(skeleton)} joints), has {found}"
        )
    usable = finite_numbers(flat, len(flat))
    if usable is None:
        wrong = next(v for v in flat if not is_number(v))
        raise DataError(f"{where}: keypoints: {str(wrong)[:40]!r} is no usable number")
    if not set(flat[2::3]) <= {0, 1, 2}:
        raise DataError(f"{where}: a visibility is none of 0, 1, 2")
    values = usable.reshape(-1, 3)
    visibility = values[:, 2].astype(np.int8)
    return values[:, :2] * (visibility > 0)[:, None], visibility


def _box(
    record: dict, joints: np.ndarray | None, visibility: np.ndarray | None, where: str
) -> tuple[float, float, float, float] | None:
    """The annotated box, else the labeled joints' extent with a tenth of its size as margin, else None."""
    box = record.get("bbox")
    if box is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise DataError(f"{where}: 'bbox' needs four numbers, x, y, width and height")
        what = f"{where}: bbox"
        x, y, width, height = (require_number(v, what) for v in box)
        if width < 0 or height < 0:
            raise DataError(f"{where}: 'bbox' has a negative size; it is [x, y, width, height]")
        return x, y, width, height
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
        raise DataError(f"{what} is negative ({area}); leave it out to take it from the box")
    return area
