"""Checks a data set: what it contains, which records are broken, and which labels are suspicious."""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from semipose.data.data_errors import problems_first
from semipose.data.formats.json_files import read_json
from semipose.data.formats.registry import read_annotations
from semipose.data.images import decode_image, has_exif_orientation, read_image_bytes
from semipose.data.leakage import image_paths, shared_images
from semipose.errors import ConfigError, DataError
from semipose.structures.instances import Instance, PoseDataset
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
        problems: One line for each broken record or image.
        suspicious: One line for each label that can be used but is probably wrong, such as a joint outside its image;
            empty if images were not decoded.
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
    suspicious: tuple[str, ...] = ()


class _OpenedImage(NamedTuple):
    rotated: bool
    width: int
    height: int


def check_data(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    decode: bool = False,
    against: str | os.PathLike[str] | None = None,
    against_images: str | os.PathLike[str] | None = None,
) -> DataReport:
    """Reads a data set to its end and reports every broken record and missing image.

    Args:
        path: The annotation file.
        images: Its image folder; found near the file if not given.
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
        persons = read_annotations(path, images, problems=problems)
    files = image_paths(persons)
    opened = _check_images(files, decode, problems)
    shared = shared_images(image_paths(read_annotations(against, against_images)), files) if against else []
    problems += [f"image {own} is also in {against}, as {other}" for other, own in shared]
    instances = persons.instances
    without_area = instances.annotation_ids[~instances.usable & ~instances.is_crowd]
    problems += [f"{path}: annotation {i}: the box has no area; a training leaves it out" for i in without_area]
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
        rotated_images=sum(image.rotated for image in opened.values()) if decode else None,
        problems=tuple(problems),
        suspicious=tuple(_suspicious_labels(path, persons, opened)) if decode else (),
    )


def _count_joints(persons: PoseDataset) -> dict[str, tuple[int, int, int]]:
    instances = persons.instances
    visibility = instances.visibility[instances.annotated & ~instances.is_crowd]
    return {
        name: (int((column == 2).sum()), int((column == 1).sum()), int((column == 0).sum()))
        for name, column in zip(persons.skeleton.joints, visibility.T, strict=True)
    }


def _check_images(files: Sequence[Path], decode: bool, problems: list[str]) -> dict[Path, _OpenedImage]:
    """Adds missing and broken images to `problems` and returns the decoded images."""
    missing = {image for image in files if not is_file(image)}
    if len(missing) > len(files) / 2 > 1:
        problems.append(f"{len(missing)} of {len(files)} images are missing; is `images` the right folder?")
    opened = {}
    for image in files:
        if image in missing:
            problems.append(f"image {image} is missing; check the image folder")
        elif decode:
            try:
                opened[image] = _open_image(image)
            except DataError as error:
                problems.append(str(error))
    return opened


def _open_image(path: Path) -> _OpenedImage:
    content = read_image_bytes(path)
    height, width = decode_image(path, content).shape[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images
        with Image.open(io.BytesIO(content)) as image:
            return _OpenedImage(has_exif_orientation(image), width, height)


def _suspicious_labels(path: Path, persons: PoseDataset, opened: dict[Path, _OpenedImage]) -> Iterator[str]:
    files = persons.image_paths
    for image_id, (width, height) in _recorded_sizes(path).items():
        image = opened.get(files.get(image_id, Path()))
        if image and (image.width, image.height) != (width, height):
            yield (
                f"image {image_id} is {image.width}×{image.height} pixels, but {width}×{height} in its record; "
                "were joints labeled on another version?"
            )
    for person in persons.instances:
        if person.image in opened:
            yield from _outside(person, opened[person.image], persons.skeleton.joints)


def _outside(person: Instance, image: _OpenedImage, names: Sequence[str]) -> Iterator[str]:
    """Lines for a box or labeled joints outside the image."""
    x, y, width, height = person.box
    where = f"outside its image of {image.width}×{image.height}"
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        yield f"annotation {person.annotation_id}: box {[round(v) for v in person.box]} {where}"
    if person.joints is None or person.visibility is None:
        return
    end = np.array([image.width, image.height]) - 0.5
    outside = np.any((person.joints < -0.5) | (person.joints > end), axis=1) & (person.visibility > 0)
    positions = zip(names, person.joints, outside, strict=True)
    joints = [f"{name} ({x:.0f}, {y:.0f})" for name, (x, y), is_outside in positions if is_outside]
    if joints:
        yield f"annotation {person.annotation_id}: {', '.join(joints)} {where}"


def _recorded_sizes(path: Path) -> dict[int | str, tuple[int, int]]:
    """Width and height of images by id, as a COCO file records them; empty for other files."""
    try:
        records = read_json(path, "annotation file")["images"]
        return {r["id"]: (r["width"], r["height"]) for r in records if r.get("width") and r.get("height")}
    except (DataError, KeyError, TypeError, AttributeError):
        return {}
