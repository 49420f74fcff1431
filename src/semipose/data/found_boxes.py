"""Boxes around the labeled joints, and those that the box network of a run finds."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.datasets import DataSplits
from semipose.data.formats.values import box_of_joints
from semipose.data.formats.whole_frames import one_in_each_image, with_whole_images
from semipose.data.images import read_image_sizes
from semipose.data.leakage import image_paths
from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import center_skeleton
from semipose.utils.files import write_text
from semipose.utils.text import plural

log = logging.getLogger(__name__)

FoundBoxes = Mapping[str, Sequence[np.ndarray]]
"""Boxes (n, 4) of each image, by set."""

FILE = "boxes.json"
"""The file of a run folder with the boxes that its box network found."""
MARGIN = 0.2
"""Margin of a box around joints, as a share of the longer side of their extent."""
NO_SUBJECT = "in which the box network finds no subject"
"""Why an unlabeled image is left out."""
ONE_PLACE = "with labels at less than two places, which make no box"
"""Why a labeled person is left out."""


def around_joints(persons: PoseDataset) -> PoseDataset:
    """Returns the persons with boxes around their labeled joints, without those that have labels at one place only.

    Raises:
        ConfigError: If nobody is left.
    """
    instances = persons.instances
    pairs = zip(instances.joints.astype(float), instances.visibility > 0, strict=True)
    boxes = [box_of_joints(joints, labeled, MARGIN) for joints, labeled in pairs]
    kept = [n for n, box in enumerate(boxes) if box is not None]
    if not kept:
        raise ConfigError(f"`data.boxes`: {persons.source} has no person but those {ONE_PLACE}; label more joints")
    found = np.array([box for box in boxes if box is not None], dtype=float).reshape(-1, 4)
    return persons.subset(kept).with_boxes(found, from_labels=True)


def centers_in_images(persons: PoseDataset) -> PoseDataset:
    """Returns images, each as one instance whose joints are the centers of the persons in it.

    The center is that of the box around the labeled joints, or of the person's own box. Images with crowds take no
    part.

    Raises:
        ConfigError: If no image is left.
    """
    instances, of_image = persons.instances, dict[str, list[int]]()
    crowded = {path for path, is_crowd in zip(instances.paths, instances.is_crowd, strict=True) if is_crowd}
    centers = np.full((len(persons), 2), np.nan)
    for n, (path, own) in enumerate(zip(instances.paths, instances.boxes.tolist(), strict=True)):
        box = box_of_joints(instances.joints[n].astype(float), instances.visibility[n] > 0, MARGIN)
        x, y, width, height = own if box is None else box
        if path not in crowded and width > 0 and height > 0:
            centers[n] = x + (width - 1) / 2, y + (height - 1) / 2
            of_image.setdefault(path, []).append(n)
    if not of_image:
        raise ConfigError(f"`data.boxes`: every image of {persons.source} has a crowd; give boxes of a detector")
    most, images = max(map(len, of_image.values())), list[Instance]()
    for rows in of_image.values():
        joints, visibility = np.zeros((most, 2)), np.zeros(most, dtype=int)
        joints[: len(rows)], visibility[: len(rows)] = centers[rows], 2
        images.append(replace(instances[rows[0]], joints=joints, visibility=visibility, individual=None))
    return in_whole_images(PoseDataset(center_skeleton(most), images, persons.source, category=persons.category))


def in_whole_images(persons: PoseDataset) -> PoseDataset:
    """Returns one person in each image, those that show nobody included, whose box is the image."""
    alone = one_in_each_image(persons)
    nobody = (Instance(path, image_id, -1, (0, 0, 1, 1)) for image_id, path in persons.empty_images)
    images = PoseDataset(
        persons.skeleton, [*alone.instances, *nobody], persons.source, (), persons.category, persons.left_out
    )
    return with_whole_images(images, read_image_sizes(image_paths(images)))


def with_boxes_in_images(images: PoseDataset, boxes: Sequence[np.ndarray]) -> PoseDataset:
    """Returns unlabeled persons in the boxes (n, 4) of each image; `images` has one person in each."""
    numbers, persons, empty = count(1), list[Instance](), list[tuple[int | str, Path]]()
    for image, found in zip(images.instances, boxes, strict=True):
        for x, y, w, h in found.tolist():
            person = replace(image.without_labels(), annotation_id=-next(numbers), box=(x, y, w, h), individual=None)
            persons.append(person)
        empty += [] if len(found) else [(image.image_id, image.image)]
    left_out = {**images.left_out, **({f"images {NO_SUBJECT}": len(empty)} if empty else {})}
    return PoseDataset(images.skeleton, persons, images.source, tuple(empty), images.category, left_out)


def with_found_boxes(splits: DataSplits, found: FoundBoxes) -> DataSplits:
    """Returns the sets of a run with other boxes: around the joints of the labeled persons, found ones in other sets.

    If images show several persons, validation and test persons have boxes around their joints, too.

    Args:
        splits: The sets.
        found: Boxes (n, 4) of each image of `unfound_sets`.

    Raises:
        ConfigError: If a set has another number of images than the found boxes, or no person gets a box.
    """
    labeled, left_out = around_joints(splits.labeled), dict(splits.account.left_out)
    sets: dict[str, Any] = {}
    for name, persons in unfound_sets(splits):
        boxes = found.get(name, [])
        if len(boxes) != len(persons):
            raise ConfigError(
                f"`data.boxes`: boxes were found in {plural(len(boxes), 'image')} of the {name} set, which now has "
                f"{len(persons)}; restore the data, or train in another folder"
            )
        if splits.several:
            sets[name] = with_boxes_in_images(persons, boxes)
            left_out |= sets[name].left_out
        else:
            sets[name] = persons.with_boxes(np.concatenate(boxes))
    others = {"validation": splits.validation, "test": splits.test} if splits.several else {}
    for name, evaluated in others.items():
        if evaluated is not None:
            sets[name] = around_joints(evaluated)
            left_out |= {f"of the {name} set: {ONE_PLACE}": n} if (n := len(evaluated) - len(sets[name])) else {}
    if sets.get("unlabeled") is not None and not len(sets["unlabeled"]):
        raise ConfigError(
            f"`data.boxes`: the unlabeled set has only images {NO_SUBJECT}; give boxes, more labels or more steps"
        )
    left_out |= {ONE_PLACE: dropped} if (dropped := len(splits.labeled) - len(labeled)) else {}
    return replace(splits, labeled=labeled, account=replace(splits.account, left_out=left_out), **sets)


def unfound_sets(splits: DataSplits) -> Iterator[tuple[str, PoseDataset]]:
    """Yields name and persons, one in each whole image, of the sets whose boxes are to be found.

    They are the unlabeled, validation and test set; the unlabeled set alone if images show several persons.
    """
    for name in ("unlabeled",) if splits.several else ("unlabeled", "validation", "test"):
        persons: PoseDataset | None = getattr(splits, name)
        if persons is not None:
            yield name, in_whole_images(persons) if splits.several else persons


def save_boxes(folder: Path, found: FoundBoxes) -> None:
    """Writes the boxes.json of a run folder: the boxes in each image, by set."""
    write_text(folder / FILE, json.dumps({name: [b.tolist() for b in boxes] for name, boxes in found.items()}))


def read_boxes(folder: Path) -> dict[str, list[np.ndarray]] | None:
    """Returns the boxes of the boxes.json of a run folder, None if there is none."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except OSError:
        return None
    return {name: [np.array(b, dtype=float).reshape(-1, 4) for b in boxes] for name, boxes in content.items()}


def with_boxes_of_run(splits: DataSplits, folder: Path) -> DataSplits:
    """Returns the sets of a run with the boxes that it was trained in, as far as its folder has found ones.

    An unlabeled set that has other images now is left out.
    """
    if (found := read_boxes(folder)) is None:
        return splits
    now = next((len(persons) for name, persons in unfound_sets(splits) if name == "unlabeled"), None)
    if now not in (None, len(found.get("unlabeled", []))):
        log.warning(f"{folder}: the unlabeled set has {now} images now, not those of the training; left out")
        splits = replace(splits, unlabeled=None)
    return with_found_boxes(splits, found)
