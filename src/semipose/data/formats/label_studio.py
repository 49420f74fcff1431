"""Label Studio's key points in its JSON export."""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice, single_category
from semipose.data.formats.image_files import ImageFolder, require_images
from semipose.data.formats.image_folder import IMAGE_SUFFIXES
from semipose.data.formats.image_names import spellings
from semipose.data.formats.json_files import first_record, read_json
from semipose.data.formats.values import NO_BOX, is_number
from semipose.data.formats.whole_frames import NO_AREA, dataset_without_boxes, with_extents
from semipose.data.orientation import Orientation
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import infer_skeleton
from semipose.utils.text import plural

log = logging.getLogger(__name__)

POINTS, BOXES = "keypointlabels", "rectanglelabels"
HALF_PIXEL = 0.5
"""The center of the first pixel in Label Studio, which measures from the edge of the image; joints are 0 there."""
OTHER_ANNOTATION = "of earlier annotations of the same task"


class LabelStudioFormat(Format):
    """A list of tasks with key points, and rectangles as boxes.

    Key points belong to the rectangle that is their parent region or related to them, else to the only rectangle of the
    image. Without rectangles an image shows one animal, with the box of `dataset_without_boxes`, or the extent of its
    joints if other images have rectangles. Of several annotations of a task the last one that was not cancelled is
    read. Image ids are those of the tasks; where ids repeat, as in exports joined to one file, they count from 1.
    """

    is_upright = True

    def matches(self, path: Path) -> bool:
        """Returns whether a file is a list of tasks with annotations."""
        return {"annotations", "data"} <= first_record(path).keys()

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the animals of a Label Studio export, as `Format.read` describes."""
        tasks = read_json(path, "Label Studio export")
        left_out: Counter[str] = Counter()
        results = [(number, task, _result(task, left_out)) for number, task in enumerate(tasks, start=1)]
        joints = dict.fromkeys(name for *_, result in results for r in result or () for name in _names(r, POINTS))
        if not joints:
            raise DataError(f"Label Studio export {path} has no key points ({POINTS}); label some first")
        folder = ImageFolder(images or next(f for f in (path.parent / "images", path.parent) if f.is_dir()))
        ids = _image_ids(tasks, path)
        animals: list[Instance] = []
        empty_images: list[tuple[int | str, Path]] = []
        for number, task, result in results:
            if result is None:
                left_out["in tasks without an annotation"] += 1
                continue
            with collect_errors(problems):
                where = f"{path}: task {task.get('id', number)}"
                image, image_id = folder.find(_image_name(task, where), where), ids[number - 1]
                upright = list(_animals(result, list(joints), where))
                orientation = _orientation(image, result, where)
                found = [_stored(animal, orientation) for animal in upright]
                if not found:
                    empty_images.append((image_id, image))
                first = len(animals) + 1
                animals += [
                    replace(a, image=image, image_id=image_id, annotation_id=first + n) for n, a in enumerate(found)
                ]
        folder.report(path)
        skeleton, counts = infer_skeleton(list(joints), name=path.stem), {k: v for k, v in left_out.items() if v}
        if not any(_has_area(animal) for animal in animals):
            own = single_category(None, skeleton, category)
            return dataset_without_boxes(skeleton, own, animals, path, problems, tuple(empty_images), counts)
        require_images([str(animal.image) for animal in animals], path, problems)
        boxed = [found for a in animals for found in ([a] if _has_area(a) else with_extents([a]))]
        if estimated := sum(animal.box_from_labels for animal in boxed):
            log.warning(
                "%s: %s without a rectangle: its box is the extent of the joints", path, plural(estimated, "animal")
            )
        counts |= {NO_BOX: len(animals) - len(boxed)} if len(boxed) < len(animals) else {}
        labels = {name for *_, result in results for r in result or () for name in _names(r, BOXES)}
        own = single_category(labels.pop() if len(labels) == 1 else None, skeleton, category)
        return PoseDataset(skeleton, boxed, str(path), tuple(empty_images), own, counts)


def _image_ids(tasks: Sequence[Any], path: Path) -> list[int | str]:
    """The id of each task, its position if it has none; the positions of all if ids repeat."""
    positions: list[int | str] = [*range(1, len(tasks) + 1)]
    ids = [task.get("id", n) if isinstance(task, dict) else n for n, task in zip(positions, tasks, strict=True)]
    if len({*map(str, ids)}) == len(ids):
        return ids
    log.warning("%s: several tasks have one id; image ids are the positions of the tasks instead", path)
    return positions


def _has_area(animal: Instance) -> bool:
    return animal.box[2] > 0 and animal.box[3] > 0


def _result(task: Any, left_out: Counter[str]) -> list[dict[str, Any]] | None:
    """The regions of the last annotation of a task that was not cancelled; None if it has no annotation."""
    given = task.get("annotations") if isinstance(task, dict) else None
    done = [a for a in given or () if isinstance(a, dict) and not a.get("was_cancelled")]
    if not done:
        return None
    left_out[OTHER_ANNOTATION] += len(done) - 1
    result = done[-1].get("result")
    return [r for r in result if isinstance(r, dict)] if isinstance(result, list) else []


def _names(region: dict[str, Any], kind: str) -> list[str]:
    """The labels of a region of a kind, none for a region of another kind."""
    value = region.get("value")
    names = value.get(kind) if region.get("type") == kind and isinstance(value, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _image_name(task: dict[str, Any], where: str) -> str:
    """The value of a task's data that names an image."""
    data = task.get("data")
    for value in data.values() if isinstance(data, dict) else ():
        if isinstance(value, str) and any(
            parts and parts[-1].lower().endswith(tuple(IMAGE_SUFFIXES)) for parts in spellings(value)
        ):
            return value
    raise DataError(f"{where}: no value of 'data' is the name of an image")


def _animals(result: Sequence[dict[str, Any]], joints: Sequence[str], where: str) -> Iterator[Instance]:
    """The animals of an image, without image and ids: one for each rectangle, else one for all key points."""
    boxes = {str(r.get("id")): r for r in result if _names(r, BOXES)}
    owner = {
        str(source): str(target)
        for r in result
        if r.get("type") == "relation"
        for source, target in ((r.get("from_id"), r.get("to_id")), (r.get("to_id"), r.get("from_id")))
        if str(target) in boxes
    }
    members: dict[str | None, list[dict[str, Any]]] = {box: [] for box in boxes} or {None: []}
    for region in result:
        if _names(region, POINTS):
            key = (
                str(region.get("parentID"))
                if str(region.get("parentID")) in boxes
                else owner.get(str(region.get("id")))
            )
            if key is None and len(members) > 1:
                raise DataError(f"{where}: a key point belongs to none of {len(members)} rectangles; relate it to one")
            members[next(iter(members)) if key is None else key].append(region)
    for box, regions in members.items():
        if regions or box is not None:
            yield _animal(None if box is None else boxes[box], regions, joints, where)


def _animal(
    box: dict[str, Any] | None, regions: Sequence[dict[str, Any]], joints: Sequence[str], where: str
) -> Instance:
    points, visibility = np.zeros((len(joints), 2)), np.zeros(len(joints), np.int8)
    for region in regions:
        index = joints.index(_names(region, POINTS)[0])
        if visibility[index]:
            raise DataError(f"{where}: {joints[index]!r} is labeled twice; draw a rectangle around each animal")
        points[index], visibility[index] = _pixels(region, ("x", "y"), where), 2
    rectangle = NO_AREA if box is None else _extent(box, where)
    return Instance(Path(), 0, 0, rectangle, points, visibility, area=estimate_area(rectangle))


def _extent(box: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    """The extent of a rectangle that is turned clockwise around its top left corner, by `rotation` degrees."""
    x, y, width, height = _pixels(box, ("x", "y", "width", "height"), where)
    rotation = box["value"].get("rotation") or 0
    if not is_number(rotation):
        raise DataError(f"{where}: the rotation {str(rotation)[:40]!r} of a rectangle is no number of degrees")
    if not rotation:
        return x, y, width, height
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ [[cos, sin], [-sin, cos]]
    (left, top), (width, height) = corners.min(axis=0).tolist(), np.ptp(corners, axis=0).tolist()
    return x + left, y + top, width, height


def _orientation(image: Path, result: Sequence[dict[str, Any]], where: str) -> Orientation:
    """The orientation of an image; none if it can't be read, or was labeled in a browser that did not rotate it."""
    found = Orientation.of(image) or Orientation((0, 0))
    for region in result:
        size = (region.get("original_width"), region.get("original_height"))
        if not any(found.size) or not (_names(region, POINTS) or _names(region, BOXES)) or size == found.upright_size:
            continue
        if size != found.size:
            own, labeled = ("{}×{}".format(*pixels) for pixels in (found.size, size))
            raise DataError(f"{where}: {image} has {own} pixels, but was labeled with {labeled}; use that file")
        found = Orientation(found.size)
    return found


def _stored(animal: Instance, orientation: Orientation) -> Instance:
    """The animal in the stored image, with joints that are 0 at the center of the first pixel."""
    assert animal.joints is not None and animal.visibility is not None
    joints = (orientation.to_stored(animal.joints) - HALF_PIXEL) * (animal.visibility > 0)[:, None]
    return replace(animal, joints=joints, box=orientation.box_to_stored(animal.box) if _has_area(animal) else NO_AREA)


def _pixels(region: dict[str, Any], keys: Sequence[str], where: str) -> list[float]:
    """Numbers of a region, which are percent of the image, in pixels."""
    value, sizes = region["value"], (region.get("original_width"), region.get("original_height"))
    numbers = [value.get(key) for key in keys]
    if not all(is_number(number) for number in (*numbers, *sizes)):
        raise DataError(f"{where}: a region needs numbers {', '.join(keys)}, original_width and original_height")
    return [number * sizes[n % 2] / 100 for n, number in enumerate(numbers)]
