"""Crops cut once and kept in a packed file that is found again by its content and shared by processes.

A cache folder holds `index.npz` and the file of crops that it names. The file's name is its content's hash: whoever
builds at the same time writes the same bytes or another file, and an index never meets crops that are not its own.
"""

import hashlib
import json
import logging
import math
import mmap
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import simplejpeg
from filelock import FileLock, Timeout

from semipose.data.crops import CropGeometry, cut
from semipose.data.data_errors import Decide, refuse
from semipose.data.images import decode_image, read_image_bytes
from semipose.errors import BrokenDataError, DataError, RunError
from semipose.structures.instances import Instance, PoseDataset
from semipose.utils.cache import cache_dir
from semipose.utils.cpu import available_cpus
from semipose.utils.hashing import content_digest
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)

Encoding = Literal["auto", "jpeg", "raw"]
"""How crops are kept; auto chooses by the size of the set."""
SMALL = 2 * 2**30
"""Bytes up to which a set of crops is kept raw when nothing else is asked for."""
FORMAT = 2
PATIENCE = 5.0
"""Seconds of waiting for another builder before it is said."""
ATTEMPTS = 5
"""Times a cache is built anew when it disappears under the builder's hands."""


class CropCache:
    """Crops in one packed file, memory-mapped: memory stays bounded whatever the number of persons.

    `persons` are those whose photographs could be read; `failed` says of the other photographs what is wrong.
    """

    QUALITY = 95

    def __init__(self, path: Path, persons: PoseDataset, geometry: CropGeometry) -> None:
        """Opens what lies at `path`. Raises OSError, ValueError, KeyError or BadZipFile when it is not whole."""
        with np.load(path / "index.npz", allow_pickle=False) as index:
            kept, self._offsets, self._sums = index["kept"], index["offsets"], index["sums"]
            failed, self._digests = json.loads(index["failed"].tobytes()), index["digests"]
            self.file_names = ("index.npz", f"{index['content'].tobytes().hex()}.bin")
        with (path / self.file_names[1]).open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._bytes) != self._offsets[-1]:
            raise ValueError(f"{path} is cut off")
        self.path, self.geometry = path, geometry
        self._checked = np.zeros(len(kept), bool)
        self._raw = bool((np.diff(self._offsets) == 3 * np.prod(geometry.crop_size)).all())
        self.failed: dict[Path, str] = {persons[i].image: text for i, text in failed}
        self.dataset = persons.subset(kept.tolist())

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def image_digests(self) -> dict[Path, str]:
        """The photographs of the store, each with the digest of its content."""
        images = map(Path, dict.fromkeys(self.dataset.instances.paths))
        return {image: f"{int(value):016x}" for image, value in zip(images, self._digests, strict=True)}

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB; a raw one is a window on the file, not to be written to.

        Raises RunError when the file has been damaged, which is looked for at the first reading.
        """
        content = memoryview(self._bytes)[self._offsets[index] : self._offsets[index + 1]]
        if not self._checked[index] and zlib.crc32(content) != self._sums[index]:
            raise RunError(f"crop {index} of {self.path} is damaged; remove this folder, it is then made anew")
        self._checked[index] = True
        if self._raw:
            return np.frombuffer(content, np.uint8).reshape(*self.geometry.crop_size, 3)
        return simplejpeg.decode_jpeg(content, "RGB")


def cache_size() -> tuple[int, int]:
    """How many sets of crops and shards the cache holds, and their bytes."""
    sets = [folder for kind in ("crops", "shards") for folder in cache_dir().glob(f"{kind}/*") if folder.is_dir()]
    return len(sets), sum(file.stat().st_size for folder in sets for file in folder.iterdir() if file.is_file())


def clear_cache() -> None:
    """Removes every set of crops and shards; whoever needs one makes it anew, and readers keep what they opened."""
    for kind in ("crops", "shards", "locks"):
        shutil.rmtree(cache_dir() / kind, ignore_errors=True)


def open_crop_cache(
    persons: PoseDataset,
    geometry: CropGeometry,
    *,
    encoding: Encoding = "auto",
    cache: Path | None = None,
    broken: Decide = refuse,
    progress: Progress = NO_PROGRESS,
) -> CropCache:
    """The packed crops of `persons`, made on first use and found again by their content.

    `encoding`: JPEGs of quality 95, or the bytes as they are: eight times as large, read ten times as fast; auto keeps the
    bytes of sets that take no more than SMALL.
    Of several processes one makes them, the others wait. `broken` decides about image_digests that can't be read: it
    raises, as by default, or notes them, and their persons are left out. `watch(iterable, total, what)` may wrap the
    work in a progress bar. Raises RunError when the cache can't be written.
    """
    root = cache or cache_dir()
    if encoding == "auto":
        encoding = "raw" if len(persons) * 3 * math.prod(geometry.crop_size) <= SMALL else "jpeg"
    path = root / "crops" / _key(persons, geometry, encoding)
    store = _up_to_date(path, persons, geometry)
    for _ in range(ATTEMPTS):
        if store is not None:
            break
        try:
            with _alone(root, path.name) as locked:
                store = _up_to_date(path, persons, geometry)
                if store is None:
                    _build(path, persons, geometry, encoding, broken, progress)
                    store = _find(path, persons, geometry)
                    if locked:
                        _clear(path, store)
                        _sweep(root)
        except FileNotFoundError:
            continue  # somebody removed the cache meanwhile
        except OSError as error:
            smaller = ", take data.crop_encoding=jpeg" if encoding == "raw" else ""
            raise RunError(
                f"crops can't be kept in {path} ({error.strerror or error}); make room{smaller} or let $SEMIPOSE_CACHE "
                "name another folder"
            ) from None
    if store is None:
        raise RunError(f"crops of {path} disappear while they are made; let $SEMIPOSE_CACHE name another folder")
    if store.failed:
        broken(persons.source, store.failed, len(store.failed) + len(store.image_digests))
    return store


def _find(path: Path, persons: PoseDataset, geometry: CropGeometry) -> CropCache | None:
    """What is there, if it is whole."""
    try:
        return CropCache(path, persons, geometry)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return None


def _up_to_date(path: Path, persons: PoseDataset, geometry: CropGeometry) -> CropCache | None:
    """What is there, unless a photograph that could not be read can be read now (a drive that was away)."""
    store = _find(path, persons, geometry)
    if store is None or any(_readable(image) for image in store.failed):
        return None
    return store


def _readable(image: Path) -> bool:
    try:
        decode_image(image, read_image_bytes(image))
    except DataError:
        return False
    return True


def _key(persons: PoseDataset, geometry: CropGeometry, encoding: Encoding) -> str:
    kept_as: Any = CropCache.QUALITY if encoding == "jpeg" else encoding
    key = hashlib.sha256(json.dumps([asdict(geometry), kept_as, FORMAT]).encode())
    stats: dict[str, tuple[int, int]] = {}
    for path, box in zip(persons.instances.paths, persons.instances.boxes.tolist(), strict=True):
        if path not in stats:
            try:
                stat = Path(path).stat()
                stats[path] = (stat.st_size, stat.st_mtime_ns)
            except (OSError, ValueError):
                stats[path] = (-1, -1)
        key.update(repr((path, stats[path], tuple(box))).encode())
    return key.hexdigest()[:24]


@contextmanager
def _alone(root: Path, key: str) -> Iterator[bool]:
    """One builder of a cache at a time, by a lock of the system, which ends with its process however that ends.

    False where the file system has no locks: builders then work twice, and nothing else.
    """
    (root / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / "locks" / f"{key}.lock")
    locked = True
    try:
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            log.warning("another process cuts the same people; waiting for it")
            lock.acquire()
    except (OSError, NotImplementedError):
        locked = False
    try:
        yield locked
    finally:
        if locked:
            lock.release()


def _clear(path: Path, store: CropCache | None) -> None:
    """Removes what builders that were killed, or an index that is gone, left in the cache. The lock is held."""
    keep = store.file_names if store else ()
    for other in path.iterdir():
        if other.name not in keep:
            other.unlink(missing_ok=True)


def _sweep(root: Path) -> None:
    """The same for unfinished files of all other caches that nobody is building now."""
    for leftover in root.glob("crops/*/*.tmp"):
        lock = FileLock(root / "locks" / f"{leftover.parent.name}.lock")
        with suppress(Timeout, OSError), lock.acquire(timeout=0):
            leftover.unlink(missing_ok=True)
            leftover.parent.rmdir()  # fails, as it should, where an index lies


@dataclass
class _Cut:
    """What cutting has come to so far: place and length of each crop, failures by person, digests by photograph."""

    places: dict[int, tuple[int, int]]
    failed: dict[int, str]
    digests: dict[Path, int]


def _build(
    path: Path, persons: PoseDataset, geometry: CropGeometry, encoding: Encoding, broken: Decide, progress: Progress
) -> None:
    """Cuts photograph by photograph in threads; files appear by renaming, the index last."""
    path.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    temporary = path / f"cut.{token}.tmp"
    try:
        with temporary.open("wb") as file:
            found = _cut_all(persons, geometry, encoding, file, progress)
        if not found.places:
            failed = {persons[i].image: text for i, text in found.failed.items()}
            if failed:
                broken(persons.source, failed, len(failed))
            raise BrokenDataError(
                f"{persons.source}: no photograph could be read; "
                + (next(iter(failed.values())) if failed else "the set is empty"),
                list(failed.values()),
            )
        _pack(temporary, found, persons, path, token)
    finally:
        for name in ("cut", "packed", "index"):
            with suppress(OSError):
                (path / f"{name}.{token}.tmp").unlink(missing_ok=True)


def _cut_all(
    persons: PoseDataset, geometry: CropGeometry, encoding: Encoding, file: BinaryIO, progress: Progress
) -> _Cut:
    """Writes the crops of all persons to `file`, in the order of their photographs' names."""
    image = persons.instances.paths.__getitem__
    groups = [list(members) for _, members in groupby(sorted(range(len(persons)), key=image), key=image)]
    found, position = _Cut({}, {}, {}), 0
    with closing(encode_people(persons, groups, geometry, encoding)) as results:
        tracked = progress.track(results, len(groups), "cropping persons")
        for group, result in zip(groups, tracked, strict=True):
            if isinstance(result, DataError):
                found.failed[group[0]] = str(result)
                continue
            content, crops = result
            found.digests[persons[group[0]].image] = int(content, 16)
            for i, crop in zip(group, crops, strict=True):
                file.write(crop)
                found.places[i] = (position, len(crop))
                position += len(crop)
    return found


def encode_people(
    persons: PoseDataset, groups: list[list[int]], geometry: CropGeometry, encoding: Encoding = "jpeg"
) -> Generator[tuple[str, list[bytes]] | DataError]:
    """Crops as they are kept, in threads, in order.

    For each group of persons, who share a photograph, its digest and their crops. A photograph that can't be read gives
    its error. Closed early, it does not wait for the groups to come.
    """
    pool = ThreadPoolExecutor(available_cpus())
    try:
        yield from pool.map(lambda group: _encode(persons, group, geometry, encoding), groups)
    finally:
        pool.shutdown(cancel_futures=True)


def _pack(temporary: Path, found: _Cut, persons: PoseDataset, path: Path, token: str) -> None:
    """Puts the crops in the order of the set, so that neighbors in the set are neighbors on disk, and names them."""
    kept = sorted(found.places)
    packed, index = path / f"packed.{token}.tmp", path / f"index.{token}.tmp"
    offsets, sums = np.zeros(len(kept) + 1, dtype=np.int64), np.zeros(len(kept), dtype=np.uint32)
    content = hashlib.blake2b(digest_size=16)
    with temporary.open("rb") as source, packed.open("wb") as target:
        for n, i in enumerate(kept):
            start, length = found.places[i]
            source.seek(start)
            crop = source.read(length)
            target.write(crop)
            content.update(crop)
            offsets[n + 1], sums[n] = offsets[n] + length, zlib.crc32(crop)
        target.flush()
        os.fsync(target.fileno())
    packed.replace(path / f"{content.hexdigest()}.bin")
    images = map(Path, dict.fromkeys(persons.instances.paths))
    with index.open("wb") as target:
        np.savez(
            target,
            kept=np.array(kept),
            offsets=offsets,
            sums=sums,
            content=np.frombuffer(content.digest(), np.uint8),
            failed=np.frombuffer(json.dumps(list(found.failed.items())).encode(), np.uint8),
            digests=np.array([found.digests[image] for image in images if image in found.digests], dtype=np.uint64),
        )
    index.replace(path / "index.npz")


def _encode(
    persons: PoseDataset, group: list[int], geometry: CropGeometry, encoding: Encoding
) -> tuple[str, list[bytes]] | DataError:
    """The digest of a photograph and the crops of its persons."""
    path = persons[group[0]].image
    try:
        content = read_image_bytes(path)
        image = decode_image(path, content)
    except DataError as error:
        return error
    return content_digest(content), [_kept(image, persons[i], geometry, encoding) for i in group]


def _kept(image: np.ndarray, person: Instance, geometry: CropGeometry, encoding: Encoding) -> bytes:
    crop = cut(image, geometry.from_image(person.box), geometry.crop_size)
    if encoding == "raw":
        return crop.tobytes()
    return simplejpeg.encode_jpeg(crop, CropCache.QUALITY, "RGB", "444", fastdct=False)
