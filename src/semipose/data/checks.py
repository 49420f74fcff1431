"""Checks a data set: what it contains, and which records are broken or suspicious."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semipose.data.data_errors import problems_first
from semipose.data.formats.categories import ALL, CategoryChoice
from semipose.data.formats.registry import read_annotations
from semipose.data.images import ImageSize, decode_image, decoded_size, read_image_bytes
from semipose.data.leakage import digests_of_equal_sizes, image_paths, shared_images
from semipose.data.suspicions import describe_suspicions, suspicious_labels
from semipose.errors import ConfigError, DataError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import is_file


@dataclass(frozen=True)
class DataReport:
    """The content of a data set and what is wrong with it.

    Attributes:
        source: The annotation file.
        skeleton: Name of the skeleton.
        persons: Number of persons.
        trainable: Number of persons that a training can use.
        crowds: Number of crowds.
        images: Number of images.
        empty_images: Number of images without persons.
        joints: By name, the number of persons with the joint visible, occluded and unlabeled; crowds excluded.
        box_sides: Smallest, median and largest longer side of a box in pixels.
        shared_images: Number of images that another data set has, too; None if no other was given.
        rotated_images: Number of images with an EXIF orientation, whose joints refer to the stored pixels; None if
            images were not decoded.
        problems: One line for each broken record or image; one for all missing images if most are missing.
        problem_count: Number of broken records and images.
        suspicious: One line for each label or image that can be used but is probably wrong, such as a joint outside of
            its image; only decoded images are compared with their labels.
        suspicious_kinds: The number of suspicious labels and images of each kind, in one line.
    """

    source: str
    skeleton: str
    persons: int
    trainable: int
    crowds: int
    images: int
    empty_images: int
    joints: dict[str, tuple[int, int, int]]
    box_sides: tuple[float, float, float]
    shared_images: int | None
    rotated_images: int | None
    problems: tuple[str, ...]
    problem_count: int
    suspicious: tuple[str, ...] = ()
    suspicious_kinds: str = ""


def check_data(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    category: str | None = None,
    decode: bool = False,
    against: str | os.PathLike[str] | None = None,
    against_images: str | os.PathLike[str] | None = None,
) -> DataReport:
    """Reads a data set to its end and reports every broken record and missing image.

    Args:
        path: The annotation file.
        images: Its image folder; found near the file if not given.
        category: Name of the category that is checked where the file has several; all if not given.
        decode: Whether to decode every image, to find broken images and suspicious labels.
        against: Another annotation file; images that both have, by content, are problems.
        against_images: The image folder of `against`.

    Raises:
        DataError: If the file as a whole cannot be read.
        ConfigError: If `against_images` is given without `against`.
    """
    if against_images and against is None:
        raise ConfigError("`against_images` is the image folder of `against`; give both")
    path = Path(path)
    problems: list[str] = []
    with problems_first(problems):
        persons = read_annotations(path, images, problems=problems, category=CategoryChoice(category or ALL))
    files = image_paths(persons)
    missing = [image for image in files if not is_file(image)]
    about_missing = _describe_missing(missing, len(files))
    problems += about_missing
    opened = _decode(sorted({*files} - {*missing}), problems) if decode else {}
    shared = _shared_with(against, against_images, files) if against else []
    problems += [f"image {own} is also in {against}, as {other}" for other, own in shared]
    suspicions = suspicious_labels(persons, opened, digests_of_equal_sizes(files))
    problems += _boxes_without_area(persons, path)
    instances = persons.instances
    sides = instances.boxes[:, 2:].max(axis=1)
    return DataReport(
        source=str(path),
        skeleton=persons.skeleton.name,
        persons=len(persons),
        trainable=int(instances.trainable.sum()),
        crowds=int(instances.is_crowd.sum()),
        images=len(files),
        empty_images=len(persons.empty_images),
        joints=_count_joints(persons),
        box_sides=(float(sides.min()), float(np.median(sides)), float(sides.max())),
        shared_images=len(shared) if against else None,
        rotated_images=sum(image.has_orientation for image in opened.values()) if decode else None,
        problems=tuple(problems),
        problem_count=len(problems) - len(about_missing) + len(missing),
        suspicious=tuple(suspicion.line for suspicion in suspicions),
        suspicious_kinds=describe_suspicions(suspicions),
    )


def _shared_with(
    against: str | os.PathLike[str], images: str | os.PathLike[str] | None, files: list[Path]
) -> list[tuple[Path, Path]]:
    """The images that another annotation file has too, by content: pairs of its image and of the own one."""
    other = read_annotations(against, images, category=CategoryChoice(ALL))
    return shared_images(image_paths(other), files)


def _boxes_without_area(persons: PoseDataset, path: Path) -> list[str]:
    instances = persons.instances
    found = instances.annotation_ids[~instances.usable & ~instances.is_crowd]
    return [f"{path}: annotation {i}: the box has no area; a training leaves it out" for i in found]


def _count_joints(persons: PoseDataset) -> dict[str, tuple[int, int, int]]:
    instances = persons.instances
    visibility = instances.visibility[instances.annotated & ~instances.is_crowd]
    return {
        name: (int((column == 2).sum()), int((column == 1).sum()), int((column == 0).sum()))
        for name, column in zip(persons.skeleton.joints, visibility.T, strict=True)
    }


def _describe_missing(missing: Sequence[Path], images: int) -> list[str]:
    """One line for each missing image; one for all if most are missing, as in a wrong folder."""
    if len(missing) > images / 2 > 1:
        first = ", ".join(image.name for image in missing[:3])
        return [f"{len(missing)} of {images} images are missing ({first}, …); is `images` the right folder?"]
    return [f"image {image} is missing; check the image folder" for image in missing]


def _decode(images: Sequence[Path], problems: list[str]) -> dict[Path, ImageSize]:
    """Returns the sizes of the images that can be decoded; the others are added to `problems`."""
    opened = {}
    for image in images:
        try:
            content = read_image_bytes(image)
            opened[image] = decoded_size(decode_image(image, content), content)
        except DataError as error:
            problems.append(str(error))
    return opened
