"""Positions in upright and stored images, compared with what Pillow does to the pixels."""

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from semipose.data.orientation import Orientation


def center_of_white(image: Image.Image) -> list[float]:
    rows, columns = np.nonzero(np.asarray(image.convert("L")) > 128)
    return [columns.mean() + 0.5, rows.mean() + 0.5]


@pytest.mark.parametrize("exif", range(1, 9))
def test_positions_follow_the_pixels(exif, tmp_path):
    stored = Image.new("RGB", (40, 24))
    stored.paste((255, 255, 255), (4, 6, 12, 10))
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = exif
    stored.save(tmp_path / "a.jpg", exif=tags, quality=95)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    found = Orientation.of(tmp_path / "a.jpg")
    assert (found.exif, found.size, found.upright_size) == (exif, (40, 24), upright.size)
    points = np.array([center_of_white(upright)])
    np.testing.assert_allclose(found.to_stored(points), [[8, 8]], atol=0.1)
    np.testing.assert_array_equal(found.to_upright(found.to_stored(points)), points)
    box = found.box_to_upright((4, 6, 8, 4))
    x, y, width, height = map(round, box)
    assert np.asarray(upright.convert("L").crop((x, y, x + width, y + height))).mean() > 250
    assert found.box_to_stored(box) == (4, 6, 8, 4)


def test_what_is_no_image_has_none(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    assert Orientation.of(tmp_path / "a.jpg") is None
    assert Orientation.of(tmp_path / "b.jpg") is None
