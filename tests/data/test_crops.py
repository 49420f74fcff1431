"""Crops: joints stay on their pixels, large photographs are averaged, broken ones told, the cache found again."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semipose.data.crops import CropGeometry, FreshCrops, cut, open_crops, read_image
from semipose.data.records import Person, PersonSet
from semipose.data.sources import read_annotated
from semipose.errors import DataError
from semipose.skeletons import COCO


def spot(shape: tuple[int, int], x: float, y: float, width: float) -> np.ndarray:
    """A photograph (H, W, 3) with a bright Gaussian spot at (x, y)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    value = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))
    return np.repeat(value[:, :, None], 3, axis=2).astype(np.uint8)


def brightest(image: np.ndarray) -> np.ndarray:
    """Center of mass (x, y) of what is bright."""
    weight = np.where(image[..., 0] > 128, image[..., 0], 0).astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("side", [60, 150, 400, 1000])
def test_joints_stay_on_their_pixels(side):
    """From enlarged to reduced eightfold, the spot lies where the matrix says, to a third of a crop pixel."""
    geometry = CropGeometry((128, 96))
    image = spot((1200, 1100), 500.3, 610.8, side / 25)
    matrix = geometry.from_image((480 - side / 2, 600 - side / 2, side, side))
    expected = matrix[:2, :2] @ (500.3, 610.8) + matrix[:2, 2]
    found = brightest(cut(image, matrix, geometry.crop_size))
    assert np.abs(found - expected).max() < 0.33


@given(st.floats(1, 500), st.floats(1, 500), st.floats(-200, 900), st.floats(-200, 900))
def test_the_box_fills_the_input(width, height, x, y):
    geometry = CropGeometry((256, 192), padding=1.25)
    to_input = geometry.to_input @ geometry.from_image((x, y, width, height))
    corners = np.array([[x - 0.5, y - 0.5, 1], [x + width - 0.5, y + height - 0.5, 1]]) @ to_input.T
    span, center = corners[1, :2] - corners[0, :2], corners[:, :2].mean(axis=0)
    np.testing.assert_allclose(center, [95.5, 127.5], atol=1e-6)
    np.testing.assert_allclose(max(span[0] / 192, span[1] / 256), 1 / 1.25, rtol=1e-9)
    np.testing.assert_allclose(span[0] / width, span[1] / height, rtol=1e-6)


def test_store_equals_fresh_crops_and_is_found_again(tmp_path, monkeypatch):
    persons = read_annotated("people", None).subset(range(0, 40, 3))
    geometry = CropGeometry((64, 64))
    store, fresh = open_crops(persons, geometry, cache=tmp_path), FreshCrops(persons, geometry)
    assert [p.annotation_id for p in store.persons.persons] == [p.annotation_id for p in persons.persons]
    for i in range(len(persons)):
        assert np.abs(store.crop(i).astype(int) - fresh.crop(i)).mean() < 2
    monkeypatch.setattr("semipose.data.crops.read_image", lambda path: pytest.fail("decoded twice"))
    again = open_crops(persons, geometry, cache=tmp_path)
    np.testing.assert_array_equal(again.crop(2), store.crop(2))
    assert [p.name for p in tmp_path.rglob("*.tmp")] == []


def test_other_settings_make_other_crops(tmp_path):
    persons = read_annotated("people", None).subset(range(3))
    for geometry in (CropGeometry((64, 64)), CropGeometry((64, 64), padding=1.5), CropGeometry((96, 64))):
        assert open_crops(persons, geometry, cache=tmp_path).crop(0).shape[:2] == geometry.crop_size
    assert len(list((tmp_path / "crops").iterdir())) == 3


def photographs(folder: Path) -> PersonSet:
    """Three photographs, the second truncated."""
    persons = []
    for n in range(3):
        path = folder / f"{n}.jpg"
        cv2.imwrite(str(path), np.random.default_rng(n).integers(0, 255, (80, 60, 3), np.uint8))
        persons.append(Person(path, n, -n - 1, (5.0, 5.0, 40.0, 60.0)))
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:200])
    return PersonSet(COCO, tuple(persons), "three photographs")


def test_broken_photographs(tmp_path, caplog):
    persons = photographs(tmp_path)
    with pytest.raises(DataError, match=r"1\.jpg"):
        open_crops(persons, CropGeometry((64, 64)), cache=tmp_path / "a")
    assert not list((tmp_path / "a").rglob("index.npz"))
    store = open_crops(persons, CropGeometry((64, 64)), cache=tmp_path / "b", on_error="skip")
    assert [p.image_id for p in store.persons.persons] == [0, 2]
    assert "1 of 3 photographs" in caplog.text
    with pytest.raises(DataError, match="no photograph could be read"):
        open_crops(persons.subset([1]), CropGeometry((64, 64)), cache=tmp_path / "c", on_error="skip")


def test_read_image(tmp_path):
    gray = np.arange(60, dtype=np.uint8).reshape(6, 10)
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, axis=2))
    with pytest.raises(DataError, match="can't be read"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match="broken"):
        read_image(tmp_path / "text.jpg")
