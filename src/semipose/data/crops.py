"""Crops: each person cut from its photograph once, with context for rotation and scale, and kept in a packed file."""

import hashlib
import io
import json
import logging
import mmap
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from semipose.data.records import Person, PersonSet
from semipose.errors import DataError

log = logging.getLogger(__name__)

MOST_PIXELS = 100_000_000
"""Larger photographs are refused before they are decoded: a few kilobytes of PNG can hold gigabytes."""
MEAN_COLOR = (124, 116, 104)
"""Fills what lies outside a photograph: ImageNet's mean, which normalization turns to zero."""


@dataclass(frozen=True)
class CropGeometry:
    """How a person box becomes a source crop and a source crop becomes network input.

    `input_size` (H, W) in pixels; the box, at the input's aspect ratio and grown by `padding`, fills the input. A crop
    shows `context` times that region at `oversample` times the input's resolution.
    """

    input_size: tuple[int, int]
    padding: float = 1.25
    context: float = 1.6
    oversample: float = 1.25

    @property
    def crop_size(self) -> tuple[int, int]:
        """(S, T) of a crop in pixels, even numbers."""
        factor = self.context * self.oversample / 2
        return 2 * round(self.input_size[0] * factor), 2 * round(self.input_size[1] * factor)

    @property
    def to_input(self) -> np.ndarray:
        """Crop pixels -> input pixels of the upright view, (3, 3); the same for every person."""
        (height, width), (rows, columns) = self.input_size, self.crop_size
        scale = 1 / self.oversample
        return np.array(
            [
                [scale, 0, (width - 1) / 2 - scale * (columns - 1) / 2],
                [0, scale, (height - 1) / 2 - scale * (rows - 1) / 2],
                [0, 0, 1],
            ]
        )

    def from_image(self, box: Sequence[float]) -> np.ndarray:
        """Image pixels -> crop pixels for a box [x, y, width, height], (3, 3) float64."""
        x, y, width, height = box
        scale = min(self.input_size[1] / width, self.input_size[0] / height) / self.padding * self.oversample
        rows, columns = self.crop_size
        center_x, center_y = x + (width - 1) / 2, y + (height - 1) / 2
        return np.array(
            [
                [scale, 0, (columns - 1) / 2 - scale * center_x],
                [0, scale, (rows - 1) / 2 - scale * center_y],
                [0, 0, 1],
            ]
        )


class Crops(Protocol):
    """Source crops of persons, by position."""

    geometry: CropGeometry
    persons: PersonSet

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB."""
        ...


def read_image(path: Path) -> np.ndarray:
    """Photograph as (H, W, 3) uint8 RGB, in the orientation it is stored in (annotations refer to it).

    Raises DataError with the path when it is missing, broken or larger than `MOST_PIXELS`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"image {path} can't be read ({error.strerror}); check the image folder") from None
    try:
        if simplejpeg.is_jpeg(content):
            height, width, _, _ = simplejpeg.decode_jpeg_header(content)
            _refuse_bombs(path, width, height)
            return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:
        pass  # CMYK and other rarities: Pillow's turn
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images; what is too large is refused here
            with Image.open(io.BytesIO(content)) as image:
                _refuse_bombs(path, *image.size)
                return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"image {path} is broken ({str(error)[:80]}); repair or remove it") from None


def _refuse_bombs(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise DataError(
            f"image {path} has {width * height / 1e6:.0f} megapixels, {MOST_PIXELS / 1e6:.0f} at most: scale it down"
        )


def cut(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The crop of `size` (S, T) that `matrix` (image -> crop pixels) shows; large people are averaged down first."""
    reduce = int(1 / matrix[0, 0]) if matrix[0, 0] < 0.5 else 1
    if reduce > 1:
        # Only the part that is seen is reduced; whole blocks of pixels, so that pixel centers stay exact.
        inverse = np.linalg.inv(matrix)
        left, top = np.floor(inverse[:2, 2] - reduce).astype(int).clip(0)
        right, bottom = np.ceil(inverse[:2, :2] @ (size[1], size[0]) + inverse[:2, 2] + reduce).astype(int)
        part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        rows, columns = part.shape[0] // reduce, part.shape[1] // reduce
        if rows and columns:
            part = np.ascontiguousarray(part[: rows * reduce, : columns * reduce])
            image = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
            grow = np.array(
                [[reduce, 0, left + (reduce - 1) / 2], [0, reduce, top + (reduce - 1) / 2], [0, 0, 1]], dtype=float
            )
            matrix = matrix @ grow
    return cv2.warpAffine(image, matrix[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=MEAN_COLOR)


class FreshCrops:
    """Crops cut on demand, for prediction; the last photograph stays in memory for its other persons."""

    def __init__(self, persons: PersonSet, geometry: CropGeometry) -> None:
        self.persons, self.geometry = persons, geometry
        self._read = lru_cache(maxsize=2)(read_image)

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB; DataError for an unreadable photograph."""
        person = self.persons[index]
        return cut(self._read(person.image), self.geometry.from_image(person.box), self.geometry.crop_size)


class CropStore:
    """Crops in one packed file of JPEGs, memory-mapped: memory stays bounded whatever the number of persons."""

    QUALITY = 95

    def __init__(self, path: Path, persons: PersonSet, geometry: CropGeometry) -> None:
        index = np.load(path / "index.npz")
        self.persons, self.geometry = persons.subset(index["kept"].tolist()), geometry
        self._offsets = index["offsets"]
        with (path / "crops.bin").open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB."""
        return simplejpeg.decode_jpeg(self._bytes[self._offsets[index] : self._offsets[index + 1]], "RGB")


def cache_root() -> Path:
    """Where packed crops live: $SEMIPOSE_CACHE, else the user's cache folder."""
    base = os.environ.get("SEMIPOSE_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "semipose"


def open_crops(
    persons: PersonSet,
    geometry: CropGeometry,
    *,
    cache: Path | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    watch: "Watch | None" = None,
) -> CropStore:
    """The packed crops of `persons`, made on first use and found again by their content.

    `on_error`: an unreadable photograph raises DataError, or its persons are left out with a warning that counts them.
    `watch(iterable, total, what)` may wrap the work in a progress bar.
    """
    path = (cache or cache_root()) / "crops" / _key(persons, geometry)
    if not (path / "index.npz").is_file():
        _build(path, persons, geometry, on_error, watch)
    return CropStore(path, persons, geometry)


class Watch(Protocol):
    """Wraps an iterable to show how far it is."""

    def __call__(self, work: Iterable, total: int, what: str) -> Iterable:
        """The same items."""
        ...


def _key(persons: PersonSet, geometry: CropGeometry) -> str:
    digest = hashlib.sha256(json.dumps([asdict(geometry), CropStore.QUALITY, 1]).encode())
    stats: dict[str, tuple[int, int]] = {}
    for path, box in zip(persons.persons.paths, persons.persons.boxes.tolist(), strict=True):
        if path not in stats:
            try:
                stat = Path(path).stat()
                stats[path] = (stat.st_size, stat.st_mtime_ns)
            except OSError:
                stats[path] = (-1, -1)
        digest.update(repr((path, stats[path], tuple(box))).encode())
    return digest.hexdigest()[:24]


def _build(path: Path, persons: PersonSet, geometry: CropGeometry, on_error: str, watch: Watch | None) -> None:
    """Cuts photograph by photograph in threads, in order; both files appear by renaming, the index last."""
    path.mkdir(parents=True, exist_ok=True)
    temporary = path / f"crops.{os.getpid()}.tmp"
    image = persons.persons.paths.__getitem__
    groups = [list(members) for _, members in groupby(sorted(range(len(persons)), key=image), key=image)]
    encoded: dict[int, tuple[int, int]] = {}
    failed: list[str] = []
    position = 0
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool, temporary.open("wb") as file:
            results: Iterable = pool.map(lambda g: _encode(persons, g, geometry), groups)
            for group, result in zip(
                groups, watch(results, len(groups), "cutting people") if watch else results, strict=True
            ):
                if isinstance(result, DataError):
                    if on_error == "raise":
                        raise result
                    failed.append(str(result))
                    continue
                for i, jpeg in zip(group, result, strict=True):
                    file.write(jpeg)
                    encoded[i] = (position, len(jpeg))
                    position += len(jpeg)
        if failed:
            log.warning("%d of %d photographs left out; the first: %s", len(failed), len(groups), failed[0])
        if not encoded:
            raise DataError(
                f"{persons.source}: no photograph could be read; " + (failed[0] if failed else "the set is empty")
            )
        _repack(temporary, encoded, path)
    finally:
        temporary.unlink(missing_ok=True)


def _repack(temporary: Path, encoded: dict[int, tuple[int, int]], path: Path) -> None:
    """Puts the crops in the order of the set, so that neighbors in the set are neighbors on disk."""
    kept = sorted(encoded)
    packed = path / f"packed.{os.getpid()}.tmp"
    offsets = np.zeros(len(kept) + 1, dtype=np.int64)
    with temporary.open("rb") as source, packed.open("wb") as target:
        for n, i in enumerate(kept):
            start, length = encoded[i]
            source.seek(start)
            target.write(source.read(length))
            offsets[n + 1] = offsets[n] + length
    packed.replace(path / "crops.bin")
    index = path / f"index.{os.getpid()}.npz"
    np.savez(index, kept=np.array(kept), offsets=offsets)
    index.replace(path / "index.npz")


def _encode(persons: PersonSet, group: list[int], geometry: CropGeometry) -> list[bytes] | DataError:
    try:
        image = read_image(persons[group[0]].image)
    except DataError as error:
        return error
    return [_jpeg(image, persons[i], geometry) for i in group]


def _jpeg(image: np.ndarray, person: Person, geometry: CropGeometry) -> bytes:
    crop = cut(image, geometry.from_image(person.box), geometry.crop_size)
    return simplejpeg.encode_jpeg(crop, CropStore.QUALITY, "RGB", "444", fastdct=False)
