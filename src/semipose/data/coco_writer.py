"""Writes COCO containers, and joins several data sets into one."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semipose.data.records import Person, PersonSet
from semipose.errors import ConfigError
from semipose.files import write_text


def write_coco(persons: PersonSet, path: Path) -> Path:
    """Writes a container that `read_coco` reads back; returns the folder that its image names are relative to.

    Images that show nobody are listed too: a detector's boxes there count against it. Width and height are those of the
    file as it is stored, and are left out of images that can't be opened.
    """
    shown = persons.photographs
    folders = {image.parent for image in shown.values()}
    root = folders.pop() if len(folders) == 1 else Path(*_common(image.parts[:-1] for image in shown.values()))
    images = [{"id": i, "file_name": image.relative_to(root).as_posix(), **_size(image)} for i, image in shown.items()]
    category = {
        "id": 1,
        "name": "person",
        "keypoints": list(persons.skeleton.joints),
        "skeleton": [[a + 1, b + 1] for a, b in persons.skeleton.limbs],
    }
    records = [_record(person) for person in persons.persons]
    write_text(path, json.dumps({"images": images, "annotations": records, "categories": [category]}))
    return root


def join(sets: Sequence[PersonSet]) -> tuple[PersonSet, int]:
    """All sets as one, ids numbered anew from 1, over the joints of the first.

    Of a photograph (by path) in which several sets have people, those of the last count: corrected labels come after
    what they correct. Returns the set and how many photographs that was. Raises ConfigError for other joints.
    """
    first, latest = sets[0], {}
    numbers: dict[Path, int] = {}
    places: dict[Path, Path] = {}
    for number, persons in enumerate(sets):
        odd = sorted(set(persons.skeleton.joints) ^ set(first.skeleton.joints))
        if odd:
            raise ConfigError(
                f"{persons.source} and {first.source} have different joints (one of them: {odd[0]}); map them onto one "
                "skeleton with --skeleton"
            )
        for image in persons.photographs.values():
            places.setdefault(image.resolve(), image.absolute())
            numbers.setdefault(image.resolve(), len(numbers) + 1)
        for place in set(persons.persons.paths):
            latest[Path(place).resolve()] = number
    kept: list[Person] = []
    replaced = set()
    for number, persons in enumerate(sets):
        for person in persons.mapped(first.skeleton).persons:
            image = person.image.resolve()
            if latest[image] == number:
                own = len(kept) + 1
                kept.append(replace(person, image=places[image], image_id=numbers[image], annotation_id=own))
            else:
                replaced.add(image)
    empty = tuple((number, places[image]) for image, number in numbers.items() if image not in latest)
    source = " + ".join(persons.source for persons in sets)
    return PersonSet(first.skeleton, kept, source, empty), len(replaced)


def _record(person: Person) -> dict[str, Any]:
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
