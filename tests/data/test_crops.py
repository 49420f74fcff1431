"""Crops: joints stay on their pixels, large photographs are averaged, broken ones told."""

import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semipose.data.crops import CropGeometry, cut
from semipose.data.images import read_image
from semipose.errors import DataError


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


def test_read_image(tmp_path):
    gray = np.arange(60, dtype=np.uint8).reshape(6, 10)
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, axis=2))
    with pytest.raises(DataError, match="can't be read"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match="broken"):
        read_image(tmp_path / "text.jpg")


def test_unusual_photographs_keep_their_pixels(tmp_path):
    """Each kind within what its compression costs; EXIF orientation is not applied, as annotations expect."""
    smooth = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint8)
    image = Image.fromarray(smooth).convert("RGB")
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=turned, quality=95)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    image.convert("L").save(tmp_path / "gray.jpg", quality=95)
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.quantize(256).save(tmp_path / "palette.png")
    Image.fromarray(smooth.astype(np.uint16) * 257).save(tmp_path / "gray16.png")
    cv2.imwrite(str(tmp_path / "color16.png"), np.asarray(image).astype(np.uint16) * 257)
    black = Image.new("RGB", image.size)
    image.convert("L").save(tmp_path / "moving.gif", save_all=True, append_images=[black.convert("L")] * 2)
    for path in sorted(tmp_path.iterdir()):
        found = read_image(path)
        assert found.shape == (48, 64, 3), path.name
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - np.asarray(image)).max() <= 8, path.name


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (11_000, 11_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(DataError, match="121 megapixels"):
        read_image(tmp_path / "bomb.png")


def test_links_are_followed_to_photographs_and_to_nothing_else(tmp_path):
    """Data sets are linked file by file (git-annex, DVC); what a link shows is decoded as a photograph or refused."""
    root, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    cv2.imwrite(str(elsewhere / "a.png"), np.full((6, 10, 3), 7, np.uint8))
    (elsewhere / "secret.txt").write_text("a password")
    os.mkfifo(elsewhere / "pipe")
    targets = {"a.jpg": "a.png", "b.jpg": "secret.txt", "c.jpg": "gone", "d.jpg": "pipe"}
    for name, target in targets.items():
        (root / name).symlink_to(elsewhere / target)
    (root / "e.jpg").symlink_to("/dev/zero")
    (root / "f.jpg").symlink_to(root / "f.jpg")
    assert (read_image(root / "a.jpg") == 7).all()
    for name in "bcdef":
        with pytest.raises(DataError, match=rf"{name}\.jpg") as caught:
            read_image(root / f"{name}.jpg")
        assert "password" not in str(caught.value)
