"""Prepares data sets before a training: converts and merges annotation files, and packs unlabeled sets into shards."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from semipose.data.account import DataAccount, unusable_by_reason
from semipose.data.crops import CropGeometry
from semipose.data.data_config import YAML_SUFFIXES
from semipose.data.datasets import map_to_skeleton
from semipose.data.formats.categories import CategoryChoice
from semipose.data.formats.image_folder import read_folder
from semipose.data.formats.registry import is_annotation_folder, read_annotations
from semipose.data.formats.writers import write_annotations
from semipose.data.merge import merge
from semipose.data.shards import TABLE as SHARD_TABLE
from semipose.data.shards import pack
from semipose.errors import ConfigError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import COCO, SKELETONS
from semipose.utils.files import check_new_file, make_folder
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)


def convert_annotations(
    annotations: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    skeleton: str | None = None,
    category: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[Path, DataAccount]:
    """Writes annotations of any known format as COCO, DeepLabCut, SLEAP or YOLO.

    Args:
        annotations: The file or project to convert.
        out: The file to write; its suffix is the format: .json COCO, .csv or .h5 DeepLabCut, .slp SLEAP, .yaml YOLO.
        images: The image folder; found near the file if not given.
        skeleton: Name of the skeleton that joints are mapped onto by name; the joints of the file if not given.
        category: Name of the category that is read of a file with several, or `all` to read them as one.
        progress: Reports the images whose size was read.

    Returns:
        The file written, and the account of the data set.

    Raises:
        ConfigError: If `out` exists.
    """
    check_new_file(Path(out), Path(annotations))
    persons = _read(annotations, images, skeleton, category)
    left_out = _unwritten(persons, Path(out))
    account = DataAccount.of(persons, {"written": len(persons) - sum(left_out.values())}, left_out)
    log.info(account.describe())
    return _write(persons, Path(out), progress), account


def merge_annotations(
    annotations: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    skeleton: str | None = None,
    category: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[Path, DataAccount]:
    """Writes several annotation files as one.

    Args:
        annotations: The files. Where several have labeled persons in an image, those of the last file are used.
        out: The file to write, as in `convert_annotations`.
        images: An image folder for each file, one for all, or none.
        skeleton: As in `convert_annotations`, for files with different joints.
        category: As in `convert_annotations`; the persons of all files get the category of the first.
        progress: Reports the images whose size was read.

    Returns:
        The file written, and the account of all data sets as one.

    Raises:
        ConfigError: If `out` exists, or the numbers of `annotations` and `images` differ.
    """
    check_new_file(Path(out), *map(Path, annotations))
    if len(images) not in (0, 1, len(annotations)):
        raise ConfigError(
            f"`images`: {len(images)} folders for {len(annotations)} files; give one for each file or one for all"
        )
    folders = list(images) if len(images) == len(annotations) else [next(iter(images), None)] * len(annotations)
    sets = [_read(file, folder, skeleton, category) for file, folder in zip(annotations, folders, strict=True)]
    for persons in sets:
        log.info(DataAccount.of(persons, {}, {}).describe())
    categories = dict.fromkeys(persons.category for persons in sets)
    if len(categories) > 1:
        listed = ", ".join(f"{c.name} (id {c.id})" for c in categories)
        log.info("the categories %s become %s (id %s)", listed, sets[0].category.name, sets[0].category.id)
    merged = merge(sets)
    if merged.replaced:
        log.info("%s: the labels of the last file with labeled persons are used", plural(merged.replaced, "image"))
    if merged.kept:
        log.info(
            "%s: a later file has no labeled persons, the labels of an earlier one are kept",
            plural(merged.kept, "image"),
        )
    account = _account_of_merged(sets, merged.persons, _unwritten(merged.persons, Path(out)))
    log.info(account.describe())
    return _write(merged.persons, Path(out), progress), account


def _account_of_merged(sets: Sequence[PoseDataset], merged: PoseDataset, unwritten: Mapping[str, int]) -> DataAccount:
    """The account of all sets, of which some persons are replaced in the merged set and some of it are not written."""
    left_out = Counter(unwritten)
    for persons in sets:
        left_out.update(persons.left_out)
    read = sum(map(len, sets))
    left_out["in images that a later file labels"] = read - len(merged)
    account = DataAccount.of(merged, {"written": len(merged) - sum(unwritten.values())}, left_out)
    return replace(account, persons=read)


def pack_images(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    boxes: str | os.PathLike[str] | None = None,
    min_score: float = 0.5,
    box_category: int | str | None = None,
    shard_size: int = 4000,
    input_size: tuple[int, int] = (256, 192),
    padding: float = 1.25,
    progress: Progress = NO_PROGRESS,
) -> tuple[Path, DataAccount]:
    """Crops the persons of an unlabeled set and writes them as shards, for sets too large to crop in every training.

    Args:
        source: A folder of images or an annotation file.
        out: The folder of the shards.
        images: The image folder of an annotation file; found near the file if not given.
        boxes: COCO detections file for a folder of images; without it each image is one person.
        min_score: Detections of a lower score are left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        shard_size: Number of persons in a shard.
        input_size: Height and width in pixels of the crops, as in the trainings that will use them.
        padding: Padding of the boxes, likewise.
        progress: Reports the images that were read.

    Returns:
        The file that lists the shards, and the account of the set.
    """
    source, out = Path(source), Path(out)
    is_folder = source.is_dir() and not is_annotation_folder(source)
    if is_folder and images:
        raise ConfigError(f"`images`: {source} is a folder of images already; leave it out")
    if not is_folder and boxes:
        raise ConfigError(f"`boxes`: {source} has boxes of its own; give the folder of its images instead")
    if is_folder:
        persons = read_folder(source, COCO, boxes=boxes, min_score=min_score, box_category=box_category)
    else:
        persons = read_annotations(source, images, labels=False, skeleton=COCO)
    usable = persons.usable()
    unread = pack(usable, CropGeometry(input_size, padding), out, size=shard_size, progress=progress)
    left_out = {**unusable_by_reason(persons), "in images that can't be read": unread}
    account = DataAccount.of(persons, {"packed": len(usable) - unread}, left_out)
    log.info(account.describe())
    return out / SHARD_TABLE, account


def _read(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None,
    skeleton: str | None,
    category: str | None,
) -> PoseDataset:
    """The persons of an annotation file, mapped onto the named skeleton if one is given."""
    if skeleton is not None and skeleton not in SKELETONS:
        raise ConfigError(f"`skeleton`: {skeleton!r} is unknown; known: {', '.join(SKELETONS)}")
    persons = read_annotations(annotations, images, category=CategoryChoice(category))
    mapped = map_to_skeleton(persons, skeleton or "own", "skeleton")
    left_out = [joint for joint in persons.skeleton.joints if mapped.skeleton.find(joint) is None]
    if left_out:
        log.info("%s: %s has no %s; left out", annotations, skeleton, ", ".join(left_out))
    return mapped


def _unwritten(persons: PoseDataset, out: Path) -> dict[str, int]:
    """By reason the number of persons that the format of a file does not have; COCO has all."""
    suffix, crowds = out.suffix.lower(), persons.instances.is_crowd
    found = {} if suffix == ".json" else {"crowds, which the format does not have": int(crowds.sum())}
    if suffix not in (".json", *YAML_SUFFIXES):
        found["without labels, which the format does not have"] = int((~crowds & ~persons.instances.labeled).sum())
    return {reason: count for reason, count in found.items() if count}


def _write(persons: PoseDataset, out: Path, progress: Progress) -> Path:
    make_folder(out.parent)
    root = write_annotations(persons, out, progress)
    log.info("%s: file names are relative to the image folder %s", out, root)
    return out
