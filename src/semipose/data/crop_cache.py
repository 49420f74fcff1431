"""Crops that are cut once and kept in a file, found again by the content they depend on and shared by processes.

A cache is one file, which appears under its name only when it is complete: the crops one after the other, an index,
and the length of the index. Processes that build the same cache at the same time write the same file.
"""

import hashlib
import io
import json
import logging
import math
import mmap
import os
import zipfile
import zlib
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import simplejpeg
from filelock import FileLock, Timeout

from semipose.data.crops import CropGeometry, Crops
from semipose.data.data_errors import OnUnreadable, raise_unreadable
from semipose.data.images import ImageSize, decode_image, decoded_size, read_image, read_image_bytes
from semipose.errors import BrokenDataError, DataError, RunError
from semipose.structures.instances import PoseDataset
from semipose.utils.cache import cache_dir
from semipose.utils.cpu import available_cpus
from semipose.utils.files import replacing
from semipose.utils.hashing import content_digest
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)

Encoding = Literal["auto", "jpeg", "raw"]
"""How crops are stored; `auto` chooses by the size of the set."""
RAW_LIMIT = 2 * 2**30
"""Bytes up to which `auto` stores raw crops."""
JPEG_QUALITY = 95
VERSION = 4
"""Changes with the layout of the file."""
SUFFIX = ".crops"
LENGTH_BYTES = 8
"""The file ends with the length of its index, a little-endian integer of this many bytes."""
LOCK_NOTICE_SECONDS = 5.0
"""Seconds of waiting for another builder after which a message is logged."""
AHEAD = 4
"""Images that a thread may be ahead of the writing of crops, which wait in memory."""
MAX_ATTEMPTS = 5
"""How often a cache is built again if somebody removes it during the building."""

_INCOMPLETE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile)


class CropCache(Crops):
    """Crops in a memory-mapped file: memory stays bounded, whatever the number of persons.

    Attributes:
        dataset: The persons whose images could be read.
        failed: The other images, with the reason of each.
        path: The file.
    """

    def __init__(self, path: Path, dataset: PoseDataset, geometry: CropGeometry) -> None:
        """Opens a file; `_INCOMPLETE` lists what is raised if it is not complete."""
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        end = len(self._bytes) - LENGTH_BYTES
        start = end - int.from_bytes(self._bytes[end:], "little")
        with np.load(io.BytesIO(self._bytes[start:end]), allow_pickle=False) as index:
            kept, self._starts, self._lengths, self._checksums = index["crops"].T
            self._digests, self._sizes = index["digests"], index["sizes"]
            failed = json.loads(index["failed"].tobytes())
        if start != self._lengths.sum():
            raise ValueError(f"{path} is incomplete")
        super().__init__(dataset.subset(kept.tolist()), geometry)
        self.path = path
        self.failed: dict[Path, str] = {dataset[i].image: reason for i, reason in failed}
        self._checked = np.zeros(len(kept), bool)
        self._raw = bool((self._lengths == 3 * math.prod(geometry.crop_size)).all())

    @property
    def image_digests(self) -> dict[Path, str]:
        """The images of the persons, each with the digest of its content."""
        images = map(Path, dict.fromkeys(self.dataset.instances.paths))
        return {image: f"{int(digest):016x}" for image, digest in zip(images, self._digests, strict=True)}

    @property
    def image_sizes(self) -> dict[Path, ImageSize]:
        """The images of the persons, each with its size."""
        images = map(Path, dict.fromkeys(self.dataset.instances.paths))
        sizes = (ImageSize(width, height, bool(turned)) for width, height, turned in self._sizes.tolist())
        return dict(zip(images, sizes, strict=True))

    def crop(self, index: int) -> np.ndarray:
        """Returns the crop of a person, (S, T, 3) uint8 RGB; a raw one is a read-only view of the file.

        Raises:
            RunError: If the file has been damaged, which is checked when a crop is read for the first time.
        """
        start = self._starts[index]
        content = memoryview(self._bytes)[start : start + self._lengths[index]]
        if not self._checked[index] and zlib.crc32(content) != self._checksums[index]:
            raise RunError(f"crop {index} of {self.path} is damaged; remove this file, and it is made again")
        self._checked[index] = True
        if self._raw:
            return np.frombuffer(content, np.uint8).reshape(*self.geometry.crop_size, 3)
        return simplejpeg.decode_jpeg(content, "RGB")


def cache_size() -> tuple[int, int]:
    """Returns the number of cached sets of crops, and their size in bytes."""
    sizes = [file.stat().st_size for file in _folder(cache_dir()).glob(f"*{SUFFIX}")]
    return len(sizes), sum(sizes)


def clear_cache() -> None:
    """Removes all cached crops; what is open stays readable, and what is needed again is made again."""
    crops, locks = _folder(cache_dir()), _lock_folder(cache_dir())
    for path in [*crops.glob(f"*{SUFFIX}"), *locks.glob("*.lock")]:
        with suppress(OSError):
            path.unlink()
    for folder in (crops, locks):
        with suppress(OSError):  # files of the user stay
            folder.rmdir()


def open_crop_cache(
    dataset: PoseDataset,
    geometry: CropGeometry,
    *,
    encoding: Encoding = "auto",
    cache: Path | None = None,
    on_unreadable: OnUnreadable = raise_unreadable,
    progress: Progress = NO_PROGRESS,
) -> CropCache:
    """Opens the crops of a data set; they are cut on first use, by one process while others wait.

    Args:
        dataset: The persons.
        geometry: How they are cut.
        encoding: "jpeg" (quality 95), or "raw": exact, and read ten times as fast for eight times the disk space;
            "auto" takes raw up to `RAW_LIMIT`.
        cache: The cache folder; `cache_dir()` by default.
        on_unreadable: Called with images that can't be read; if it returns, their persons are left out.
        progress: Shows the progress of the cutting.

    Raises:
        BrokenDataError: If no image can be read.
        RunError: If the cache can't be written.
    """
    root = cache or cache_dir()
    if encoding == "auto":
        encoding = "raw" if len(dataset) * 3 * math.prod(geometry.crop_size) <= RAW_LIMIT else "jpeg"
    path = _folder(root) / f"{_key(dataset, geometry, encoding)}{SUFFIX}"
    crops = _open_if_current(path, dataset, geometry)
    for _ in range(MAX_ATTEMPTS):
        if crops is not None:
            break
        try:
            with _lock(path, root):
                crops = _open_if_current(path, dataset, geometry)
                if crops is None:
                    _build(path, dataset, geometry, encoding, on_unreadable, progress)
                    crops = _open_if_complete(path, dataset, geometry)
            _remove_leftovers(root)
        except FileNotFoundError:
            continue  # the cache was removed during the building
        except OSError as error:
            smaller = ", set `data.crop_encoding` to jpeg" if encoding == "raw" else ""
            raise RunError(
                f"crops can't be written to {path} ({error.strerror or error}); free some disk space{smaller} or set "
                "$SEMIPOSE_CACHE to another folder"
            ) from None
    if crops is None:
        raise RunError(f"{path} was removed while it was made; set $SEMIPOSE_CACHE to another folder")
    if crops.failed:
        on_unreadable(dataset.source, crops.failed, len(crops.failed) + len(crops.image_digests))
    return crops


def _folder(root: Path) -> Path:
    return root / "crops"


def _lock_folder(root: Path) -> Path:
    return root / "locks"


def _open_if_complete(path: Path, dataset: PoseDataset, geometry: CropGeometry) -> CropCache | None:
    try:
        return CropCache(path, dataset, geometry)
    except _INCOMPLETE:
        return None


def _open_if_current(path: Path, dataset: PoseDataset, geometry: CropGeometry) -> CropCache | None:
    """Opens a complete cache, unless an image that could not be read can be read now (a drive that was unmounted)."""
    crops = _open_if_complete(path, dataset, geometry)
    if crops is None or any(_is_readable(image) for image in crops.failed):
        return None
    return crops


def _is_readable(image: Path) -> bool:
    try:
        read_image(image)
    except DataError:
        return False
    return True


def _key(dataset: PoseDataset, geometry: CropGeometry, encoding: Encoding) -> str:
    """Digits that change with the boxes, the geometry, the encoding, and the size and time of any image."""
    quality = JPEG_QUALITY if encoding == "jpeg" else encoding
    key = hashlib.sha256(json.dumps([asdict(geometry), quality, VERSION]).encode())
    stats: dict[str, tuple[int, int]] = {}
    for path, box in zip(dataset.instances.paths, dataset.instances.boxes.tolist(), strict=True):
        if path not in stats:
            try:
                stat = Path(path).stat()
                stats[path] = (stat.st_size, stat.st_mtime_ns)
            except (OSError, ValueError):
                stats[path] = (-1, -1)
        key.update(repr((path, stats[path], tuple(box))).encode())
    return key.hexdigest()[:24]


@contextmanager
def _lock(path: Path, root: Path) -> Iterator[None]:
    """Lets one process at a time build a cache. The operating system frees the lock of a process that was killed.

    Where the file system has no locks, processes do the same work at the same time, which does no harm.
    """
    lock = _lock_of(path, root)
    lock_path = Path(lock.lock_file)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError, NotImplementedError):
        try:
            lock.acquire(timeout=LOCK_NOTICE_SECONDS)
        except Timeout:
            log.warning("another process cuts the same persons; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_of(path: Path, root: Path) -> FileLock:
    return FileLock(_lock_folder(root) / f"{path.stem}.lock")


def _remove_leftovers(root: Path) -> None:
    """Removes the unfinished files of builders that were killed, whose locks are free."""
    for leftover in _folder(root).glob(f".*{SUFFIX}"):
        key = leftover.name.rpartition(".tmp.")[2]
        with suppress(OSError, NotImplementedError), _lock_of(Path(key), root).acquire(timeout=0):
            leftover.unlink(missing_ok=True)


def _build(
    path: Path,
    dataset: PoseDataset,
    geometry: CropGeometry,
    encoding: Encoding,
    on_unreadable: OnUnreadable,
    progress: Progress,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        crops, digests, sizes, failed = _write_crops(file, dataset, geometry, encoding, progress)
        if failed and not len(crops):
            unreadable = {dataset[i].image: reason for i, reason in failed}
            on_unreadable(dataset.source, unreadable, len(unreadable))
            raise BrokenDataError(f"{dataset.source}: no image could be read", list(unreadable.values()))
        index = io.BytesIO()
        reasons = np.frombuffer(json.dumps(failed).encode(), np.uint8)
        np.savez(index, crops=crops, digests=digests, sizes=sizes, failed=reasons)
        file.write(index.getbuffer())
        file.write(index.tell().to_bytes(LENGTH_BYTES, "little"))
        file.flush()
        os.fsync(file.fileno())


def _write_crops(
    file: BinaryIO, dataset: PoseDataset, geometry: CropGeometry, encoding: Encoding, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Writes the crops image by image.

    Returns:
        Rows of (position in the data set, offset, length, CRC-32) of the crops (N, 4) int64, in the order of the data
        set; the digests, uint64, and the sizes of their images in the same order; a person and the reason for each
        failed image.
    """
    by_image: dict[str, list[int]] = defaultdict(list)
    for person, image in enumerate(dataset.instances.paths):
        by_image[image].append(person)
    groups = list(by_image.values())
    crops: list[tuple[int, int, int, int]] = []
    digests: list[int] = []
    sizes: list[ImageSize] = []
    failed: list[tuple[int, str]] = []
    with closing(encode_crops(dataset, groups, geometry, encoding)) as results:
        for group, result in zip(groups, progress.track(results, len(groups), "cropping persons"), strict=True):
            if isinstance(result, DataError):
                failed.append((group[0], str(result)))
                continue
            digests.append(int(result.digest, 16))
            sizes.append(result.size)
            for person, crop in zip(group, result.crops, strict=True):
                crops.append((person, file.tell(), len(crop), zlib.crc32(crop)))
                file.write(crop)
    rows = np.array(sorted(crops), np.int64).reshape(-1, 4)
    return rows, np.array(digests, np.uint64), np.array(sizes, np.int64).reshape(-1, 3), failed


class EncodedImage(NamedTuple):
    """The digest and the size of an image, and the encoded crops of its persons."""

    digest: str
    size: ImageSize
    crops: list[bytes]


def encode_crops(
    dataset: PoseDataset, groups: Sequence[Sequence[int]], geometry: CropGeometry, encoding: Encoding = "jpeg"
) -> Generator[EncodedImage | DataError]:
    """Cuts and encodes crops in threads, at most `AHEAD` images a thread ahead of the consumer.

    Args:
        dataset: The persons.
        groups: Positions of persons that share an image.
        geometry: How they are cut.
        encoding: "jpeg" or "raw".

    Yields:
        For each group, in order, its image and crops, or the error of an unreadable image.
        A generator that is closed early does not wait for the groups that have not begun.
    """

    def encode(group: Sequence[int]) -> EncodedImage | DataError:
        path = dataset[group[0]].image
        try:
            content = read_image_bytes(path)
            image = decode_image(path, content)
        except DataError as error:
            return error
        size, crops = decoded_size(image, content), [geometry.cut(image, dataset[i].box) for i in group]
        if encoding == "raw":
            return EncodedImage(content_digest(content), size, [crop.tobytes() for crop in crops])
        jpegs = [simplejpeg.encode_jpeg(crop, JPEG_QUALITY, "RGB", "444", fastdct=False) for crop in crops]
        return EncodedImage(content_digest(content), size, jpegs)

    threads = available_cpus()
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[EncodedImage | DataError]] = deque()
    try:
        for group in groups:
            waiting.append(pool.submit(encode, group))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
