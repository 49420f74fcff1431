"""The further unlabeled images of a run: a folder, an annotation file, or frames of videos."""

import logging
from dataclasses import replace
from pathlib import Path

from semipose.data.data_config import DataConfig, is_word
from semipose.data.formats.categories import CategoryChoice
from semipose.data.formats.image_folder import VIDEO_SUFFIXES, read_folder
from semipose.data.formats.registry import (
    ANNOTATION_SUFFIXES,
    is_annotation_folder,
    read_annotations,
    read_with_images,
)
from semipose.data.leakage import shared_images
from semipose.data.video import has_videos, is_video_source
from semipose.data.video_frames import FRAMES, cached_frames, frames_dataset
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset
from semipose.utils.text import plural

log = logging.getLogger(__name__)


def read_unlabeled(config: DataConfig, path: Path, train: PoseDataset, problems: list[str]) -> PoseDataset:
    """Returns the persons of `data.unlabeled`.

    A folder means its images and, unless `data.boxes` is a file, frames of its videos, too; a project that is not that
    of `data.train` (with one it is a folder of images) means the persons that it labels.

    Args:
        config: The section of the data.
        path: The folder, annotation file, video or pattern.
        train: The training set, whose skeleton and category count where the source has none.
        problems: Collects images that can't be opened and broken records.

    Raises:
        DataError: If the path is none of these, or nothing in it can be used.
    """
    skeleton = train.skeleton
    boxes = Path(config.boxes) if config.boxes and not is_word("boxes", config.boxes) else None
    score, box_category = config.min_score, config.box_category
    if is_video_source(path):
        frames = cached_frames(path, config.max_unlabeled or FRAMES)
        return frames_dataset(
            *(frames, path, skeleton, problems),
            boxes=boxes,
            min_score=score,
            box_category=box_category,
            category=train.category,
        )
    with_videos = boxes is None and has_videos(path)
    is_own = config.train is not None and Path(config.train).resolve().is_relative_to(path.resolve())
    if path.is_dir() and (boxes is not None or is_own or not is_annotation_folder(path)):
        images = read_folder(
            path,
            skeleton,
            boxes=boxes,
            min_score=score,
            box_category=box_category,
            problems=problems,
            with_videos=with_videos,
            category=train.category,
        )
    else:
        images = _read_annotated(config, path, train, problems)
    return _with_frames(images, path, config, problems) if with_videos else images


def without_shared_images(more: PoseDataset, known: PoseDataset) -> PoseDataset:
    """Returns the persons of `more` without those in images of another set and in copies of them.

    Images of held-out persons must not be trained on; those of the training set are in the unlabeled set already.
    """
    own, paths = list(map(Path, known.instances.paths)), list(map(Path, more.instances.paths))
    shared = {copy for _, copy in shared_images(own, paths)}.union(own)
    return more.subset(i for i, path in enumerate(paths) if path not in shared)


def _read_annotated(config: DataConfig, path: Path, train: PoseDataset, problems: list[str]) -> PoseDataset:
    """The persons of an annotation file or folder without their labels."""
    if not path.is_dir() and path.suffix.lower() not in ANNOTATION_SUFFIXES:
        raise DataError(
            f"`data.unlabeled`: {path} is neither a folder of images, an annotation file "
            f"({', '.join(ANNOTATION_SUFFIXES)}) nor a video ({', '.join(sorted(VIDEO_SUFFIXES))})"
        )
    choice = CategoryChoice(config.category or train.category.name, "data.category")

    def read(folder: str | None) -> PoseDataset:
        return read_annotations(path, folder, labels=False, skeleton=train.skeleton, problems=problems, category=choice)

    return read_with_images(read, None, config.images)


def _with_frames(images: PoseDataset, folder: Path, config: DataConfig, problems: list[str]) -> PoseDataset:
    """The persons in images, and in frames of the videos of the folder; whole frames, with their names as image ids."""
    try:
        frames = cached_frames(folder, config.max_unlabeled or FRAMES)
    except DataError as error:
        log.warning("%s; its videos are left out", error)
        return images
    found = frames_dataset(frames, folder, images.skeleton, problems, category=images.category)
    counts = plural(len(images.image_paths), "image"), plural(len(found), "frame")
    log.info("%s: %s, and %s of its videos", folder, *counts)
    named = (replace(person, image_id=person.image.name) for person in found.instances)
    more = PoseDataset(images.skeleton, named, images.source)
    return PoseDataset(
        images.skeleton,
        images.instances.concat(more.instances),
        images.source,
        images.empty_images,
        images.category,
        images.left_out,
    )
