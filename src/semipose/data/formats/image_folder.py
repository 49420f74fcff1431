"""Folders of unlabeled images, with person boxes from a detections file or each image as one person."""

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from semipose.data.formats.json_files import read_json
from semipose.data.formats.values import finite_numbers
from semipose.data.images import has_exif_orientation
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton
from semipose.utils.text import plural

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
"""Image files that are looked at."""
OTHERS = {
    *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
    *(".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl"),
    *(".dng", ".raw", ".cr2", ".nef", ".arw"),
}
"""Images and videos that are not: left out of a folder, and told."""


@dataclass(frozen=True)
class Detection:
    """One person box [x, y, width, height] of a detector, in the image that `image` names (id, name or stem)."""

    image: int | str
    box: tuple[float, float, float, float]
    score: float


def list_images(folder: Path) -> list[Path]:
    """Image files below `folder`, sorted; DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"image folder {folder} is not there; check the path")
    everything = [p for p in folder.rglob("*") if p.is_file()]
    found = sorted(p for p in everything if p.suffix.lower() in SUFFIXES)
    others = [p for p in everything if p.suffix.lower() in OTHERS]
    if others:
        log.warning(
            "%s: %s of other kinds left out, the first is %s; save images as JPEG or PNG, take videos apart with "
            "semipose data frames",
            folder,
            plural(len(others), "file"),
            others[0].name,
        )
    if not found:
        raise DataError(f"image folder {folder} has no image ({', '.join(sorted(SUFFIXES))})")
    return found


def read_folder(
    folder: Path | str,
    skeleton: Skeleton,
    *,
    boxes: Path | None = None,
    min_score: float = 0.0,
    problems: list[str] | None = None,
) -> PoseDataset:
    """Persons without labels in the images below `folder`.

    Without `boxes` each whole image is one person; with a COCO detections file each detection of at least `min_score`.
    Images that can't be opened are left out with a warning; where `problems` is a list they are noted there, and so
    are broken detections. Raises DataError when nothing is left.
    """
    images = list_images(Path(folder))
    if boxes is None:
        return whole_images(images, skeleton, str(folder), problems)
    by_name: dict[int | str, list[int]] = defaultdict(list)
    root = Path(folder)
    for number, image in enumerate(images):
        for name in {image.relative_to(root).as_posix(), image.name, image.stem}:
            by_name[name].append(number)
        if image.stem.isdigit():
            by_name[int(image.stem)].append(number)
    persons: list[Instance] = []
    unknown = ambiguous = 0
    detections = confident_detections(boxes, min_score, problems)
    for detection in detections:
        where = by_name.get(detection.image, [])
        if len(where) != 1:
            unknown, ambiguous = unknown + (not where), ambiguous + (len(where) > 1)
            continue
        persons.append(_person(images[where[0]], where[0] + 1, -len(persons) - 1, detection))
    if not persons:
        raise DataError(
            f"{boxes}: none of its {len(detections)} detections of score {min_score} or more lies in an image "
            f"of {folder}; image_id must be a file name or its number"
        )
    if unknown or ambiguous:
        log.warning("%s: %d detections of unknown images and %d of ambiguous names left out", boxes, unknown, ambiguous)
    return PoseDataset(skeleton, persons, str(folder))


def whole_images(images: list[Path], skeleton: Skeleton, source: str, problems: list[str] | None = None) -> PoseDataset:
    """Each image as the box of one person; unreadable ones are left out with a warning, or noted in `problems`."""
    persons, broken, turned = [], [], []
    for number, path in enumerate(images, start=1):
        try:
            with Image.open(path) as image:
                width, height = image.size
                turned += [path] if has_exif_orientation(image) else []
        except Exception:
            broken.append(path)
            continue
        box = (0.0, 0.0, float(width), float(height))
        persons.append(Instance(path, number, -number, box, area=estimate_area(box)))
    if problems is not None:
        problems += [f"image {path} can't be opened; it may be truncated or mislabeled" for path in broken]
    elif broken:
        log.warning(
            "%s: %d of %d images can't be opened and are left out, the first is %s",
            source,
            len(broken),
            len(images),
            broken[0],
        )
    if turned:
        log.warning(
            "%s: %d of %d images are stored turned (EXIF orientation) and are taken as stored, the first is %s; "
            "save them upright, for example with mogrify -auto-orient",
            source,
            len(turned),
            len(images),
            turned[0],
        )
    if not persons:
        raise DataError(
            f"{source}: none of its {len(images)} images can be opened; they may be truncated or mislabeled"
        )
    return PoseDataset(skeleton, persons, source)


def read_detections(path: Path | str, problems: list[str] | None = None) -> list[Detection]:
    """A COCO detections file `[{image_id, category_id, bbox, score}]`; persons (category 1) only.

    `file_name` may stand for `image_id`. Raises DataError with the record's number; broken records are left out instead
    where `problems` is a list to note them in.
    """
    content = read_json(Path(path), "detections file")
    if not isinstance(content, list):
        raise DataError(f"detections file {path} is no list; it needs [{{image_id, category_id, bbox, score}}, …]")
    found = []
    for number, record in enumerate(content):
        with collect_errors(problems):
            detection = _detection(record, f"{path}: detection {number}")
            if detection is not None:
                found.append(detection)
    others = [r["category_id"] for r in content if isinstance(r, dict) and r.get("category_id", 1) != 1]
    if not found and others:
        raise DataError(
            f"detections file {path}: none of its {len(content)} detections is a person, category_id 1 (the first is "
            f"{str(others[0])[:20]!r}); number persons 1, as COCO does"
        )
    return found


def _detection(record: Any, where: str) -> Detection | None:
    """One record; None for what is no person or has no area."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is no object with image_id, bbox and score")
    if record.get("category_id", 1) != 1:
        return None
    image = record.get("image_id", record.get("file_name"))
    box, score = record.get("bbox"), record.get("score", 1.0)
    if not isinstance(image, int | str):
        raise DataError(f"{where} needs an 'image_id' or a 'file_name'")
    numbers = finite_numbers([*box, score], 5) if isinstance(box, list) and len(box) == 4 else None
    if numbers is None:
        raise DataError(f"{where} needs a 'bbox' of four finite numbers and a 'score'")
    x, y, width, height = numbers[:4].tolist()
    return Detection(image, (x, y, width, height), float(numbers[4])) if width > 0 and height > 0 else None


def confident_detections(path: Path | str, least: float, problems: list[str] | None = None) -> list[Detection]:
    """The detections of a file with at least this score. Raises DataError when all are below it."""
    found = read_detections(path, problems)
    kept = [d for d in found if d.score >= least]
    if kept and len(kept) < len(found):
        log.warning(
            "%s: %d of %d detections score below %g and are left out", path, len(found) - len(kept), len(found), least
        )
    if found and not kept:
        highest = max(d.score for d in found)
        raise DataError(
            f"{path}: all {len(found)} detections score below {least:g}, the highest {highest:.2g}; ask less"
        )
    return kept


def apply_detections(
    persons: PoseDataset, boxes: Path | str, min_score: float = 0.0, problems: list[str] | None = None
) -> PoseDataset:
    """The set's images with detected boxes in place of annotated ones (evaluation with a detector); no labels.

    Raises DataError when no detection lies in an image of the set; broken ones are noted where `problems` is a list.
    """
    images = persons.image_paths
    names = {name: identity for identity, image in images.items() for name in (image.name, image.stem)}
    found: list[Instance] = []
    unknown = 0
    for detection in confident_detections(boxes, min_score, problems):
        identity = detection.image if detection.image in images else names.get(str(detection.image))
        if identity is None:
            unknown += 1
        else:
            found.append(_person(images[identity], identity, -len(found) - 1, detection))
    if unknown:
        log.warning("%s: %d detections of images outside %s left out", boxes, unknown, persons.source)
    if not found:
        raise DataError(f"{boxes}: no detection of score {min_score} or more lies in an image of {persons.source}")
    return PoseDataset(persons.skeleton, found, f"{persons.source} with boxes {boxes}")


def _person(image: Path, image_id: int | str, number: int, detection: Detection) -> Instance:
    return Instance(image, image_id, number, detection.box, area=estimate_area(detection.box), score=detection.score)
