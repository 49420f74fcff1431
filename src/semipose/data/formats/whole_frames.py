"""The boxes of animals in formats that have none: the whole frame, or the extent of the joints."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from semipose.data.formats.image_files import require_images
from semipose.data.formats.values import NO_BOX, box_of_joints
from semipose.data.images import image_size
from semipose.errors import ConfigError, DataError, collect_errors
from semipose.structures.boxes import AUTO, SMALL, pose_length
from semipose.structures.categories import Category
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton
from semipose.utils.text import plural

log = logging.getLogger(__name__)

NO_AREA = (0.0, 0.0, 0.0, 0.0)
"""The box of an instance before it gets one."""


def dataset_without_boxes(
    skeleton: Skeleton,
    category: Category,
    instances: Iterable[Instance],
    source: Path,
    problems: list[str] | None = None,
    empty_images: tuple[tuple[int | str, Path], ...] = (),
    left_out: dict[str, int] | None = None,
) -> PoseDataset:
    """Returns a data set whose instances get boxes, and areas that follow from the extent of their joints.

    The box is the whole frame if no image shows more than one animal. Otherwise a frame cannot say which animal is
    meant, and the box is the extent of the labeled joints; an animal with less than two of them is left out.

    Args:
        skeleton: The joints.
        category: The category of the animals.
        instances: The animals, whose boxes are ignored.
        source: The file or folder, for messages.
        problems: Collects images that are missing or can't be opened, whose animals are then left out.
        empty_images: As in `PoseDataset`.
        left_out: As in `PoseDataset`.

    Raises:
        DataError: If no animal is left, or an image can't be opened and `problems` is None.
    """
    animals = list(instances)
    if not animals:
        raise DataError(f"{source} has no labeled image; label some first")
    require_images([str(animal.image) for animal in animals], source, problems)
    alone = max(Counter(animal.image_id for animal in animals).values()) == 1
    boxed = list(_whole_frames(animals, problems) if alone else with_extents(animals))
    counts = {**(left_out or {}), **({} if alone else {NO_BOX: len(animals) - len(boxed)})}
    box = "the whole frame" if alone else "the extent of the labeled joints, because frames show several animals"
    if not boxed:
        raise DataError(f"{source} has no usable animal: {plural(len(animals), 'record')} can't be used")
    kept = {reason: count for reason, count in counts.items() if count}
    persons = PoseDataset(skeleton, boxed, str(source), empty_images, category, kept)
    length, side = pose_length(persons), float(np.median(persons.instances.boxes[:, 2:].max(axis=1)))
    if alone and length < SMALL * side:
        box += f", where poses are small ({length:.0f} of {side:.0f} px): train with `boxes={AUTO}`, which finds boxes"
    log.info("%s has no boxes: the box of each animal is %s", source, box)
    return persons


def with_whole_images(persons: PoseDataset, sizes: Mapping[Path, Sequence[float]]) -> PoseDataset:
    """Returns the persons with their whole image as box.

    Args:
        persons: The persons.
        sizes: Width and height of each image, first and second; persons in other images keep their box.
    """
    found = zip(persons.instances.paths, persons.instances.boxes.tolist(), strict=True)
    known = [(0.0, 0.0, *size[:2]) if (size := sizes.get(Path(path))) else box for path, box in found]
    return persons.with_boxes(np.array(known, dtype=float).reshape(-1, 4))


def one_in_each_image(persons: PoseDataset) -> PoseDataset:
    """Returns the first person of each image."""
    first = {path: n for n, path in reversed(list(enumerate(persons.instances.paths)))}
    return replace(persons.subset(sorted(first.values())), left_out=persons.left_out)


def images_with_several(persons: PoseDataset) -> list[str]:
    """Returns the paths of the images that show several labeled persons."""
    labeled = persons.instances.take(np.flatnonzero(persons.instances.labeled & ~persons.instances.is_crowd))
    return [path for path, count in Counter(labeled.paths).items() if count > 1]


def require_one_subject(persons: PoseDataset, boxes: str, remedy: str) -> None:
    """Checks that no image shows several labeled persons, which one box an image can't tell apart.

    Args:
        persons: The persons.
        boxes: The word in place of their boxes, for the message.
        remedy: What to do instead.

    Raises:
        ConfigError: If an image does.
    """
    if several := images_with_several(persons):
        raise ConfigError(
            f"`boxes={boxes}` is one box an image, but {plural(len(several), 'image')} of {persons.source} "
            f"{'has' if len(several) == 1 else 'have'} several subjects (the first: {Path(several[0]).name}); {remedy}"
        )


def _whole_frames(animals: Sequence[Instance], problems: list[str] | None) -> Iterator[Instance]:
    """The animals with the box of their image; an area that is unknown is the median of the others."""
    areas = [_area(animal) for animal in animals]
    median = float(np.median(known)) if (known := [area for area in areas if area]) else 0.0
    for animal, area in zip(animals, areas, strict=True):
        with collect_errors(problems):
            size = image_size(animal.image)
            if size is None:
                raise DataError(f"image {animal.image} is missing or can't be opened; its animal needs its size")
            box = (0.0, 0.0, float(size[0]), float(size[1]))
            yield replace(animal, box=box, area=area or median or estimate_area(box))


def with_extents(animals: Iterable[Instance]) -> Iterator[Instance]:
    """Yields the animals with the extent of their labeled joints as box, without those that have less than two."""
    for animal in animals:
        assert animal.joints is not None and animal.visibility is not None
        box = box_of_joints(animal.joints, animal.visibility > 0)
        if box is not None:
            yield replace(animal, box=box, area=estimate_area(box), box_from_labels=True)


def _area(animal: Instance) -> float | None:
    assert animal.joints is not None and animal.visibility is not None
    box = box_of_joints(animal.joints, animal.visibility > 0)
    return None if box is None else estimate_area(box)
