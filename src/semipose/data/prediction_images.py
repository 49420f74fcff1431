"""The images and person boxes that predictions are made for."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from semipose.data.account import unusable_by_reason
from semipose.data.formats.categories import CategoryChoice
from semipose.data.formats.coco import read_image_list
from semipose.data.formats.detections import apply_detections, read_detected_persons
from semipose.data.formats.image_folder import list_images, read_folder, whole_images
from semipose.data.formats.registry import ANNOTATION_SUFFIXES, FORMATS, find_format, read_annotations
from semipose.errors import ConfigError, DataError
from semipose.structures.boxes import WHOLE
from semipose.structures.categories import PERSON, Category
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton


def prediction_dataset(
    source: Path,
    skeleton: Skeleton,
    images: str | os.PathLike[str] | None,
    boxes: str | os.PathLike[str] | None,
    min_score: float,
    problems: list[str],
    category: Category = PERSON,
    *,
    box_category: int | str | None = None,
) -> PoseDataset:
    """Returns the persons, without labels, to predict poses for, and the images without a box as empty ones.

    Args:
        source: An image, a folder of images or an annotation file.
        skeleton: The skeleton of the network.
        images: The image folder of a COCO file; found near the file if not given.
        boxes: COCO detections file, or `whole` for one person in each image, whose box is the image. Without it the
            boxes are those of the annotation file, or whole images.
        min_score: Detections of a lower score are left out.
        problems: Collects images that cannot be opened and broken records, which are left out.
        category: The category of the persons; of a COCO file with several, the one of this name is read.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.

    Raises:
        DataError: If `source` does not exist or nothing in it can be used.
        ConfigError: If a COCO file has no boxes and `boxes` is not given.
    """
    whole = boxes is not None and os.fspath(boxes) == WHOLE
    boxes = None if whole else boxes
    if source.is_file() and source.suffix.lower() in ANNOTATION_SUFFIXES:
        if whole:
            return _whole_images(source, skeleton, images, problems, category)
        if boxes is None:
            return _annotated_boxes(source, skeleton, images, problems, category)
        listed = _listed(source, skeleton, images, problems).with_category(category)
        persons = apply_detections(listed, boxes, min_score, problems, box_category=box_category)
        return _with_all_images(persons, listed.image_paths)
    if source.is_dir():
        if boxes is None:
            return read_folder(source, skeleton, problems=problems, category=category)
        paths, left_out = list_images(source)
        persons = read_detected_persons(
            paths, source, skeleton, boxes, min_score, problems, box_category=box_category, category=category
        )
        persons = replace(persons, left_out={**left_out, **persons.left_out})
        return _with_all_images(persons, dict(enumerate(paths, start=1)))
    if not source.is_file():
        raise DataError(f"{source} does not exist; give an image, a folder of images, a COCO file or a video")
    persons = whole_images([source], skeleton, str(source), problems).with_category(category)
    return apply_detections(persons, boxes, min_score, problems, box_category=box_category) if boxes else persons


def _whole_images(
    source: Path, skeleton: Skeleton, images: str | os.PathLike[str] | None, problems: list[str], category: Category
) -> PoseDataset:
    """One person in each image of an annotation file, with the ids of the images."""
    listed = _listed(source, skeleton, images, problems)
    ids = list(listed.image_paths)
    persons = whole_images(list(listed.image_paths.values()), skeleton, listed.source, problems)
    own = (replace(person, image_id=ids[int(person.image_id) - 1]) for person in persons.instances)
    return PoseDataset(skeleton, own, listed.source, category=category)


def _listed(
    source: Path, skeleton: Skeleton, images: str | os.PathLike[str] | None, problems: list[str]
) -> PoseDataset:
    """The images of an annotation file; its persons are of no interest."""
    if find_format(source) is FORMATS["coco"]:
        return read_image_list(source, images, skeleton)
    listed = read_annotations(source, images, labels=False, skeleton=skeleton, problems=problems)
    return listed.to_skeleton(skeleton)


def _annotated_boxes(
    source: Path, skeleton: Skeleton, images: str | os.PathLike[str] | None, problems: list[str], category: Category
) -> PoseDataset:
    try:
        choice = CategoryChoice(category.name)
        persons = read_annotations(source, images, labels=False, skeleton=skeleton, problems=problems, category=choice)
    except DataError as error:
        raise ConfigError(f"{error}; for a list of images without persons, give detections as `boxes`") from None
    usable = persons.to_skeleton(skeleton).usable()
    if not len(usable):
        raise ConfigError(f"{source} has no person whose box has an area; give detections as `boxes`")
    usable = replace(usable, left_out={**persons.left_out, **unusable_by_reason(persons)})
    return _with_all_images(usable, persons.image_paths)


def _with_all_images(persons: PoseDataset, images: Mapping[int | str, Path]) -> PoseDataset:
    """The persons, with those of the images that show none of them as empty images."""
    shown = persons.image_paths
    return replace(persons, empty_images=tuple((n, path) for n, path in images.items() if n not in shown))
