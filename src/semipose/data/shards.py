"""Shards: crops of unlabeled sets that are too large for one file, visited window by window in a seeded order."""

import hashlib
import json
import mmap
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import simplejpeg

from semipose.data.crop_cache import encode_crops
from semipose.data.crops import CropGeometry, Crops
from semipose.data.leakage import TrainingImages
from semipose.errors import BrokenDataError, ConfigError, DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton
from semipose.utils.files import make_folder, replacing, write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

TABLE = "shards.json"
"""The file that lists the shards of a folder, with their hashes, and the geometry of their crops."""
WINDOW = 8
"""Number of shards whose persons are shuffled together, and which are in use at a time."""
VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One file of a sharded set.

    Attributes:
        file: Name of the file.
        count: Number of persons.
        bytes: Size of the file.
        sha256: Hash of its content.
    """

    file: str
    count: int
    bytes: int
    sha256: str


def is_sharded(folder: Path) -> bool:
    """Returns whether a folder holds shards."""
    return (folder / TABLE).is_file()


def shards_hash(folder: Path) -> str:
    """Returns twelve hexadecimal digits that change with the content of any shard of a folder."""
    return hashlib.sha256((folder / TABLE).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True)
class ShardStream:
    """Endless indices of a set of shards, for training: an `IndexStream` that has few shards in use at a time.

    An epoch takes the shards in a new order and shuffles the persons of each `WINDOW` of them. The indices of a step
    follow from the sizes, the seed and the step alone.

    Attributes:
        sizes: Number of persons of each shard.
        batch: Number of indices of a step and process.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes; each takes its part of the joint batch.
    """

    sizes: tuple[int, ...]
    batch: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def count(self) -> int:
        """Number of persons of the set."""
        return sum(self.sizes)

    def indices(self, step: int) -> list[int]:
        """Returns the `batch` indices of a step; no index comes twice in an epoch."""
        found: list[int] = []
        start, count = (step * self.world_size + self.rank) * self.batch, self.count
        while len(found) < self.batch:
            epoch, position = divmod(start + len(found), count)
            ends = _window_ends(self.sizes, self.seed, epoch)
            window = bisect_right(ends, position)
            position -= ends[window - 1] if window else 0
            persons = _window(self.sizes, self.seed, epoch, window)
            found += persons[position : position + self.batch - len(found)].tolist()
        return found


@lru_cache(maxsize=8)
def _shard_order(sizes: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(len(sizes))


@lru_cache(maxsize=8)
def _window_ends(sizes: tuple[int, ...], seed: int, epoch: int) -> list[int]:
    """The number of persons up to the end of each window of an epoch."""
    order = _shard_order(sizes, seed, epoch)
    return list(accumulate(sum(sizes[i] for i in order[k : k + WINDOW]) for k in range(0, len(order), WINDOW)))


@lru_cache(maxsize=8)
def _window(sizes: tuple[int, ...], seed: int, epoch: int, window: int) -> np.ndarray:
    """The persons of a window in the order of an epoch."""
    starts = np.cumsum([0, *sizes])
    shards = _shard_order(sizes, seed, epoch)[window * WINDOW : (window + 1) * WINDOW]
    persons = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in shards])
    return np.random.default_rng([seed, epoch, window]).permutation(persons)


class ShardedCrops(Crops):
    """Crops of a folder of shards, which follow the crops of a run's own unlabeled persons.

    The own crops count as shards of the same size. The data set is empty: shards hold no boxes and no labels.

    Args:
        folder: The folder of the shards.
        skeleton: The skeleton of the run.
        geometry: The geometry of the run.
        own: The crops of the run's own unlabeled persons.

    Raises:
        DataError: If the table is broken or a shard is missing.
        ConfigError: If the shards were cut with another geometry.
    """

    def __init__(self, folder: Path, skeleton: Skeleton, geometry: CropGeometry, own: Crops | None = None) -> None:
        super().__init__(PoseDataset(skeleton, (), str(folder)), geometry)
        self.folder, self._own, self._own_count = folder, own, len(own) if own else 0
        self._shards = read_table(folder, geometry)
        counts = [shard.count for shard in self._shards]
        self._starts = [0, *accumulate(counts)]
        self.sizes = (*_chunk_sizes(self._own_count, max(counts)), *counts)
        self._open = lru_cache(maxsize=2 * WINDOW)(self._map_shard)

    def __len__(self) -> int:
        return sum(self.sizes)

    def crop(self, index: int) -> np.ndarray:
        """Returns the crop of a person, (S, T, 3) uint8 RGB; raises DataError for a damaged shard."""
        if self._own is not None and index < self._own_count:
            return self._own.crop(index)
        index -= self._own_count
        shard = bisect_right(self._starts, index) - 1
        content, offsets = self._open(shard)
        position = index - self._starts[shard]
        return simplejpeg.decode_jpeg(content[offsets[position] : offsets[position + 1]], "RGB")

    def _map_shard(self, number: int) -> tuple[mmap.mmap, np.ndarray]:
        """A memory-mapped shard and the offsets of its JPEGs."""
        shard = self._shards[number]
        path = self.folder / shard.file
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"shard {path} can't be read ({error}); copy the set again") from None
        if len(content) != shard.bytes:
            raise DataError(f"shard {path} has {len(content)} bytes instead of {shard.bytes}; copy the set again")
        return content, np.frombuffer(content, dtype="<i8", offset=len(content) - 8 * (shard.count + 1)).copy()


def read_table(folder: Path, geometry: CropGeometry) -> list[Shard]:
    """Returns the shards of a folder.

    Raises:
        DataError: If the table is broken or a shard is missing.
        ConfigError: If the shards were cut with another geometry.
    """
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        version, cut_with = table["format"], table["geometry"]
        shards = [Shard(**entry) for entry in table["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / TABLE} is not a table of shards ({type(error).__name__}: {error}); pack again"
        ) from None
    if version != VERSION or not shards:
        raise DataError(f"{folder / TABLE} has another version or lists no shard; pack again")
    missing = [shard.file for shard in shards if not (folder / shard.file).is_file()]
    if missing:
        raise DataError(
            f"{plural(len(missing), 'shard')} of {folder} missing, the first: {missing[0]}; copy the set again"
        )
    if cut_with != _as_json(geometry):
        height, width = cut_with["input_size"]
        raise ConfigError(
            f"the shards of {folder} are cut for {height}×{width} with padding {cut_with['padding']}; set "
            "`input.height`, `input.width` and `input.padding` to that, or pack again"
        )
    return shards


def pack(
    dataset: PoseDataset, geometry: CropGeometry, out: Path, *, size: int, progress: Progress = NO_PROGRESS
) -> int:
    """Cuts a data set into shards, and lists the digests of its images as a run folder does; the table is written last.

    Images are shuffled first, so that the persons of a window of shards are a fair sample; the persons of one image
    stay together.

    Args:
        dataset: The persons.
        geometry: How they are cut.
        out: Folder for the shards.
        size: Number of persons of a shard.
        progress: Shows the progress.

    Returns:
        The number of persons left out because their images can't be read.

    Raises:
        ConfigError: If `out` holds shards already.
        DataError: If no image can be read.
    """
    if is_sharded(out):
        raise ConfigError(f"`out`: {out} holds shards already; choose another folder")
    make_folder(out)
    by_image: dict[Path, list[int]] = defaultdict(list)
    for i, path in enumerate(dataset.instances.paths):
        by_image[Path(path)].append(i)
    groups = [by_image[path] for path in sorted(by_image, key=str)]
    shuffled = [groups[i] for i in np.random.default_rng(0).permutation(len(groups))]
    failed: list[str] = []
    digests: list[str] = []
    jpegs = _jpegs(dataset, shuffled, geometry, failed, digests, progress)
    shards: list[Shard] = []
    while chunk := list(islice(jpegs, size)):
        shards.append(_write_shard(out / f"{len(shards):06d}.crops", chunk))
    if not shards:
        raise BrokenDataError(
            f"{dataset.source}: no image could be read; {(failed or ['the set is empty'])[0]}", failed
        )
    table = {
        "format": VERSION,
        "source": dataset.source,
        "geometry": asdict(geometry),
        "shards": [asdict(shard) for shard in shards],
    }
    TrainingImages((), tuple(sorted(digests)), ()).write(out)
    write_text(out / TABLE, json.dumps(table, indent=1))
    return len(dataset) - sum(shard.count for shard in shards)


def _jpegs(
    dataset: PoseDataset,
    groups: list[list[int]],
    geometry: CropGeometry,
    failed: list[str],
    digests: list[str],
    progress: Progress,
) -> Iterator[bytes]:
    """The encoded crops of persons grouped by image.

    The errors of unreadable images are added to `failed`, the digests of the others to `digests`.
    """
    for result in progress.track(encode_crops(dataset, groups, geometry), len(groups), "packing persons"):
        if isinstance(result, DataError):
            failed.append(str(result))
        else:
            digests.append(result.digest)
            yield from result.crops


def _as_json(geometry: CropGeometry) -> dict[str, object]:
    """The geometry as it comes out of a JSON file."""
    return json.loads(json.dumps(asdict(geometry)))


def _write_shard(path: Path, jpegs: list[bytes]) -> Shard:
    """Writes JPEGs one after the other, then their offsets as little-endian 64-bit integers."""
    offsets = np.cumsum([0, *map(len, jpegs)]).astype("<i8")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([*jpegs, offsets.tobytes()])
    with path.open("rb") as file:
        return Shard(path.name, len(jpegs), path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _chunk_sizes(count: int, size: int) -> Iterator[int]:
    """Splits a count into chunks of `size` and a rest."""
    for start in range(0, count, size):
        yield min(size, count - start)
