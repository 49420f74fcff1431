"""Splits an annotation file into files for training, validation and test: by video, time, person or image."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semipose.data.account import DataAccount, WrittenFiles
from semipose.data.clips import clips, frame_of, held_out_neighbors, near_pairs, original
from semipose.data.formats.categories import CategoryChoice
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.image_names import names_below_shared_folder
from semipose.data.formats.registry import read_annotations
from semipose.data.leakage import digests_of_equal_sizes, image_paths, shared_images
from semipose.errors import ConfigError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import check_new_file, make_folder
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
UNITS = ("video", "time", "person", "image")
SINGLE = 0.9
"""If more of the videos have a single image, their names probably hide what belongs together."""


def split_annotations(
    annotations: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    by: str,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    images: str | os.PathLike[str] | None = None,
    category: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> WrittenFiles:
    """Writes the persons of an annotation file as train.json, val.json and test.json (COCO).

    The file names in all of them are relative to one folder: `images`, or the one that all images share if `images` is
    not given or some lie elsewhere. Images that go along (frames of SLEAP, of archives) are in a folder of each file.

    Args:
        annotations: The file or project.
        out: The folder of the files.
        by: `video`: the images of a clip (one folder, one name but for the number at its end) stay together. `time`:
            of each clip the end is held out, and its neighbors in the training (`clips.near_pairs`) are left out.
            `person`: all images of an individual stay together, and so do individuals who share an image. `image`:
            each image is drawn by itself, for photographs.
        val: Share of the images for val.json.
        test: Share for test.json.
        seed: Seed of the choice of videos, individuals or images.
        images: The image folder; found near the file if not given.
        category: Name of the category that is read of a file with several, or `all`.
        progress: Reports the images whose size was read.

    Returns:
        The files, with the account of the data set.

    Raises:
        ConfigError: If a value is out of range, there are too few videos, individuals or images to split, or one of
            the three files exists.
    """
    shares = {"val": val, "test": test}
    if by not in UNITS:
        raise ConfigError(f"`by`: {by!r} is unknown; use {', '.join(UNITS)}")
    if min(shares.values()) < 0 or not 0 < sum(shares.values()) < 1:
        raise ConfigError(f"`val` is {val} and `test` {test}; give shares that are together above 0 and below 1")
    for part in PARTS:
        check_new_file(Path(out) / f"{part}.json", Path(annotations))
    persons = read_annotations(annotations, images, category=CategoryChoice(category))
    parts = _by_time(persons, shares) if by == "time" else _by_group(_groups(persons, by), shares, seed, by)
    _warn_of_shared(parts)
    names = ("train", *(name for name, share in shares.items() if share))
    chosen = {name: _in_images(persons, {image for image, own in parts.items() if own == name}) for name in names}
    files = _write_parts(chosen, persons, Path(out), None if images is None else Path(images), progress)
    used = {name: len(part) for name, part in chosen.items()}
    left_out = {"next to a held-out frame": len(persons) - sum(used.values())}
    account = DataAccount.of(persons, used, left_out)
    log.info(account.describe())
    return WrittenFiles(files, account)


def _write_parts(
    parts: Mapping[str, PoseDataset], persons: PoseDataset, out: Path, images: Path | None, progress: Progress
) -> list[Path]:
    """Writes the parts of a set with file names relative to one folder, which is logged unless it is `images`."""
    make_folder(out)
    shared, _ = names_below_shared_folder(persons.image_paths, images)
    files = []
    for name, part in parts.items():
        path = out / f"{name}.json"
        root = write_coco(part, path, progress, shared)
        if images is None or root.resolve() != images.resolve():
            log.info("%s: file names are relative to the image folder %s", path, root)
        files.append(path)
    return files


def _warn_of_shared(parts: Mapping[Path, str]) -> None:
    """Warns if training images have the content of held-out ones, or are next to them in a clip."""
    trained, held_out = ([i for i, part in parts.items() if part in names] for names in (PARTS[:1], PARTS[1:]))
    if copies := shared_images(trained, held_out):
        log.warning(
            "%s held out that are copies of images in train.json, the first: %s is %s; leave out one of each pair",
            *(plural(len({image for _, image in copies}), "image"), copies[0][1], copies[0][0]),
        )
    if near := held_out_neighbors(trained, held_out):
        log.warning(
            "%s held out that are next to training images in a clip, so scores on them will be too high, the first is "
            "%s; split by video or time",
            *(plural(len(near), "image"), near[0]),
        )


def _groups(persons: PoseDataset, by: str) -> dict[Path, str]:
    """The video or the group of individuals of each image; by image, the image with its copies.

    Images that Roboflow made of one count as copies; they have one name but for what it adds.
    """
    if by in ("image", "video"):
        frames = {image: frame_of(image) if by == "video" else None for image in image_paths(persons)}
        of_video = {image: str(frame[0]) for image, frame in frames.items() if frame}
        return of_video | _with_copies({image: str(original(image)) for image in frames if image not in of_video})
    names = persons.instances.individuals.tolist()
    if not any(names):
        raise ConfigError(f"`by`: {persons.source} names no individual; split by video or time")
    groups: dict[str, set[str]] = {}
    own: dict[Path, set[str]] = {image: set() for image in image_paths(persons)}
    for image, name in zip(map(Path, persons.instances.paths), names, strict=True):
        own[image].add(f"individual {name}" if name else f"image {image}")
    for members in own.values():
        merged = set(members).union(*(groups.get(member, set()) for member in members))
        groups |= dict.fromkeys(merged, merged)
    return {image: min(groups[min(found)]) if found else f"image {image}" for image, found in own.items()}


def _with_copies(group_of: Mapping[Path, str]) -> dict[Path, str]:
    """The groups of images by name, but those with one image, by its content, as one."""
    joined: dict[str, str] = {}

    def first(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    holder: dict[str, str] = {}
    for image, digest in digests_of_equal_sizes(group_of).items():
        low, high = sorted((first(group_of[image]), first(holder.setdefault(digest, group_of[image]))))
        if low != high:
            joined[high] = low
    return {image: first(group) for image, group in group_of.items()}


def _by_group(group_of: Mapping[Path, str], shares: Mapping[str, float], seed: int, by: str) -> dict[Path, str]:
    """Draws groups for each part until it has its share of the images, at least one."""
    groups = sorted(set(group_of.values()))
    if len(groups) <= sum(share > 0 for share in shares.values()):
        others = ", ".join(unit for unit in UNITS if unit != by)
        hint = " (image: photographs)" if by == "video" else ""
        raise ConfigError(f"`by`: too few to split by {by}, namely {len(groups)}; use {others}{hint}")
    sizes = dict.fromkeys(groups, 0)
    for group in group_of.values():
        sizes[group] += 1
    if by == "video" and (single := sum(size == 1 for size in sizes.values())) > SINGLE * len(groups):
        log.warning(
            "%d of %d videos have one image, and frames of one recording may be in different files; frames lie in one "
            "folder and have one name but for the number at its end",
            *(single, len(groups)),
        )
    order = [groups[int(i)] for i in np.random.Generator(np.random.PCG64(seed)).permutation(len(groups))]
    part_of: dict[str, str] = {}
    reserved = sum(share > 0 for share in shares.values()) + 1
    for part, share in shares.items():
        count, wanted = 0, share * len(group_of)
        reserved -= share > 0
        if share and sizes[order[0]] / 2 > wanted:  # the first that fits, or else the smallest, comes first
            fitting = (group for group in order if sizes[group] / 2 <= wanted)
            first = next(fitting, min(order, key=sizes.__getitem__))
            order = [first, *(group for group in order if group != first)]
        while share and len(order) > reserved and (count == 0 or count + sizes[order[0]] / 2 <= wanted):
            count += sizes[order[0]]
            part_of[order.pop(0)] = part
        if share and abs(count - wanted) > max(wanted / 2, 1):
            what = "copies of an image" if by == "image" else f"images of one {by}"
            log.warning("%s has %d of %d images, not %g: %s stay together", part, count, len(group_of), wanted, what)
    return {image: part_of.get(group, "train") for image, group in group_of.items()}


def _by_time(persons: PoseDataset, shares: Mapping[str, float]) -> dict[Path, str]:
    """Holds out the end of each clip, in the order training, validation, test."""
    found = clips(image_paths(persons))
    parts = dict.fromkeys(image_paths(persons), "train")
    if unnumbered := [image for image in parts if frame_of(image) is None]:
        log.warning(
            "%s without a number at the end of the name all go to train.json, the first is %s; rename as frame0012.png",
            *(plural(len(unnumbered), "image"), unnumbered[0]),
        )
    for members in found.values():
        count = len(members)
        test = round(shares["test"] * count)
        val = min(round(shares["val"] * count), count - test)
        own = ["train"] * (count - val - test) + ["val"] * val + ["test"] * test
        planned = dict(zip(members, own, strict=True))
        near = {before for before, after in near_pairs(members) if planned[before] != planned[after]}
        parts |= {image: "" if image in near else part for image, part in planned.items()}
    wanted = ("train", *(part for part, share in shares.items() if share))
    missing = [part for part in wanted if part not in parts.values()]
    if missing:
        raise ConfigError(f"`by`: no clip of {persons.source} is long enough for {missing[0]}.json; split by video")
    return parts


def _in_images(persons: PoseDataset, images: set[Path]) -> PoseDataset:
    """The persons in some images, and those of the images that show nobody."""
    kept: Sequence[int] = [n for n, path in enumerate(persons.instances.paths) if Path(path) in images]
    empty = tuple((image_id, path) for image_id, path in persons.empty_images if path in images)
    return PoseDataset(persons.skeleton, persons.instances.take(kept), persons.source, empty, persons.category)
