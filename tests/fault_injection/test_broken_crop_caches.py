"""Crop caches that are damaged, incomplete, abandoned or can't be written."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.data import crop_cache
from semipose.data.crop_cache import CropCache, open_crop_cache
from semipose.data.crops import CropGeometry
from semipose.errors import RunError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO

GEOMETRY = CropGeometry((64, 64))


@pytest.fixture
def dataset(tmp_path):
    """Two images of two persons each."""
    persons = []
    for n in range(2):
        path = tmp_path / f"{n}.jpg"
        cv2.imwrite(str(path), np.random.default_rng(n).integers(0, 255, (80, 60, 3), np.uint8))
        persons += [Instance(path, n, -2 * n - k, (5.0, 5.0 + k, 40.0, 60.0)) for k in (1, 2)]
    return PoseDataset(COCO, tuple(persons), "two images")


def cached_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.crops")
    return path


DAMAGES = {
    "missing": None,
    "empty": lambda content: b"",
    "cut off": lambda content: content[:-100],
    "cut off at the start": lambda content: content[100:],
    "without its end": lambda content: content[:-8],
    "huge index": lambda content: content[:-8] + b"\xff" * 8,
    "damaged index": lambda content: content[:-30] + bytes(22) + content[-8:],
    "other file": lambda content: b"not a cache of crops",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_incomplete_cache_is_made_again(tmp_path, dataset, damage):
    expected = open_crop_cache(dataset, GEOMETRY, cache=tmp_path).crop(3).copy()
    path, change = cached_file(tmp_path), DAMAGES[damage]
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(content))
    np.testing.assert_array_equal(open_crop_cache(dataset, GEOMETRY, cache=tmp_path).crop(3), expected)
    assert path.read_bytes() == content


def test_a_flipped_bit_is_an_error(tmp_path, dataset):
    open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    content = bytearray(cached_file(tmp_path).read_bytes())
    content[100] ^= 1
    cached_file(tmp_path).write_bytes(content)
    crops = open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    with pytest.raises(RunError, match=r"crop 0 .* is damaged; remove this file"):
        crops.crop(0)
    assert crops.crop(1).shape == (*GEOMETRY.crop_size, 3)


def test_open_crops_outlive_their_file(tmp_path, dataset):
    crops = open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    expected = crops.crop(0).copy()
    crops.path.unlink()
    np.testing.assert_array_equal(crops.crop(0), expected)


def test_files_of_killed_builders_are_removed(tmp_path, dataset):
    folder = tmp_path / "crops"
    folder.mkdir()
    abandoned = folder / ".4711.tmp.0123456789abcdef01234567.crops"
    abandoned.write_bytes(b"half")
    crops = open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    own = crops.path.with_name(f".4712.tmp.{crops.path.name}")
    assert list(folder.iterdir()) == [crops.path]
    own.write_bytes(b"half")
    crops.path.unlink()
    assert list(folder.iterdir()) == [own]
    again = open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    assert list(folder.iterdir()) == [again.path]


def test_files_of_active_builders_stay(tmp_path, dataset):
    from filelock import FileLock

    (tmp_path / "crops").mkdir()
    (tmp_path / "locks").mkdir()
    active = tmp_path / "crops" / ".4711.tmp.0123456789abcdef01234567.crops"
    active.write_bytes(b"half")
    with FileLock(tmp_path / "locks" / "0123456789abcdef01234567.lock"):
        open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    assert active.exists()


def test_a_cache_that_is_removed_during_the_building_is_made_again(tmp_path, dataset, monkeypatch):
    build, attempts = crop_cache._build, []

    def removed_once(path, *arguments):
        build(path, *arguments)
        attempts.append(path)
        if len(attempts) == 1:
            path.unlink()
            raise FileNotFoundError(path)

    monkeypatch.setattr(crop_cache, "_build", removed_once)
    assert len(open_crop_cache(dataset, GEOMETRY, cache=tmp_path)) == 4
    assert len(attempts) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_can_not_be_written_is_an_error_of_one_line(tmp_path, dataset):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RunError, match="SEMIPOSE_CACHE"):
        open_crop_cache(dataset, GEOMETRY, cache=tmp_path / "closed")


def test_a_full_disk_is_an_error_of_one_line(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"No space left.*`data\.crop_encoding` to jpeg.*SEMIPOSE_CACHE"):
        open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    with pytest.raises(RunError, match=r"No space left on device\); free some disk space or set \$SEMIPOSE_CACHE"):
        open_crop_cache(dataset, GEOMETRY, encoding="jpeg", cache=tmp_path)
    assert not list((tmp_path / "crops").iterdir())


def test_crops_of_fewer_persons_are_not_taken(tmp_path, dataset):
    path = open_crop_cache(dataset, GEOMETRY, cache=tmp_path).path
    with pytest.raises(IndexError):
        CropCache(path, dataset.subset([0]), GEOMETRY)
