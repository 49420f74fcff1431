"""Drawings of poses: joints are where the enlarged image has them, sides have their colors, files are complete."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import semipose
from semipose.data.formats.coco import read_coco
from semipose.data.formats.image_folder import read_folder
from semipose.data.images import read_image
from semipose.errors import DataError
from semipose.inference.draw import (
    LEFT,
    MIDDLE,
    RED,
    RIGHT,
    comparison_sheet,
    draw_errors,
    draw_masks,
    draw_pose,
    draw_predictions,
    draw_rings,
    fit_image,
    save_image,
)
from semipose.inference.legend import joint_color
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import COCO, SKELETONS, infer_skeleton

PEOPLE = Path(semipose.__file__).parent / "people" / "val.json"
POINTS = infer_skeleton(["left_wrist", "right_wrist", "nose"], name="points")
SIDES = infer_skeleton(["left_hip", "left_knee", "right_hip", "right_knee"], limbs=[(0, 1), (2, 3), (0, 2)])
GRAY = np.full((60, 80, 3), 128, np.uint8)


def drawn(joints, skeleton=POINTS, scores=None, image=GRAY, **options) -> np.ndarray:
    joints = np.asarray(joints, float)
    scores = np.ones(joints.shape[:2]) if scores is None else np.asarray(scores, float)
    return draw_pose(image, joints, scores, skeleton, **options)


def color_at(canvas: np.ndarray, x: float, y: float) -> tuple[int, int, int]:
    """The color drawn at a pixel, through the soft edge of a thin line."""
    found = canvas[round(y), round(x)].astype(float)
    near = [c for c in (LEFT, RIGHT, MIDDLE) if np.abs(found - c).max() < 40]
    return near[0] if near else tuple(int(v) for v in found)


def test_joints_have_their_own_colors_and_limbs_that_of_their_side() -> None:
    canvas = drawn([[[10, 10], [40, 10], [70, 10]]])
    assert [tuple(canvas[10, x]) for x in (10, 40, 70)] == [joint_color(k) for k in range(3)]
    canvas = drawn([[[10, 10], [10, 50], [60, 10], [60, 50]]], SIDES)
    assert [color_at(canvas, *at) for at in ((10, 30), (60, 30), (35, 10))] == [LEFT, RIGHT, MIDDLE]


def test_names_are_written_on_demand() -> None:
    joints = [[[10, 10], [10, 30], [10, 50]]]
    plain, named = drawn(joints), drawn(joints, names=True)
    assert (plain[:, 20:] == GRAY[:, 20:]).all()
    changed = (named[:, 20:] != GRAY[:, 20:]).any(axis=(1, 2))
    assert changed[[10, 30, 50]].all()
    low = drawn(joints, scores=[[1, 0.1, 1]], names=True)
    assert (low[26:35] == GRAY[26:35]).all()


def test_joints_of_a_small_animal_in_a_large_frame_can_be_seen() -> None:
    frame = np.full((480, 640, 3), 128, np.uint8)
    canvas = drawn([[[300, 200], [330, 230], [360, 260]]], image=frame)
    assert (canvas == joint_color(0)).all(axis=-1).sum() > 35


def test_the_image_is_not_changed() -> None:
    before = GRAY.copy()
    canvas = drawn([[[10, 10], [40, 10], [70, 10]]])
    assert np.array_equal(GRAY, before)
    assert canvas.dtype == np.uint8
    assert not np.shares_memory(canvas, GRAY)
    assert np.array_equal(drawn(np.zeros((0, 3, 2)), scores=np.zeros((0, 3))), before)


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.5])
def test_joints_stay_on_their_pixel_when_the_image_grows(scale: float) -> None:
    """A white square's center is where the joint is drawn: pixel centers at integers before and after."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:23, 30:33] = 255
    larger = drawn(np.zeros((0, 3, 2)), scores=np.zeros((0, 3)), image=image, scale=scale).astype(float)[..., 0]
    assert larger.shape == (round(60 * scale), round(80 * scale))
    ys, xs = np.mgrid[: larger.shape[0], : larger.shape[1]]
    square = np.array([(xs * larger).sum(), (ys * larger).sum()]) / larger.sum()
    dark = np.zeros_like(image)
    dot = drawn([[[31, 21]] * 3], scores=[[1, 0, 0]], image=dark, scale=scale).astype(float)[..., 2]
    found = np.array([(xs * dot).sum(), (ys * dot).sum()]) / dot.sum()
    np.testing.assert_allclose(found, square, atol=0.15)


def test_joints_with_a_low_score_and_their_limbs_are_not_drawn() -> None:
    joints = [[[10, 10], [10, 50], [60, 10], [60, 50]]]
    canvas = drawn(joints, SIDES, scores=[[1, 0.1, 1, 1]])
    assert color_at(canvas, 10, 50) == color_at(canvas, 10, 30) == (128, 128, 128)
    assert color_at(canvas, 60, 30) == RIGHT
    assert color_at(drawn(joints, SIDES, scores=[[1, 0.1, 1, 1]], min_score=0.05), 10, 30) == LEFT
    assert color_at(drawn(joints, SIDES, scores=[[1, 0, 1, 1]], min_score=0), 10, 30) == (128, 128, 128)


def test_larger_persons_get_wider_lines() -> None:
    def share(size: int) -> int:
        image = np.full((size + 40, size + 40, 3), 128, np.uint8)
        joints = [[[20, 20], [20, 20 + size], [20 + size, 20], [20 + size, 20 + size]]]
        row = drawn(joints, SIDES, image=image)[20 + size // 2]
        return int((np.abs(row.astype(int) - LEFT).max(axis=-1) < 40).sum())

    assert share(400) > share(60) >= 1


def test_joints_outside_and_persons_that_are_not_finite_are_not_drawn() -> None:
    without_limbs = infer_skeleton(["a", "b", "c"], limbs=[])
    outside, not_finite = [[-500.0, 1e9], [1e12, -3], [-40, -40]], [[np.nan, 5], [5, 5], [6, 6]]
    assert (drawn([outside, not_finite], without_limbs) == GRAY).all()
    changed = np.argwhere((drawn([[*outside[:2], [70, 10]]], without_limbs) != GRAY).any(axis=-1))
    np.testing.assert_allclose(changed.mean(axis=0), (10, 70), atol=1)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_skeleton_is_drawn(skeleton) -> None:
    joints = np.random.default_rng(0).uniform(0, 60, (2, len(skeleton), 2))
    assert (drawn(joints, skeleton) != GRAY).any()


def test_the_three_colors_differ_for_colorblind_eyes() -> None:
    """Machado, Oliveira & Fernandes 2009, severity 1: deuteranopia and protanopia, in linear RGB."""
    views = {
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    }
    linear = (np.array([LEFT, RIGHT, MIDDLE]) / 255) ** 2.2
    for matrix in views.values():
        perceived = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2) * 255
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert np.linalg.norm(perceived[a] - perceived[b]) > 60


def test_a_sheet_contains_every_image_under_its_title() -> None:
    colors = [[(250, 0, 0), (0, 250, 0)], [(0, 0, 250), (250, 250, 0)], [(0, 250, 250), (250, 0, 250)]]
    rows = [[np.full((30, 40, 3), c, np.uint8) for c in row] for row in colors]
    sheet = comparison_sheet(rows, ["one", "two"], tile=64, across=2)
    assert sheet.dtype == np.uint8
    for row in colors:
        for color in row:
            assert (sheet == color).all(axis=-1).sum() == 64 * 48  # fitted by the longer side
    assert (sheet[:34].min(axis=-1) < 128).any()
    assert comparison_sheet(rows[:1], ["one", "two"], tile=64).shape[1] < sheet.shape[1]


def test_rings_are_around_their_points() -> None:
    drawn = draw_rings(GRAY, np.array([[40.0, 30.0]]), RED, radius=10)
    y, x = np.argwhere((drawn == RED).all(axis=-1)).T
    assert np.allclose([x.mean(), y.mean()], [40, 30], atol=0.5)
    assert np.allclose(np.hypot(x - 40, y - 30), 10, atol=2)
    assert (GRAY == 128).all()


def test_masks_are_filled_and_outlined() -> None:
    masks = np.zeros((60, 80), bool)
    masks[10:30, 20:50] = True
    drawn = draw_masks(GRAY, masks, (1, 2, 3))
    assert (drawn[15:25, 25:45] == (1, 2, 3)).all()
    assert (drawn[10, 20:50] == RIGHT).all()
    assert (drawn[:8] == 128).all()
    assert (drawn[:, 53:] == 128).all()


def test_an_image_is_fitted_into_a_square() -> None:
    fitted = fit_image(np.full((30, 60, 3), 9, np.uint8), 120)
    assert fitted.shape == (120, 120, 3)
    assert (fitted[30:90] == 9).all()
    assert (fitted[:30] == 245).all()


@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPG"])
def test_images_are_written(tmp_path: Path, ending: str) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 0] = 200
    path = tmp_path / "deep" / f"image{ending}"
    save_image(image, path)
    save_image(image, path)
    assert list(path.parent.iterdir()) == [path]
    back = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert np.abs(back.astype(int) - image).max() <= (0 if ending == ".png" else 6)


def test_an_image_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image\.tiff .* use \.png or \.jpg"):
        save_image(GRAY, tmp_path / "image.tiff")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_image(GRAY, tmp_path / "file" / "image.png")


def test_predictions_are_drawn_on_their_image(tmp_path: Path) -> None:
    persons = read_coco(PEOPLE).subset([0, 1])
    found = ground_truth_as_predictions(persons)
    written = draw_predictions(persons, [*found, found[0]], persons.skeleton, tmp_path)
    assert [p.name for p in written] == [f"{p.image.stem}_pose.jpg" for p in persons.instances]
    pictures = [cv2.imread(str(p)) for p in written]
    assert all(p.shape[0] == 192 and p.shape[1] > 192 for p in pictures)  # the legend


def test_drawings_replace_neither_images_nor_each_other(tmp_path: Path) -> None:
    """Images and drawings in one folder, two images of one name."""
    image = read_image(read_coco(PEOPLE)[0].image)
    for name in ("a.jpg", "a.png", "b.jpg"):
        save_image(image, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    persons = read_folder(tmp_path, COCO)
    found = [Prediction(p.image_id, None, np.zeros((17, 2)), np.ones(17), 1.0, p.box) for p in persons.instances]
    written = draw_predictions(persons, found, persons.skeleton, tmp_path)
    assert sorted(p.name for p in written) == ["a_jpg_pose.jpg", "a_png_pose.jpg", "b_pose.jpg"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_line_leads_from_each_prediction_to_a_ring_at_its_label() -> None:
    labeled, predicted = np.array([[20.0, 30.0], [60.0, 50.0]]), np.array([[60.0, 30.0], [10.0, 10.0]])
    canvas = draw_errors(GRAY, labeled, predicted, np.array([True, False]))
    assert canvas[30, 40].min() > 220
    assert tuple(canvas[30, 13]) == joint_color(0)
    assert (canvas[42:] == GRAY[42:]).all()  # the second joint has no label
