"""Prepares data sets, for the data commands: other formats, several files, videos, sets that are too large."""

import logging
from collections.abc import Sequence
from pathlib import Path

from semipose.data.crops import CropGeometry
from semipose.data.datasets import over
from semipose.data.formats.coco_writer import join as join_sets
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.image_folder import read_folder
from semipose.data.formats.registry import read_annotations
from semipose.data.shards import TABLE as SHARD_TABLE
from semipose.data.shards import pack as pack_shards
from semipose.data.video import list_videos
from semipose.data.video import take_frames as take_video_frames
from semipose.errors import ConfigError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import COCO, SKELETONS
from semipose.utils.files import place_for
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)


def convert(
    annotations: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    skeleton: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Writes an annotation file of any known format as a COCO container, onto another `skeleton` if asked."""
    persons = _read_over(annotations, images, skeleton)
    place_for(Path(out), Path(annotations))
    _tell_root(out, write_coco(persons, Path(out), progress))
    return Path(out)


def join(
    annotations: Sequence[Path | str],
    out: Path | str,
    *,
    images: Sequence[Path | str] = (),
    skeleton: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Writes several annotation files as one COCO container, for example yours and the predictions you corrected.

    `images`: an image folder for each file, or one for all, or none. Of a photograph with labeled people in several
    files those of the last count. `skeleton`: as in `convert`, for files with different joints.
    """
    if len(images) not in (0, 1, len(annotations)):
        raise ConfigError(f"--images: {len(images)} folders for {len(annotations)} files; give one for each or for all")
    folders = list(images) if len(images) == len(annotations) else [next(iter(images), None)] * len(annotations)
    sets = [_read_over(file, folder, skeleton) for file, folder in zip(annotations, folders, strict=True)]
    joined, replaced, outlived = join_sets(sets)
    place_for(Path(out), *map(Path, annotations))
    if replaced:
        log.info(f"of {plural(replaced, 'photograph')} with labeled people in several files those of the last count")
    if outlived:
        log.info(
            f"in {plural(outlived, 'photograph')} where a later file labels nobody the people of an earlier one stay"
        )
    _tell_root(out, write_coco(joined, Path(out), progress))
    return Path(out)


def _read_over(annotations: Path | str, images: Path | str | None, skeleton: str | None) -> PoseDataset:
    """Persons of an annotation file, over the named skeleton where there is one."""
    if skeleton is not None and skeleton not in SKELETONS:
        raise ConfigError(f"unknown skeleton {skeleton!r}; known: {', '.join(SKELETONS)}")
    persons = read_annotations(Path(annotations), images)
    mapped = over(skeleton or "own", persons, "--skeleton")
    left_out = [joint for joint in persons.skeleton.joints if joint not in mapped.skeleton.joints]
    if left_out:
        log.info(f"{annotations}: {skeleton} has no {', '.join(left_out)}; left out")
    return mapped


def _tell_root(out: Path | str, root: Path) -> None:
    log.info(f"{out}: image names are relative to {root}; --images takes it")


def take_frames(
    source: Path | str,
    out: Path | str,
    *,
    every: float = 1.0,
    min_change: float = 8.0,
    progress: Progress = NO_PROGRESS,
) -> tuple[list[Path], int]:
    """Frames of a video, or of all videos below a folder, as JPEGs in the folder `out`: unlabeled images.

    At most one in `every` seconds, and none that looks like the one kept before (`min_change`, gray levels of 255, in
    some part of the picture). Returns the files and how many frames looked at were left out for being alike.
    """
    return take_video_frames(
        list_videos(Path(source)), Path(out), every=every, min_change=min_change, progress=progress
    )


def pack(
    source: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    boxes: Path | str | None = None,
    min_score: float = 0.5,
    shard_size: int = 4000,
    input_size: tuple[int, int] = (256, 192),
    padding: float = 1.25,
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Cuts the people of an unlabeled set into shards below `out` and returns the table that lists them.

    `source`: an image folder, with or without detected `boxes`, or an annotation file. `input_size` (H, W) and
    `padding` are those of the trainings to come.
    """
    source, out = Path(source), Path(out)
    if source.is_dir() and images:
        raise ConfigError(f"--images: {source} is a folder of images already; leave it out")
    if not source.is_dir() and boxes:
        raise ConfigError(f"--boxes: {source} has boxes of its own; name the folder of its images instead")
    if source.is_dir():
        persons = read_folder(source, COCO, boxes=Path(boxes) if boxes else None, min_score=min_score)
    else:
        persons = read_annotations(source, images, labels=False, skeleton=COCO).usable()
    left_out = pack_shards(persons, CropGeometry(input_size, padding), out, size=shard_size, progress=progress)
    if left_out:
        log.info(f"{left_out} of {len(persons)} persons left out: their photographs can't be read")
    return out / SHARD_TABLE
