"""Person boxes of a detector: COCO detections files, and data sets whose persons are such boxes."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from semipose.data.formats.image_names import ImageIndex, ImageReference, id_value, image_id_of
from semipose.data.formats.json_files import read_json_list
from semipose.data.formats.values import finite_numbers
from semipose.errors import DataError, collect_errors
from semipose.structures.categories import PERSON, Category
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton
from semipose.utils.text import plural

log = logging.getLogger(__name__)

BoxCategory = int | str | None
"""The id or the name of a category; None where a detector gives none."""

OTHER_CATEGORY, LOW_SCORE, NO_AREA, OTHER_IMAGE, NO_BOX = (
    "boxes of another category",
    "boxes of a lower score",
    "boxes of no area",
    "boxes in other images",
    "images without a box",
)
OTHER_FRAME = "boxes in frames that were not taken"
"""Reasons for which detections, or images, are left out."""


@dataclass(frozen=True)
class Detection:
    """One person box of a detector.

    Attributes:
        image: How the image is named.
        box: x, y, width and height in pixels.
        score: The detector's score, 1 where it gives none.
        category: The id of its category, or the name where it gives no id.
    """

    image: ImageReference
    box: tuple[float, float, float, float]
    score: float = 1.0
    category: BoxCategory = None


@dataclass(frozen=True)
class BoxSelection:
    """Which detections are used.

    Attributes:
        min_score: Detections of a lower score are left out; percentages are divided by 100 first.
        category: Id or name of the category; None for the persons of the data set or, where no detection has their
            category, for people and, where all have the category 0, for these.
        persons: Ids and names of the persons of the data set.
    """

    min_score: float = 0.0
    category: BoxCategory = None
    persons: tuple[BoxCategory, ...] = PERSON.values


def read_detections(
    path: str | os.PathLike[str], selection: BoxSelection | None = None, problems: list[str] | None = None
) -> tuple[list[Detection], Counter[str]]:
    """Reads the selected boxes of a COCO detections file `[{image_id, category_id, bbox, score}]`.

    `file_name` may replace `image_id`.

    Args:
        path: The file.
        selection: Which detections are used; all persons if not given.
        problems: Collects one line for each broken record, which is then left out.

    Returns:
        The boxes, and by reason the number of boxes that are left out, which warnings state as well.

    Raises:
        DataError: If the file cannot be used, a record is broken and `problems` is None, or nothing is selected.
    """
    path, selection = Path(path), selection or BoxSelection()
    records = read_json_list(path, "detections file", "[{image_id, category_id, bbox, score}, …]")
    wanted = _of_category(records, selection, path)
    left_out = Counter({OTHER_CATEGORY: len(records) - len(wanted)})
    found: list[Detection] = []
    unscored = 0
    for number, record in wanted:
        with collect_errors(problems):
            detection = _detection(record, f"{path}: detection {number}")
            unscored += record.get("score") is None
            if detection.box[2] > 0 and detection.box[3] > 0:
                found.append(detection)
            else:
                left_out[NO_AREA] += 1
    if unscored:
        log.warning("%s: %s without a score: 1 is used", path, plural(unscored, "detection"))
    if flat := left_out[NO_AREA]:
        log.warning("%s: %s with an empty box left out", path, plural(flat, "detection"))
    kept = _confident(_as_fractions(found, path), selection.min_score, path)
    left_out[LOW_SCORE] = len(found) - len(kept)
    return kept, +left_out


def apply_detections(
    persons: PoseDataset,
    boxes: str | os.PathLike[str],
    min_score: float = 0.0,
    problems: list[str] | None = None,
    *,
    box_category: BoxCategory = None,
    is_sample: bool = False,
) -> PoseDataset:
    """Returns the detected boxes in the images of a data set, without labels, for evaluation with a detector.

    Detections name images by id, file name or stem.

    Args:
        persons: The data set; its own boxes are not used.
        boxes: The detections file.
        min_score: Detections of a lower score are left out.
        problems: Collects broken detections, which are then left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        is_sample: Whether the images are frames that were taken from a video, whose other frames have boxes too.

    Raises:
        DataError: If no detection is in an image of the data set.
    """
    selection = BoxSelection(min_score, box_category, persons.category.values)
    own_ids = {_category_value(value): part.id for part in persons.category.members for value in (part.name, part.id)}
    index = ImageIndex.of_dataset(persons)
    found, left_out = _persons(index, Path(boxes), selection, persons.source, problems, own_ids, is_sample=is_sample)
    source = f"{persons.source} with boxes {boxes}"
    return PoseDataset(persons.skeleton, found, source, category=persons.category, left_out=left_out)


def read_detected_persons(
    images: Sequence[Path],
    folder: Path,
    skeleton: Skeleton,
    boxes: str | os.PathLike[str],
    min_score: float = 0.0,
    problems: list[str] | None = None,
    *,
    box_category: BoxCategory = None,
    category: Category = PERSON,
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
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        category: The category of the persons.

    Raises:
        DataError: If no detection is in one of the images.
    """
    selection = BoxSelection(min_score, box_category, category.values)
    found, left_out = _persons(ImageIndex.of_folder(images, folder), Path(boxes), selection, str(folder), problems)
    return PoseDataset(skeleton, found, str(folder), category=category, left_out=left_out)


def _persons(
    index: ImageIndex,
    boxes: Path,
    selection: BoxSelection,
    source: str,
    problems: list[str] | None,
    category_ids: Mapping[BoxCategory, int | str] = MappingProxyType({}),
    *,
    is_sample: bool = False,
) -> tuple[list[Instance], dict[str, int]]:
    """The persons in the images of the selected detections, and by reason the number of what is left out."""
    detections, left_out = read_detections(boxes, selection, problems)
    broken = len(problems or ())
    ids = index.locate([d.image for d in detections], boxes, "detection", source, problems, is_sample=is_sample)
    left_out[OTHER_FRAME if is_sample else OTHER_IMAGE] = ids.count(None) - (len(problems or ()) - broken)
    left_out[NO_BOX] = len(index.paths) - len({*ids} - {None})
    found: list[Instance] = []
    for detection, image_id in zip(detections, ids, strict=True):
        if image_id is not None:
            box, area = detection.box, estimate_area(detection.box)
            path, number = index.paths[image_id], -len(found) - 1
            category = category_ids.get(detection.category)
            found.append(Instance(path, image_id, number, box, area=area, score=detection.score, category_id=category))
    return found, dict(+left_out)


def _of_category(records: list[Any], selection: BoxSelection, path: Path) -> list[tuple[int, Any]]:
    """The records of the selected category with their numbers in the file; those without a category are persons.

    If the file has none of the data set's category, as that of a detector of people, people are taken.
    """
    categories = [_categories(record) for record in records]
    counts = Counter(found[0] for found in categories if found)
    persons = selection.persons
    if selection.category is not None:
        wanted = {_category_value(selection.category)}
    elif set(counts) == {0}:
        wanted = {0}
    else:
        present = {value for found in categories for value in found}
        if present.isdisjoint(map(_category_value, persons)) and not present.isdisjoint(PERSON.values):
            log.info("%s: no detection is of category %s: those of people are used", path, _names(persons))
            persons = PERSON.values
        wanted = set(map(_category_value, persons))
    chosen = [not found or not wanted.isdisjoint(found) for found in categories]
    left_out = Counter(found[0] for found, is_chosen in zip(categories, chosen, strict=True) if not is_chosen)
    if left_out:
        listed = ", ".join(f"{count} of category {category}" for category, count in left_out.most_common(5))
        more = f", … ({len(left_out)} categories)" if len(left_out) > 5 else ""
        name = selection.category if selection.category is not None else _names(persons)
        if not any(chosen):
            raise DataError(
                f"detections file {path}: no detection is of category {name}, but {listed}{more}; choose the category "
                "with `box_category`"
            )
        hint = "; ids that begin with 0 need `box_category=0`" if 0 in left_out and selection.category is None else ""
        log.warning(
            "%s: %d detections of category %s are used; left out: %s%s%s", path, sum(chosen), name, listed, more, hint
        )
    return [(n, record) for n, (record, is_chosen) in enumerate(zip(records, chosen, strict=True)) if is_chosen]


def _names(persons: tuple[BoxCategory, ...]) -> str:
    return " or ".join(map(str, persons))


def _categories(record: Any) -> list[BoxCategory]:
    """The id and the name of the category of a record, as far as they are given."""
    if not isinstance(record, dict):
        return []
    given = [record.get(key) for key in ("category_id", "category_name", "category")]
    return [_category_value(value) for value in map(image_id_of, given) if value is not None]


def _category_value(category: BoxCategory) -> BoxCategory:
    """What categories are compared by: 1, "1" and 1.0 are equal, and so are "person" and "Person"."""
    value = None if category is None else id_value(category)
    return value.casefold() if isinstance(value, str) else value


def _as_fractions(found: list[Detection], path: Path) -> list[Detection]:
    """The detections, with percentages divided by 100: scores from 0 to 100 of which most exceed 1."""
    above = sum(d.score > 1.001 for d in found)
    if not above:
        return found
    if 2 * above > len(found) and all(0 <= d.score <= 100 for d in found):
        log.warning("%s: the scores reach %g and are divided by 100", path, max(d.score for d in found))
        return [replace(d, score=d.score / 100) for d in found]
    log.warning("%s: scores of %d of %d detections exceed 1; used as they are", path, above, len(found))
    return found


def _confident(found: list[Detection], min_score: float, path: Path) -> list[Detection]:
    """The detections of at least `min_score`; raises DataError if all are below it."""
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


def _detection(record: Any, where: str) -> Detection:
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object with image_id, bbox and score")
    image = ImageReference.of(record)
    if image is None:
        raise DataError(f"{where} needs an 'image_id' or a 'file_name'")
    box, score = record.get("bbox"), record.get("score")
    numbers = finite_numbers([*box, 1.0 if score is None else score], 5) if isinstance(box, list) else None
    if numbers is None:
        raise DataError(f"{where} needs a 'bbox' of four finite numbers and a 'score'")
    x, y, width, height, value = numbers.tolist()
    return Detection(image, (x, y, width, height), value, next(iter(_categories(record)), None))
