"""Crops: joints stay on their pixels, and large images are averaged down."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semipose.data.crops import MEAN_COLOR, CropGeometry, CropSubset, LazyCrops, crops_of_rank
from semipose.data.datasets import read_dataset
from semipose.errors import DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO


def spot(shape: tuple[int, int], x: float, y: float, width: float) -> np.ndarray:
    """An image (H, W, 3) with a bright Gaussian spot at (x, y)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    value = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))
    return np.repeat(value[:, :, None], 3, axis=2).astype(np.uint8)


def brightest(image: np.ndarray) -> np.ndarray:
    """Center of mass (x, y) of the bright pixels."""
    weight = np.where(image[..., 0] > 128, image[..., 0], 0).astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("box", [(10, 20, 60, 60), (0, 0, 30, 200), (5, 5, 200, 31)])
def test_the_area_is_that_of_the_box_extended_to_the_aspect_ratio_and_padded(box):
    geometry = CropGeometry((256, 192))
    width, height = max(box[2], box[3] * 192 / 256), max(box[3], box[2] * 256 / 192)
    assert geometry.area(box) == pytest.approx(1.25 * width * 1.25 * height)


@pytest.mark.parametrize("side", [60, 150, 400, 1000])
def test_joints_stay_on_their_pixels(side):
    """From enlarged to reduced eightfold, the spot lies where the matrix says, to a third of a crop pixel."""
    geometry = CropGeometry((128, 96))
    image = spot((1200, 1100), 500.3, 610.8, side / 25)
    box = (480 - side / 2, 600 - side / 2, side, side)
    matrix = geometry.from_image(box)
    expected = matrix[:2, :2] @ (500.3, 610.8) + matrix[:2, 2]
    found = brightest(geometry.cut(image, box))
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


def test_subsets_hold_the_crops_at_their_positions():
    crops = LazyCrops(read_dataset("people", None).subset(range(7)), CropGeometry((64, 48)))
    subset = CropSubset(crops, [5, 2])
    assert [p.annotation_id for p in subset.dataset.instances] == [crops.dataset[i].annotation_id for i in (5, 2)]
    np.testing.assert_array_equal(subset.crop(1), crops.crop(2))
    shares = [crops_of_rank(crops, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    np.testing.assert_array_equal(shares[1].crop(1), crops.crop(4))
    assert crops_of_rank(crops, 0, 1) is crops


def test_unreadable_images_raise_or_are_collected(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    person = Instance(tmp_path / "text.jpg", 1, 1, (0.0, 0.0, 9.0, 9.0))
    dataset, geometry = PoseDataset(COCO, (person,), "one"), CropGeometry((64, 48))
    with pytest.raises(DataError, match="broken"):
        LazyCrops(dataset, geometry).crop(0)
    failed = {}
    assert (LazyCrops(dataset, geometry, failed).crop(0) == MEAN_COLOR).all()
    assert list(failed) == [tmp_path / "text.jpg"]
