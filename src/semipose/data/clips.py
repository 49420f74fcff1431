"""Clips: images that are frames of one recording, found by their names and confirmed by their content."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from semipose.data.images import read_image
from semipose.errors import DataError

MAX_GAP = 10
"""Frames whose numbers differ by more are no neighbors: at 30 a second they are a third of a second apart."""
ALIKE = 0.75
"""Neighbors differ by less than this part of the difference of images far apart. It is .06 to .36 for frames one or ten
apart in a video of the open field, .35 for its labeled frames, and .97 to 1 for photographs (LSP, COCO)."""
FEWEST = 8
"""Number of images from which on they can be a clip."""
PAIRS = 32
"""Largest number of pairs of images that are compared to decide on a clip."""
THUMBNAIL_SIZE = 32
NUMBERED = re.compile(r"(.*?)(\d+)")
CAMERA = re.compile(r"[_-](?:cam|camera|view)[_-]?\d+$", re.IGNORECASE)
"""What names of synchronized cameras may end in, after the number of the frame."""
LABEL_STUDIO = re.compile(r"^(?=\d*[a-f])[0-9a-f]{8}-")
"""What names of Label Studio's uploads begin with; without a letter it may be a date."""
ROBOFLOW = re.compile(r"_[A-Za-z]+\.rf\.\w+$")
"""What names of Roboflow's images end in, of which several may be made of one."""

Clip = tuple[Path, str]
"""The folder of a clip and the beginning of the names of its images."""


class Thumbnail(NamedTuple):
    """The height and width of an image, and (32, 32) gray levels: averages over the cells of a grid."""

    size: tuple[int, int]
    gray: np.ndarray


def thumbnail(image: np.ndarray) -> Thumbnail:
    """Returns the thumbnail of an image (H, W, 3) uint8 RGB."""
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return Thumbnail((image.shape[0], image.shape[1]), gray.astype(np.float32))


def original(image: Path) -> Path:
    """Returns the path without what Roboflow adds to the name: the same for all images that it made of one."""
    return image.with_stem(ROBOFLOW.sub("", image.stem))


def copies_by_name(images: Iterable[Path]) -> dict[Path, set[Path]]:
    """Returns the other images that Roboflow made of the same one, for images that have any."""
    groups: dict[Path, set[Path]] = defaultdict(set)
    for image in images:
        groups[original(image)].add(image)
    return {image: group - {image} for group in groups.values() if len(group) > 1 for image in group}


def frame_of(image: Path) -> tuple[Clip, int] | None:
    """Returns the clip and the number of an image by its name; None for a name that does not end in a number.

    What Label Studio and Roboflow add to names does not count: `1a2b3c4d-img7.jpg` and `img7_jpg.rf.5e6f….jpg` are 7.
    Nor does the camera at the end: `img7_cam1.jpg` is number 7 of a clip, and `img7_cam2.jpg` of another one.
    """
    name = LABEL_STUDIO.sub("", original(image).stem)
    without = CAMERA.sub("", name)
    if match := NUMBERED.fullmatch(without):
        return (image.parent, match[1] + name[len(without) :]), int(match[2])
    match = NUMBERED.fullmatch(name)
    return ((image.parent, match[1]), int(match[2])) if match else None


def clips(images: Iterable[Path]) -> dict[Clip, list[Path]]:
    """Returns the images that may be frames of a clip, in the order of their numbers.

    They lie in one folder and have one name but for the number at its end. Other images are left out.
    """
    found: dict[Clip, list[tuple[int, Path]]] = defaultdict(list)
    for image in dict.fromkeys(images):
        if frame := frame_of(image):
            found[frame[0]].append((frame[1], image))
    return {clip: [image for _, image in sorted(numbered)] for clip, numbered in found.items()}


def near_pairs(members: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Returns the neighbors by number in a clip, whose images are in order; the first of a pair is the earlier one."""
    numbers = np.array([frame[1] if (frame := frame_of(image)) else 0 for image in members])
    gaps = np.diff(np.unique(numbers))  # a number occurs again in augmented copies
    limit = min(MAX_GAP, float(np.median(gaps))) if len(gaps) else 0
    ends = np.searchsorted(numbers, numbers + limit, side="right").tolist()
    return [(image, members[later]) for n, image in enumerate(members) for later in range(n + 1, ends[n])]


def neighbors(images: Iterable[Path]) -> dict[Path, set[Path]]:
    """Returns the images next to each image in the same clip, for images that have one.

    The numbers at the end of the names of neighbors differ by at most 10, and by no more than is usual in the clip (the
    median). Photographs that a data set numbers look like a clip by name; therefore up to 32 pairs of neighbors are
    compared, and if they are not more alike than images half of the clip apart, they are no clip. (Of a clip with fewer
    than 8 images, than any images half of the list apart; among fewer than 8 images in all, there is no clip.)
    """
    everything = list(dict.fromkeys(images))
    thumbnails: dict[Path, Thumbnail | None] = {}
    found: dict[Path, set[Path]] = defaultdict(set)
    far_in_all: float | None = None
    for members in clips(everything).values():
        pairs = near_pairs(members)
        if not pairs or len(everything) < FEWEST:
            continue
        if len(members) >= FEWEST:
            far = _far_difference(members, thumbnails)
        else:
            far = far_in_all = _far_difference(everything, thumbnails) if far_in_all is None else far_in_all
        if _median_difference(pairs, thumbnails) < ALIKE * far:
            for a, b in pairs:
                found[a].add(b)
                found[b].add(a)
    return dict(found)


def held_out_neighbors(training: Iterable[Path], held_out: Iterable[Path]) -> list[Path]:
    """Returns the held-out images that are next to an image of the training in the same clip."""
    trained, held = set(training), list(dict.fromkeys(held_out))
    near = neighbors([*trained, *held])
    return [image for image in held if image not in trained and near.get(image, set()) & trained]


def _far_difference(images: Sequence[Path], thumbnails: dict[Path, Thumbnail | None]) -> float:
    """The median difference of images that are half of the list apart."""
    half = len(images) // 2
    return _median_difference(list(zip(images, images[half:], strict=False)), thumbnails)


def _median_difference(pairs: Sequence[tuple[Path, Path]], thumbnails: dict[Path, Thumbnail | None]) -> float:
    """The median over up to `PAIRS` of the pairs."""
    number = min(PAIRS, len(pairs))
    chosen = [pairs[n * len(pairs) // number] for n in range(number)]
    return float(np.median([_difference(a, b, thumbnails) for a, b in chosen]))


def _difference(first: Path, second: Path, thumbnails: dict[Path, Thumbnail | None]) -> float:
    """The mean difference of two images in gray levels; 255 if one can't be read or their sizes differ."""
    a, b = (_thumbnail(path, thumbnails) for path in (first, second))
    if a is None or b is None or a.size != b.size:
        return 255.0
    return float(np.abs(a.gray - b.gray).mean())


def _thumbnail(path: Path, thumbnails: dict[Path, Thumbnail | None]) -> Thumbnail | None:
    """The thumbnail of an image; None if it can't be read."""
    if path not in thumbnails:
        try:
            thumbnails[path] = thumbnail(read_image(path))
        except DataError:
            thumbnails[path] = None
    return thumbnails[path]
