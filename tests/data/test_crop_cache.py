"""The cache of crops: found again by content, whole or not there, honest about what could not be read."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.data.crop_cache import CropCache, open_crop_cache
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.data_errors import leave_out
from semipose.data.datasets import read_dataset
from semipose.errors import BrokenDataError, DataError, RunError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO

GEOMETRY = CropGeometry((64, 64))


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semipose.data.crop_cache.decode_image", lambda *_: pytest.fail("decoded twice"))


def test_store_equals_fresh_crops_and_is_found_again(tmp_path, monkeypatch):
    persons = read_dataset("people", None).subset(range(0, 40, 3))
    store, fresh = open_crop_cache(persons, GEOMETRY, encoding="jpeg", cache=tmp_path), LazyCrops(persons, GEOMETRY)
    assert [p.annotation_id for p in store.dataset.instances] == [p.annotation_id for p in persons.instances]
    for i in range(len(persons)):
        assert np.abs(store.crop(i).astype(int) - fresh.crop(i)).mean() < 2
    no_decoding(monkeypatch)
    again = open_crop_cache(persons, GEOMETRY, encoding="jpeg", cache=tmp_path)
    np.testing.assert_array_equal(again.crop(2), store.crop(2))
    assert again.image_paths == store.image_paths
    assert len(set(store.image_paths.values())) == len({p.image for p in persons.instances})
    assert {p.suffix for p in (tmp_path / "crops").rglob("*.*")} == {".npz", ".bin"}


def test_raw_crops_are_exact_and_kept_apart(tmp_path):
    persons = read_dataset("people", None).subset(range(0, 40, 9))
    raw, fresh = open_crop_cache(persons, GEOMETRY, encoding="raw", cache=tmp_path), LazyCrops(persons, GEOMETRY)
    for i in range(len(persons)):
        np.testing.assert_array_equal(raw.crop(i), fresh.crop(i))
    jpeg = open_crop_cache(persons, GEOMETRY, encoding="jpeg", cache=tmp_path)
    assert len(list((tmp_path / "crops").iterdir())) == 2
    assert (jpeg.crop(1) != raw.crop(1)).any()


def test_small_sets_are_kept_raw_and_large_ones_as_jpegs(tmp_path, monkeypatch):
    persons = read_dataset("people", None).subset(range(4))
    size = len(persons) * 3 * GEOMETRY.crop_size[0] * GEOMETRY.crop_size[1]
    monkeypatch.setattr(packed, "SMALL", size)
    small = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    assert small.path == open_crop_cache(persons, GEOMETRY, encoding="raw", cache=tmp_path).path
    monkeypatch.setattr(packed, "SMALL", size - 1)
    large = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    assert large.path == open_crop_cache(persons, GEOMETRY, encoding="jpeg", cache=tmp_path).path != small.path


def test_other_settings_make_other_crops(tmp_path):
    persons = read_dataset("people", None).subset(range(3))
    for geometry in (GEOMETRY, CropGeometry((64, 64), padding=1.5), CropGeometry((96, 64))):
        assert open_crop_cache(persons, geometry, cache=tmp_path).crop(0).shape[:2] == geometry.crop_size
    assert len(list((tmp_path / "crops").iterdir())) == 3


def image_paths(folder: Path, broken: tuple[int, ...] = (1,)) -> PoseDataset:
    """Four photographs of two persons each, some truncated."""
    persons = []
    for n in range(4):
        path = folder / f"{n}.jpg"
        cv2.imwrite(str(path), np.random.default_rng(n).integers(0, 255, (80, 60, 3), np.uint8))
        persons += [Instance(path, n, -2 * n - k, (5.0, 5.0 + k, 40.0, 60.0)) for k in (1, 2)]
        if n in broken:
            path.write_bytes(path.read_bytes()[:200])
    return PoseDataset(COCO, tuple(persons), "four photographs")


def test_every_broken_photograph_is_told_or_left_out_with_a_count(tmp_path, caplog):
    persons = image_paths(tmp_path, broken=(1, 3))
    with pytest.raises(BrokenDataError, match=r"2 of 4 photographs can't be read, the first: .*1\.jpg") as caught:
        open_crop_cache(persons, GEOMETRY, cache=tmp_path / "a")
    assert [Path(p.split()[1]).name for p in caught.value.problems] == ["1.jpg", "3.jpg"]
    with pytest.raises(BrokenDataError, match="2 of 4"):  # a cache of what could be read lets nobody in either
        open_crop_cache(persons, GEOMETRY, cache=tmp_path / "a")
    store = open_crop_cache(persons, GEOMETRY, cache=tmp_path / "a", broken=leave_out)
    assert [p.image_id for p in store.dataset.instances] == [0, 0, 2, 2]
    assert {p.name for p in store.failed} == {"1.jpg", "3.jpg"}
    assert {p.name for p in store.image_paths} == {"0.jpg", "2.jpg"}
    assert "2 of 4 photographs" in caplog.text
    with pytest.raises(DataError, match="no photograph could be read"):
        open_crop_cache(persons.subset([2, 6]), GEOMETRY, cache=tmp_path / "c", broken=leave_out)


def test_a_photograph_that_can_be_read_again_comes_back(tmp_path, monkeypatch):
    """A drive that was away leaves neither size nor time changed."""
    persons = image_paths(tmp_path, broken=())

    def away(path: Path) -> bytes:
        if path.name == "1.jpg":
            raise DataError(f"image {path} can't be read (Input/output error)")
        return path.read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr(packed, "read_image_bytes", away)
        assert len(open_crop_cache(persons, GEOMETRY, cache=tmp_path, broken=leave_out).instances) == 6
    assert len(open_crop_cache(persons, GEOMETRY, cache=tmp_path, broken=leave_out).instances) == 8


@pytest.mark.parametrize("damage", ["no index", "empty index", "no crops", "cut crops"])
def test_a_cache_that_is_not_whole_is_made_anew(tmp_path, damage):
    persons = image_paths(tmp_path, broken=())
    expected = open_crop_cache(persons, GEOMETRY, cache=tmp_path).crop(3)
    (index,), (crops,) = tmp_path.rglob("index.npz"), tmp_path.rglob("*.bin")
    if damage == "no index":
        index.unlink()
    elif damage == "empty index":
        index.write_bytes(b"")
    elif damage == "no crops":
        crops.unlink()
    else:
        crops.write_bytes(crops.read_bytes()[:-100])
    np.testing.assert_array_equal(open_crop_cache(persons, GEOMETRY, cache=tmp_path).crop(3), expected)


def test_a_flipped_bit_is_told(tmp_path):
    persons = image_paths(tmp_path, broken=())
    open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    (crops,) = tmp_path.rglob("*.bin")
    content = bytearray(crops.read_bytes())
    content[100] ^= 1
    crops.write_bytes(content)
    store = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    with pytest.raises(RunError, match=r"crop 0 .* is damaged; remove this folder"):
        store.crop(0)
    assert store.crop(1).shape == (*GEOMETRY.crop_size, 3)


def test_an_open_store_outlives_its_cache(tmp_path):
    persons = image_paths(tmp_path, broken=())
    store = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    expected = store.crop(0)
    for path in (tmp_path / "crops").rglob("*.*"):
        path.unlink()
    np.testing.assert_array_equal(store.crop(0), expected)


def test_what_killed_builders_left_is_removed(tmp_path):
    persons = image_paths(tmp_path, broken=())
    abandoned = tmp_path / "crops" / "0123456789abcdef01234567"
    abandoned.mkdir(parents=True)
    (abandoned / "cut.aa.tmp").write_bytes(b"half")
    store = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    assert not abandoned.exists()
    (store.path / "index.npz").unlink()
    (store.path / "packed.bb.tmp").write_bytes(b"half")
    (store.path / "cafe.bin").write_bytes(b"of nobody")
    again = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    assert {p.name for p in again.path.iterdir()} == set(again.file_names)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_can_not_be_written_is_one_line(tmp_path):
    persons = image_paths(tmp_path, broken=())
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RunError, match="SEMIPOSE_CACHE"):
        open_crop_cache(persons, GEOMETRY, cache=tmp_path / "closed")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    persons = image_paths(tmp_path, broken=())
    monkeypatch.setattr(
        "semipose.data.crop_cache.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(RunError, match=r"No space left.*data\.crops=jpeg.*SEMIPOSE_CACHE"):
        open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    with pytest.raises(RunError, match=r"No space left on device\); make room or let \$SEMIPOSE_CACHE"):
        open_crop_cache(persons, GEOMETRY, encoding="jpeg", cache=tmp_path)
    assert not list((tmp_path / "crops").rglob("*.*"))


def test_a_store_of_other_persons_is_not_taken(tmp_path):
    """The index alone does not make a store: its crops must be the ones it was written for."""
    persons = image_paths(tmp_path, broken=())
    store = open_crop_cache(persons, GEOMETRY, cache=tmp_path)
    (crops,) = store.path.glob("*.bin")
    crops.rename(store.path / "another.bin")
    with pytest.raises(FileNotFoundError):
        CropCache(store.path, persons, GEOMETRY)
