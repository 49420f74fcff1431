"""What a data set holds and what is wrong with it, record by record."""

import io
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semipose.data.crops import decode_image, image_bytes, is_turned
from semipose.data.overlap import photographs, shared_photographs
from semipose.data.readers import read_annotations
from semipose.errors import ConfigError, DataError
from semipose.files import is_file


@dataclass(frozen=True)
class Findings:
    """Counts of a data set and its broken records.

    `joints`: by name, how many persons have it visible, occluded and unlabeled. `box_sides`: least, median and largest
    longer side of a box in pixels. `shared`: photographs that the other file has too, None when there was none to
    compare with. `turned`: photographs that EXIF wants turned, whose joints refer to the pixels as stored; None
    where none was opened. `problems`: one line per broken record or image.
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
    files = photographs(persons)
    turned = 0
    for image in files:
        try:
            turned += _look_at(image, decode)
        except DataError as error:
            problems.append(str(error))
    shared = None
    if against is not None:
        pairs = shared_photographs(photographs(read_annotations(against, against_images)), photographs(persons))
        shared = len(pairs)
        problems += [f"image {mine} is also in {against}, as {theirs}" for theirs, mine in pairs]
    everyone = persons.persons
    counts = everyone.visibility[everyone.posed & ~everyone.crowds]
    sides = everyone.boxes[:, 2:].max(axis=1)
    for identity in everyone.annotation_ids[~everyone.usable & ~everyone.crowds]:
        problems.append(f"{path}: annotation {identity}: the box has no area; it is not learned from")
    return Findings(
        source=str(path),
        skeleton=persons.skeleton.name,
        persons=len(persons),
        trainable=int(everyone.trainable.sum()),
        crowds=int(everyone.crowds.sum()),
        images=len(files),
        empty_images=len(persons.empty),
        joints={
            name: (int((own == 2).sum()), int((own == 1).sum()), int((own == 0).sum()))
            for name, own in zip(persons.skeleton.joints, counts.T, strict=True)
        },
        box_sides=(float(sides.min()), float(np.median(sides)), float(sides.max())),
        shared=shared,
        turned=turned if decode else None,
        problems=tuple(problems),
    )


def _look_at(path: Path, decode: bool) -> bool:
    """Whether EXIF wants the photograph turned, if it is decoded; DataError when it is missing or broken."""
    if not is_file(path):
        raise DataError(f"image {path} is missing; check the image folder")
    if not decode:
        return False
    content = image_bytes(path)
    decode_image(path, content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images
        with Image.open(io.BytesIO(content)) as image:
            return is_turned(image)
