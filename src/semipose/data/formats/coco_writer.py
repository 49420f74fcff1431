"""Writes COCO containers, and joins several data sets into one."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.utils.files import write_text
from semipose.utils.progress import NO_PROGRESS, Progress


def write_coco(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes a container that `read_coco` reads back; returns the folder that its image names are relative to.

    Images that show nobody are listed too: a detector's boxes there count against it. Width and height are those of the
    file as it is stored, and are left out of images that can't be opened. `watch` as in `Predictor.predict`.
    """
    shown = {identity: _whole(image) for identity, image in persons.image_paths.items()}
    folders = {image.parent for image in shown.values()}
    root = folders.pop() if len(folders) == 1 else Path(*_common(image.parts[:-1] for image in shown.values()))
    pairs = progress.track(shown.items(), len(shown), "reading image sizes")
    images = [{"id": i, "file_name": image.relative_to(root).as_posix(), **_size(image)} for i, image in pairs]
    category = {
        "id": 1,
        "name": "person",
        "keypoints": list(persons.skeleton.joints),
        "skeleton": [[a + 1, b + 1] for a, b in persons.skeleton.limbs],
    }
    records = [_record(person) for person in persons.instances]
    write_text(path, json.dumps({"images": images, "annotations": records, "categories": [category]}))
    return root


class Joined(NamedTuple):
    """Several sets as one.

    `replaced`: photographs whose labeled people a later set replaced; `outlived`: those that a later set lists without
    labeled people, where the earlier ones stay.
    """

    persons: PoseDataset
    replaced: int
    outlived: int


def join(sets: Sequence[PoseDataset]) -> Joined:
    """All sets as one, ids numbered anew from 1, over the joints of the first.

    Of a photograph (by path) in which several sets have labeled people, what the last of them has there counts:
    corrected labels come after what they correct. A set that merely lists it, or has a crowd or a box without joints
    there, replaces nobody. Raises ConfigError for other joints.
    """
    first = sets[0]
    latest: dict[Path, int] = {}
    listed: dict[Path, int] = {}
    places: dict[Path, Path] = {}
    for number, persons in enumerate(sets):
        odd = sorted(set(persons.skeleton.joints) ^ set(first.skeleton.joints))
        if odd:
            raise ConfigError(
                f"{persons.source} and {first.source} have different joints (one of them: {odd[0]}); map them onto one "
                "skeleton with --skeleton"
            )
        for image in persons.image_paths.values():
            places.setdefault(image.resolve(), image)
            listed[image.resolve()] = number
        for place in set(persons.instances.take(np.flatnonzero(_counts(persons))).paths):
            latest[Path(place).resolve()] = number
    numbers = {image: number for number, image in enumerate(places, start=1)}
    kept: list[Instance] = []
    replaced = set()
    for number, persons in enumerate(sets):
        counts = _counts(persons)
        for index, person in enumerate(persons.to_skeleton(first.skeleton).instances):
            image = person.image.resolve()
            if latest.get(image, number) == number:
                own = len(kept) + 1
                kept.append(replace(person, image=places[image], image_id=numbers[image], annotation_id=own))
            elif counts[index]:
                replaced.add(image)
    shown = {person.image_id for person in kept}
    empty = tuple((number, places[image]) for image, number in numbers.items() if number not in shown)
    source = " + ".join(persons.source for persons in sets)
    outlived = sum(listed[image] > number for image, number in latest.items())
    return Joined(PoseDataset(first.skeleton, kept, source, empty), len(replaced), outlived)


def _counts(persons: PoseDataset) -> np.ndarray:
    """Who is labeled and no crowd, (N,)."""
    return persons.instances.labeled & ~persons.instances.is_crowd


def _record(person: Instance) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": person.annotation_id,
        "image_id": person.image_id,
        "category_id": 1,
        "iscrowd": int(person.is_crowd),
        "bbox": list(person.box),
        "area": person.area,
    }
    if person.joints is not None and person.visibility is not None:
        flat = np.column_stack([person.joints, person.visibility])
        record["keypoints"] = [int(v) if v == int(v) else float(v) for v in flat.ravel()]
        record["num_keypoints"] = int((person.visibility > 0).sum())
    if person.head_size is not None:
        record["head_size"] = person.head_size
    return record


def _whole(path: Path) -> Path:
    """The absolute path without `..`, which names in a container may not hold."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (links stay what they are called)


def _size(image: Path) -> dict[str, int]:
    """Width and height of an image file, from its header."""
    try:
        with Image.open(image) as opened:
            return {"width": opened.width, "height": opened.height}
    except Exception:  # whatever Pillow makes of a file that is no image
        return {}


def _common(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    lists = list(paths)
    first, last = min(lists), max(lists)
    return next((first[:i] for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), first)
