"""Image files: pixels of every kind are kept, and what is not an image raises an error."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from semipose.data.images import (
    decoded_size,
    has_exif_orientation,
    image_size,
    read_image,
    read_image_sizes,
    write_image,
)
from semipose.errors import DataError


def test_gray_images_become_rgb_and_broken_ones_raise(tmp_path):
    gray = np.arange(60, dtype=np.uint8).reshape(6, 10)
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[:, :, None], 3, axis=2))
    with pytest.raises(DataError, match="can't be read"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match="broken"):
        read_image(tmp_path / "text.jpg")


def test_unusual_images_keep_their_pixels(tmp_path):
    """Each kind within what its compression costs; EXIF orientation is not applied, as annotations expect."""
    smooth = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint8)
    image = Image.fromarray(smooth).convert("RGB")
    rotated = image.getexif()
    rotated[0x0112] = 6
    image.save(tmp_path / "rotated.jpg", exif=rotated, quality=95)
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


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_gray_images_are_scaled_by_their_range(tmp_path, bits, suffix):
    """Cameras store 10 and 12 bits in files of 16: as 16 bits they would be black."""
    smooth = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint16)
    Image.fromarray(smooth << (bits - 8)).save(tmp_path / f"deep{suffix}")
    found = read_image(tmp_path / f"deep{suffix}")
    np.testing.assert_array_equal(found, np.repeat(smooth[:, :, None], 3, axis=2))


def test_floats_are_shares_or_gray_levels(tmp_path):
    gray = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.float32)
    for name, values in (("shares", gray / 255), ("levels", gray)):
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif"), np.repeat(gray[:, :, None], 3, axis=2))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_deep_color_images_are_scaled_by_their_range(tmp_path, bits):
    smooth = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint16)
    color = np.stack([smooth, smooth // 2, smooth[::-1]], axis=2)
    cv2.imwrite(str(tmp_path / "deep.png"), (color << (bits - 8))[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), color)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (11_000, 11_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(DataError, match="121 megapixels"):
        read_image(tmp_path / "bomb.png")


def test_links_are_followed_to_images_only(tmp_path):
    """Data sets are linked file by file (git-annex, DVC); the target of a link is decoded as an image or refused."""
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


@pytest.mark.parametrize(("suffix", "expected"), [(".jpg", True), (".png", True), (".tif", False)])
def test_exif_orientation_is_detected(tmp_path, suffix, expected):
    """Pillow applies the orientation of TIFFs itself."""
    image = Image.new("RGB", (8, 6))
    exif = image.getexif()
    image.save(tmp_path / f"plain{suffix}")
    exif[0x0112] = 6
    image.save(tmp_path / f"rotated{suffix}", exif=exif)
    with Image.open(tmp_path / f"plain{suffix}") as plain, Image.open(tmp_path / f"rotated{suffix}") as rotated:
        assert not has_exif_orientation(plain)
        assert has_exif_orientation(rotated) is expected


def test_the_size_is_read_without_the_pixels(tmp_path):
    write_image(np.zeros((40, 60, 3), np.uint8), tmp_path / "image.png", 90)
    (tmp_path / "text.png").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    sizes = [image_size(tmp_path / f"{name}.png") for name in ("image", "text", "pipe", "missing")]
    assert sizes == [(60, 40), None, None, None]


def test_sizes_come_from_headers_of_readable_images(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    paths = [tmp_path / name for name in ("a.png", "b.png", "gone.png")]
    assert read_image_sizes(paths) == {paths[0]: (30, 20, False)}
    assert decoded_size(np.zeros((20, 30, 3), np.uint8), paths[0].read_bytes()) == (30, 20, False)
    assert decoded_size(np.zeros((20, 30, 3), np.uint8), b"unknown to Pillow") == (30, 20, False)


def test_the_name_chooses_the_format(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    write_image(image, tmp_path / "new" / "a.png", quality=90)
    write_image(np.full_like(image, 77), tmp_path / "new" / "a.jpg", quality=90)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), image)
    assert np.abs(read_image(tmp_path / "new" / "a.jpg").astype(int) - 77).max() <= 1
    assert len(list((tmp_path / "new").iterdir())) == 2
