"""Person boxes of a detector: COCO detections files, and data sets whose persons are such boxes."""

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.data.formats.json_files import read_json
from semipose.data.formats.values import finite_numbers
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton

log = logging.getLogger(__name__)

ImageId = int | str


@dataclass(frozen=True)
class Detection:
    """One person box of a detector.

    Attributes:
        image: The id, name or stem of the image.
        box: x, y, width and height in pixels.
        score: The detector's score.
    """

    image: ImageId
    box: tuple[float, float, float, float]
    score: float


def read_detections(path: str | os.PathLike[str], problems: list[str] | None = None) -> list[Detection]:
    """Reads the persons (category 1) of a COCO detections file `[{image_id, category_id, bbox, score}]`.

    `file_name` may replace `image_id`.

    Args:
        path: The file.
        problems: Collects one line for each broken record, which is then left out.

    Raises:
        DataError: If the file cannot be used, or a record is broken and `problems` is None.
    """
    records = read_json(Path(path), "detections file")
    if not isinstance(records, list):
        raise DataError(f"detections file {path} is not a list; it needs [{{image_id, category_id, bbox, score}}, …]")
    found = []
    for number, record in enumerate(records):
        with collect_errors(problems):
            detection = _detection(record, f"{path}: detection {number}")
            if detection is not None:
                found.append(detection)
    others = [r["category_id"] for r in records if isinstance(r, dict) and r.get("category_id", 1) != 1]
    if not found and others:
        raise DataError(
            f"detections file {path}: none of its {len(records)} detections is a person, category_id 1 (the first is "
            f"{str(others[0])[:20]!r}); give persons category 1, as in COCO"
        )
    return found


def confident_detections(
    path: str | os.PathLike[str], min_score: float, problems: list[str] | None = None
) -> list[Detection]:
    """Reads the detections of at least `min_score`; raises DataError if all are below it."""
    found = read_detections(path, problems)
    kept = [d for d in found if d.score >= min_score]
    if found and not kept:
        highest = max(d.score for d in found)
        raise DataError(
            f"{path}: all {len(found)} detections score below {min_score:g}, the highest {highest:.2g}; "
            "lower `min_score`"
        )
    if len(kept) < len(found):
        count = len(found) - len(kept)
        log.warning("%s: %d of %d detections score below %g and are left out", path, count, len(found), min_score)
    return kept


def apply_detections(
    persons: PoseDataset, boxes: str | os.PathLike[str], min_score: float = 0.0, problems: list[str] | None = None
) -> PoseDataset:
    """Returns the detected boxes in the images of a data set, without labels, for evaluation with a detector.

    Detections name images by id, file name or stem.

    Args:
        persons: The data set; its own boxes are not used.
        boxes: The detections file.
        min_score: Detections of a lower score are left out.
        problems: Collects broken detections, which are then left out.

    Raises:
        DataError: If no detection is in an image of the data set.
    """
    images = persons.image_paths
    names = {name: image_id for image_id, image in images.items() for name in (image.name, image.stem)}
    index = {name: [image_id] for name, image_id in names.items()} | {image_id: [image_id] for image_id in images}
    detections = confident_detections(boxes, min_score, problems)
    found = _locate(detections, index, images, boxes, persons.source)
    return PoseDataset(persons.skeleton, found, f"{persons.source} with boxes {boxes}", category=persons.category)


def read_detected_persons(
    images: Sequence[Path],
    folder: Path,
    skeleton: Skeleton,
    boxes: str | os.PathLike[str],
    min_score: float = 0.0,
    problems: list[str] | None = None,
) -> PoseDataset:
    """Returns the detected boxes in the images of a folder, without labels.

    Detections name images by the path in the folder, the file name, the stem, or the number that the stem is.

    Args:
        images: The images; their ids count from 1.
        folder: The folder that contains them.
        skeleton: The skeleton of the result.
        boxes: The detections file.
        min_score: Detections of a lower score are left out.
        problems: Collects broken detections, which are then left out.

    Raises:
        DataError: If no detection is in one of the images.
    """
    index: dict[ImageId, list[ImageId]] = defaultdict(list)
    for number, image in enumerate(images, start=1):
        for name in {image.relative_to(folder).as_posix(), image.name, image.stem}:
            index[name].append(number)
        if image.stem.isdigit():
            index[int(image.stem)].append(number)
    detections = confident_detections(boxes, min_score, problems)
    found = _locate(detections, index, dict(enumerate(images, start=1)), boxes, str(folder))
    return PoseDataset(skeleton, found, str(folder))


def _locate(
    detections: Sequence[Detection],
    index: Mapping[ImageId, Sequence[ImageId]],
    images: Mapping[ImageId, Path],
    boxes: str | os.PathLike[str],
    source: str,
) -> list[Instance]:
    """Persons in the images that `index` finds for the detections; those of no or several images are left out."""
    found: list[Instance] = []
    unknown = ambiguous = 0
    for detection in detections:
        ids = index.get(detection.image) or index.get(str(detection.image), ())
        if len(ids) == 1:
            image_id, box = ids[0], detection.box
            area, score = estimate_area(box), detection.score
            found.append(Instance(images[image_id], image_id, -len(found) - 1, box, area=area, score=score))
        elif ids:
            ambiguous += 1
        else:
            unknown += 1
    if not found:
        raise DataError(
            f"{boxes}: none of its {len(detections)} detections is in an image of {source}; image_id must be the id, "
            "the file name or its number"
        )
    if unknown or ambiguous:
        log.warning(
            "%s: %d detections of images outside %s and %d of ambiguous names left out",
            boxes,
            unknown,
            source,
            ambiguous,
        )
    return found


def _detection(record: Any, where: str) -> Detection | None:
    """The detection of a record, or None if it is not a person or has no area."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object with image_id, bbox and score")
    if record.get("category_id", 1) != 1:
        return None
    image = record.get("image_id", record.get("file_name"))
    box, score = record.get("bbox"), record.get("score", 1.0)
    if not isinstance(image, int | str):
        raise DataError(f"{where} needs an 'image_id' or a 'file_name'")
    numbers = finite_numbers([*box, score], 5) if isinstance(box, list) else None
    if numbers is None:
        raise DataError(f"{where} needs a 'bbox' of four finite numbers and a 'score'")
    x, y, width, height, score = numbers.tolist()
    return Detection(image, (x, y, width, height), score) if width > 0 and height > 0 else None
