"""Unlabeled sets larger than a disk: crops in shards, visited window by window, in an order by seed and step."""

import hashlib
import json
import mmap
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate, groupby, islice
from pathlib import Path

import numpy as np
import simplejpeg
from filelock import FileLock

from semipose.data.crop_cache import encode_people
from semipose.data.crops import CropGeometry, Crops
from semipose.errors import ConfigError, DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton
from semipose.utils.cache import cache_dir
from semipose.utils.files import make_folder, replacing, write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

TABLE = "shards.json"
"""Lists a set's shards, with their hashes, and the geometry that they were cut for."""
WINDOW = 8
"""Shards whose persons are mixed with each other; these are all that is in use at a time."""
FORMAT = 1


def is_sharded(folder: Path) -> bool:
    """Whether `folder` holds packed shards."""
    return (folder / TABLE).is_file()


@dataclass(frozen=True)
class ShardStream:
    """Indices of a set of shards of `sizes` persons, like IndexStream's: of every pass, none twice, never running dry.

    A pass takes the shards in a new order and shuffles the persons of each WINDOW of them. What a step sees follows
    from the seed, the step and the sizes alone; `rank` of `world` processes takes its part of each joint batch.
    """

    sizes: tuple[int, ...]
    batch: int
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def count(self) -> int:
        """Persons of the set."""
        return sum(self.sizes)

    def indices(self, step: int) -> list[int]:
        """The `batch` indices of a step; none twice in a pass."""
        found: list[int] = []
        start, count = (step * self.world + self.rank) * self.batch, self.count
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
    order = _shard_order(sizes, seed, epoch)
    return list(accumulate(sum(sizes[i] for i in order[k : k + WINDOW]) for k in range(0, len(order), WINDOW)))


@lru_cache(maxsize=8)
def _window(sizes: tuple[int, ...], seed: int, epoch: int, window: int) -> np.ndarray:
    """Persons of a window in the order in which they are visited."""
    starts = np.cumsum([0, *sizes])
    shards = _shard_order(sizes, seed, epoch)[window * WINDOW : (window + 1) * WINDOW]
    persons = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in shards])
    return np.random.default_rng([seed, epoch, window]).permutation(persons)


class ShardedCrops:
    """Crops of packed shards, behind those of `own` persons, which count as shards of like size.

    With `local` > 0 a shard is copied to the cache folder, and its hash checked, before it is read; `local` of them
    stay. A process that still reads one that has gone keeps it until it is done.
    """

    def __init__(self, folder: Path, skeleton: Skeleton, geometry: CropGeometry, own: Crops | None, local: int) -> None:
        self.folder, self.geometry, self.local = folder, geometry, local
        self._table = read_table(folder, geometry)
        if 0 < local < WINDOW:
            raise ConfigError(f"data.local_shards: {WINDOW} shards are in use at a time; write {WINDOW} or more, or 0")
        self.dataset = PoseDataset(skeleton, (), str(folder))
        counts = [shard["count"] for shard in self._table["shards"]]
        self._own, self._before = own, len(own) if own else 0
        self._starts = [0, *accumulate(counts)]
        self.sizes = (*_chunks(self._before, max(counts)), *counts)
        self._open = lru_cache(maxsize=2 * WINDOW)(self._mapped)

    def __len__(self) -> int:
        return sum(self.sizes)

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB."""
        if self._own is not None and index < self._before:
            return self._own.crop(index)
        index -= self._before
        shard = bisect_right(self._starts, index) - 1
        content, offsets = self._open(shard)
        place = index - self._starts[shard]
        return simplejpeg.decode_jpeg(content[offsets[place] : offsets[place + 1]], "RGB")

    def _mapped(self, shard: int) -> tuple[mmap.mmap, np.ndarray]:
        entry = self._table["shards"][shard]
        path = self._fetched(entry) if self.local else self.folder / entry["file"]
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"shard {path} can't be read ({error}); fetch the set again") from None
        if len(content) != entry["bytes"]:
            raise DataError(f"shard {path} has {len(content)} bytes instead of {entry['bytes']}; fetch it again")
        count = entry["count"] + 1
        return content, np.frombuffer(content, dtype="<i8", offset=len(content) - 8 * count).copy()

    def _fetched(self, entry: dict) -> Path:
        """The shard's copy in the cache folder."""
        folder = cache_dir() / "shards" / shards_hash(self.folder)
        path = folder / entry["file"]
        if path.is_file():
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not path.is_file():
                _copy_checked(self.folder / entry["file"], path, entry["sha256"])
                present = sorted(folder.glob("*.crops"), key=lambda p: p.stat().st_mtime_ns)
                for old in present[: -self.local]:
                    old.unlink()
        return path


def shards_hash(folder: Path) -> str:
    """Twelve hexadecimal digits that change with the content of any shard of `folder`."""
    return hashlib.sha256((folder / TABLE).read_bytes()).hexdigest()[:12]


def read_table(folder: Path, geometry: CropGeometry) -> dict:
    """The table of a folder of shards. Raises DataError when it is broken, ConfigError when cut for another input."""
    try:
        table = json.loads((folder / TABLE).read_text())
        entries = [(s["file"], s["count"] > 0, s["bytes"], s["sha256"]) for s in table["shards"]]
        theirs = table["geometry"]
        known = table["format"] == FORMAT and entries
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / TABLE} is no table of shards ({type(error).__name__}: {error}); pack again"
        ) from None
    if not known:
        raise DataError(f"{folder / TABLE} is of another version or lists no shard; pack again")
    ours = json.loads(json.dumps(asdict(geometry)))
    missing = [folder / s["file"] for s in table["shards"] if not (folder / s["file"]).is_file()]
    if missing:
        number = plural(len(missing), "shard")
        raise DataError(f"{number} of {folder} missing, the first: {missing[0].name}; fetch the set again")
    if theirs != ours:
        height, width = theirs["input_size"]
        raise ConfigError(
            f"the shards of {folder} are cut for {height}×{width} with padding {theirs['padding']}; set input.height, "
            "input.width and input.padding to that, or pack again"
        )
    return table


def pack(
    persons: PoseDataset, geometry: CropGeometry, out: Path, *, size: int, progress: Progress = NO_PROGRESS
) -> int:
    """Cuts `persons` into shards of `size` persons below `out`; the table comes last. Returns how many were left out.

    Photographs are shuffled first, so that a window of shards is a fair sample; the persons of one stay together.
    Raises ConfigError when `out` holds shards already, DataError when no photograph can be read.
    """
    if is_sharded(out):
        raise ConfigError(f"{out} holds shards already; choose another --out")
    make_folder(out)
    by_image = sorted(range(len(persons)), key=lambda i: str(persons[i].image))
    groups = [list(members) for _, members in groupby(by_image, key=lambda i: persons[i].image)]
    shuffled = [groups[i] for i in np.random.default_rng(0).permutation(len(groups))]
    crops = _readable(encode_people(persons, shuffled, geometry), len(groups), progress)
    shards: list[dict] = []
    while chunk := list(islice(crops, size)):
        shards.append(_write(out / f"{len(shards):06d}.crops", chunk))
    if not shards:
        raise DataError(
            f"{persons.source}: no photograph could be read; look at them with semipose data check --decode"
        )
    table = {"format": FORMAT, "source": persons.source, "geometry": asdict(geometry), "shards": shards}
    write_text(out / TABLE, json.dumps(table, indent=1))
    return len(persons) - sum(shard["count"] for shard in shards)


def _readable(
    results: Iterable[tuple[str, list[bytes]] | DataError], total: int, progress: Progress
) -> Iterator[bytes]:
    for result in progress.track(results, total, "packing persons"):
        if not isinstance(result, DataError):
            yield from result[1]


def _write(path: Path, jpegs: list[bytes]) -> dict:
    """One shard: the JPEGs one after the other, then their offsets as little-endian 64-bit integers."""
    offsets = np.cumsum([0, *map(len, jpegs)]).astype("<i8")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([*jpegs, offsets.tobytes()])
    return {"file": path.name, "count": len(jpegs), "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _copy_checked(source: Path, target: Path, digest: str) -> None:
    with replacing(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except OSError as error:
            raise DataError(f"shard {source} can't be copied to {target.parent} ({error.strerror})") from None
        if _sha256(temporary) != digest:
            raise DataError(f"shard {source} is damaged: its hash differs from {TABLE}; fetch it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(count: int, size: int) -> Iterator[int]:
    """`count` as sizes of `size` and a rest."""
    for start in range(0, count, size):
        yield min(size, count - start)
