"""What a data set holds and what is wrong with it, record by record."""

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from semipose.data.formats.registry import read_annotations
from semipose.data.images import decode_image, has_exif_orientation, read_image_bytes
from semipose.data.leakage import image_paths, shared_images
from semipose.errors import ConfigError, DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.utils.files import is_file


@dataclass(frozen=True)
class Findings:
    """Counts of a data set and its broken records.

    `joints`: by name, how many persons have it visible, occluded and unlabeled. `box_sides`: least, median and largest
    longer side of a box in pixels. `shared`: photographs that the other file has too, None when there was none to
    compare with. `turned`: photographs that EXIF wants turned, whose joints refer to the pixels as stored; None
    where none was opened. `problems`: one line per broken record or image. `doubts`: one line each for what is learned
    from and looks wrong: joints and boxes outside of the picture, another size than the file says; looked for where
    images are opened.
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
    shared: int | None
    turned: int | None
    problems: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def check_data(
    path: Path,
    images: Path | None = None,
    *,
    decode: bool = False,
    against: Path | None = None,
    against_images: Path | None = None,
) -> Findings:
    """Reads a data set to its end and lists every broken record, missing image and, with `decode`, broken image.

    With `against`, another annotation file (`against_images` is its image folder), also every photograph that both
    have, by content. Raises DataError only where a file as a whole can't be read, ConfigError for a folder alone.
    """
    if against_images and against is None:
        raise ConfigError("--against-images is the image folder of --against; give both")
    problems: list[str] = []
    persons = read_annotations(path, images, problems=problems)
    files = image_paths(persons)
    looked: dict[Path, _Look] = {}
    missing = sum(not is_file(image) for image in files)
    if missing > len(files) / 2 > 1:
        problems.append(f"{missing} of {len(files)} images are missing: is --images the right folder?")
    for image in files:
        try:
            looked[image] = _look_at(image, decode)
        except DataError as error:
            problems.append(str(error))
    shared = None
    if against is not None:
        pairs = shared_images(image_paths(read_annotations(against, against_images)), image_paths(persons))
        shared = len(pairs)
        problems += [f"image {mine} is also in {against}, as {theirs}" for theirs, mine in pairs]
    everyone = persons.instances
    counts = everyone.visibility[everyone.annotated & ~everyone.is_crowd]
    sides = everyone.boxes[:, 2:].max(axis=1)
    for identity in everyone.annotation_ids[~everyone.usable & ~everyone.is_crowd]:
        problems.append(f"{path}: annotation {identity}: the box has no area; it is not learned from")
    return Findings(
        source=str(path),
        skeleton=persons.skeleton.name,
        persons=len(persons),
        trainable=int(everyone.trainable.sum()),
        crowds=int(everyone.is_crowd.sum()),
        images=len(files),
        empty_images=len(persons.empty_images),
        joints={
            name: (int((own == 2).sum()), int((own == 1).sum()), int((own == 0).sum()))
            for name, own in zip(persons.skeleton.joints, counts.T, strict=True)
        },
        box_sides=(float(sides.min()), float(np.median(sides)), float(sides.max())),
        shared=shared,
        turned=sum(look.turned for look in looked.values()) if decode else None,
        problems=tuple(problems),
        doubts=tuple(_doubts(path, persons, looked)) if decode else (),
    )


class _Look(NamedTuple):
    """An opened photograph: whether EXIF wants it turned, and its width and height; (0, 0) where it stayed closed."""

    turned: bool
    size: tuple[int, int]


def _doubts(path: Path, persons: PoseDataset, looked: dict[Path, _Look]) -> Iterator[str]:
    """What can be learned from and is hardly meant."""
    shown = persons.image_paths
    for identity, told in _declared(path).items():
        look = looked.get(shown.get(identity, Path()))
        if look and look.size != told:
            (width, height), (w, h) = look.size, told
            yield f"image {identity} is {width}×{height} pixels, its record says {w}×{h}: were joints set on another?"
    for person in persons.instances:
        if person.image in looked:
            yield from _outside(person, looked[person.image].size, persons.skeleton.joints)


def _outside(person: Instance, size: tuple[int, int], joints: Sequence[str]) -> Iterator[str]:
    """Box and labeled joints that do not lie in the picture."""
    (width, height), (x, y, w, h), who = size, person.box, f"annotation {person.annotation_id}"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        yield f"{who}: the box {[round(v) for v in person.box]} lies outside of its image of {width}×{height}"
    if person.joints is not None and person.visibility is not None:
        out = np.any((person.joints < -0.5) | (person.joints > np.array(size) - 0.5), axis=1) & (person.visibility > 0)
        names = [
            f"{joints[int(k)]} ({person.joints[k, 0]:.0f}, {person.joints[k, 1]:.0f})" for k in np.flatnonzero(out)
        ]
        if names:
            yield f"{who}: {', '.join(names)} outside of its image of {width}×{height}"


def _declared(path: Path) -> dict[int | str, tuple[int, int]]:
    """Width and height of images by id, as a COCO container says."""
    try:
        content = json.loads(path.read_text())
        records = content["images"]
        return {r["id"]: (r["width"], r["height"]) for r in records if r.get("width") and r.get("height")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _look_at(path: Path, decode: bool) -> _Look:
    """A photograph, opened if it is to be decoded; DataError when it is missing or broken."""
    if not is_file(path):
        raise DataError(f"image {path} is missing; check the image folder")
    if not decode:
        return _Look(False, (0, 0))
    content = read_image_bytes(path)
    height, width = decode_image(path, content).shape[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images
        with Image.open(io.BytesIO(content)) as image:
            return _Look(has_exif_orientation(image), (width, height))
