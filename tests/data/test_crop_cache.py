"""The crop cache: equal to fresh crops, found again by content, with a list of what could not be read."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from semipose.data import crop_cache
from semipose.data.crop_cache import cache_size, clear_cache, open_crop_cache
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.data_errors import skip_unreadable
from semipose.data.datasets import read_dataset
from semipose.data.images import read_image_sizes
from semipose.errors import BrokenDataError, DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO

GEOMETRY = CropGeometry((64, 64))


def four_images(folder: Path, broken: tuple[int, ...] = ()) -> PoseDataset:
    """Four images of two persons each, some truncated."""
    persons = []
    for n in range(4):
        path = folder / f"{n}.jpg"
        cv2.imwrite(str(path), np.random.default_rng(n).integers(0, 255, (80, 60, 3), np.uint8))
        persons += [Instance(path, n, -2 * n - k, (5.0, 5.0 + k, 40.0, 60.0)) for k in (1, 2)]
        if n in broken:
            path.write_bytes(path.read_bytes()[:200])
    return PoseDataset(COCO, tuple(persons), "four images")


def test_cached_crops_equal_fresh_ones_and_are_found_again(tmp_path, monkeypatch):
    dataset = read_dataset("people", None).subset(range(0, 40, 3))
    cached = open_crop_cache(dataset, GEOMETRY, encoding="jpeg", cache=tmp_path)
    fresh = LazyCrops(dataset, GEOMETRY)
    assert [p.annotation_id for p in cached.dataset.instances] == [p.annotation_id for p in dataset.instances]
    for i in range(len(dataset)):
        assert np.abs(cached.crop(i).astype(int) - fresh.crop(i)).mean() < 2
    monkeypatch.setattr(crop_cache, "decode_image", lambda *_: pytest.fail("decoded twice"))
    again = open_crop_cache(dataset, GEOMETRY, encoding="jpeg", cache=tmp_path)
    np.testing.assert_array_equal(again.crop(2), cached.crop(2))
    assert again.image_digests == cached.image_digests
    assert len(set(cached.image_digests.values())) == len({p.image for p in dataset.instances})
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == [cached.path]


def test_few_crops_wait_for_a_slow_consumer(tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(crop_cache, "available_cpus", lambda: 1)
    submit = ThreadPoolExecutor.submit
    monkeypatch.setattr(ThreadPoolExecutor, "submit", lambda *args: submitted.append(args) or submit(*args))
    with closing(crop_cache.encode_crops(four_images(tmp_path), [[0, 1]] * 50, GEOMETRY)) as results:
        next(results)
        assert len(submitted) == crop_cache.AHEAD + 1
        assert len(list(results)) == 49


def test_a_set_without_persons(tmp_path):
    crops = open_crop_cache(read_dataset("people", None).subset([]), GEOMETRY, cache=tmp_path)
    assert (len(crops), crops.image_digests, crops.failed) == (0, {}, {})


def test_persons_that_share_an_image_may_come_in_any_order(tmp_path):
    dataset = four_images(tmp_path).subset([6, 1, 4, 0, 7])
    cached, fresh = open_crop_cache(dataset, GEOMETRY, cache=tmp_path), LazyCrops(dataset, GEOMETRY)
    for i in range(len(dataset)):
        np.testing.assert_array_equal(cached.crop(i), fresh.crop(i))
    assert [path.name for path in cached.image_digests] == ["3.jpg", "0.jpg", "2.jpg"]


def test_the_sizes_of_the_images_are_kept(tmp_path):
    dataset = four_images(tmp_path, broken=(1,))
    with Image.open(tmp_path / "2.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "2.jpg", exif=exif)
    for _ in range(2):
        cached = open_crop_cache(dataset, GEOMETRY, cache=tmp_path / "cache", on_unreadable=skip_unreadable)
        assert cached.image_sizes == {tmp_path / f"{n}.jpg": (60, 80, n == 2) for n in (0, 2, 3)}
    assert read_image_sizes(cached.image_sizes) == cached.image_sizes


def test_raw_crops_are_exact_and_separate(tmp_path):
    dataset = read_dataset("people", None).subset(range(0, 40, 9))
    raw, fresh = open_crop_cache(dataset, GEOMETRY, encoding="raw", cache=tmp_path), LazyCrops(dataset, GEOMETRY)
    for i in range(len(dataset)):
        np.testing.assert_array_equal(raw.crop(i), fresh.crop(i))
    jpeg = open_crop_cache(dataset, GEOMETRY, encoding="jpeg", cache=tmp_path)
    assert jpeg.path != raw.path
    assert (jpeg.crop(1) != raw.crop(1)).any()


def test_small_sets_are_stored_raw_and_large_ones_as_jpegs(tmp_path, monkeypatch):
    dataset = read_dataset("people", None).subset(range(4))
    size = len(dataset) * 3 * GEOMETRY.crop_size[0] * GEOMETRY.crop_size[1]
    monkeypatch.setattr(crop_cache, "RAW_LIMIT", size)
    small = open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    assert small.path == open_crop_cache(dataset, GEOMETRY, encoding="raw", cache=tmp_path).path
    monkeypatch.setattr(crop_cache, "RAW_LIMIT", size - 1)
    large = open_crop_cache(dataset, GEOMETRY, cache=tmp_path)
    assert large.path == open_crop_cache(dataset, GEOMETRY, encoding="jpeg", cache=tmp_path).path != small.path


def test_other_settings_make_other_crops(tmp_path):
    dataset = read_dataset("people", None).subset(range(3))
    geometries = (GEOMETRY, CropGeometry((64, 64), padding=1.5), CropGeometry((96, 64)))
    caches = [open_crop_cache(dataset, geometry, cache=tmp_path) for geometry in geometries]
    assert [crops.crop(0).shape[:2] for crops in caches] == [geometry.crop_size for geometry in geometries]
    assert len({crops.path for crops in caches}) == 3


def test_unreadable_images_raise_or_are_left_out_with_a_count(tmp_path, caplog):
    dataset = four_images(tmp_path, broken=(1, 3))
    with pytest.raises(BrokenDataError, match=r"2 of 4 images can't be read, the first: .*1\.jpg") as caught:
        open_crop_cache(dataset, GEOMETRY, cache=tmp_path / "a")
    assert [Path(p.split()[1]).name for p in caught.value.problems] == ["1.jpg", "3.jpg"]
    with pytest.raises(BrokenDataError, match="2 of 4"):  # although the cache of the others is there
        open_crop_cache(dataset, GEOMETRY, cache=tmp_path / "a")
    crops = open_crop_cache(dataset, GEOMETRY, cache=tmp_path / "a", on_unreadable=skip_unreadable)
    assert [p.image_id for p in crops.dataset.instances] == [0, 0, 2, 2]
    assert {p.name for p in crops.failed} == {"1.jpg", "3.jpg"}
    assert {p.name for p in crops.image_digests} == {"0.jpg", "2.jpg"}
    assert "2 of 4 images" in caplog.text
    with pytest.raises(DataError, match="no image could be read"):
        open_crop_cache(dataset.subset([2, 6]), GEOMETRY, cache=tmp_path / "c", on_unreadable=skip_unreadable)


def test_an_image_that_becomes_readable_is_cut(tmp_path, monkeypatch):
    """An unmounted drive leaves size and time of its files unchanged."""
    dataset = four_images(tmp_path)

    def unmounted(path: Path) -> bytes:
        if path.name == "1.jpg":
            raise DataError(f"image {path} can't be read (Input/output error)")
        return path.read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr(crop_cache, "read_image_bytes", unmounted)
        assert len(open_crop_cache(dataset, GEOMETRY, cache=tmp_path, on_unreadable=skip_unreadable)) == 6
    assert len(open_crop_cache(dataset, GEOMETRY, cache=tmp_path, on_unreadable=skip_unreadable)) == 8


def test_the_cache_is_counted_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    crops = open_crop_cache(four_images(tmp_path), GEOMETRY)
    assert cache_size() == (1, crops.path.stat().st_size)
    expected = crops.crop(0).copy()
    clear_cache()
    assert cache_size() == (0, 0)
    np.testing.assert_array_equal(crops.crop(0), expected)  # open crops stay readable


def test_clearing_the_cache_keeps_files_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    crops = open_crop_cache(four_images(tmp_path / "images"), GEOMETRY)
    (photograph := crops.path.with_name("wheat.jpg")).write_bytes(b"photograph")
    crops.path.with_name(f".1.tmp.{crops.path.name}").write_bytes(b"unfinished")
    clear_cache()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [photograph]
    photograph.unlink()
    clear_cache()
    assert not [*(tmp_path / "cache").iterdir()]
