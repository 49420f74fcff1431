"""The renderer of the gym without its body model: cameras, room, poses, drawing and annotations."""

import cv2
import numpy as np
import pytest

from tools.gym_exercises import EXERCISES, Style, bone_rotations
from tools.gym_room import BOXES, CAMERAS, SCALE, enlarge, render_room
from tools.render_gym import HEIGHT, WIDTH, annotate, render

SQUARE = np.array([[-0.3, 0.0, 0.5], [0.3, 0.0, 0.5], [0.3, 0.0, 1.5], [-0.3, 0.0, 1.5]])
"""An upright square in the middle of the room, whose front faces the cameras."""
FACES = np.array([[0, 1, 2], [0, 2, 3]])


@pytest.fixture(scope="module")
def room():
    return render_room(CAMERAS[0], WIDTH, HEIGHT)


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_is_upright_and_projects_like_a_pinhole(camera):
    right, down, forward = camera.rotation
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert right[2] == pytest.approx(0)
    assert down[2] < 0
    for point in SQUARE:
        seen = point - camera.position
        depth = sum(a * b for a, b in zip(seen, forward, strict=True))
        expected = [
            camera.focal * sum(a * b for a, b in zip(seen, axis, strict=True)) / depth + center
            for axis, center in zip((right, down), camera.center, strict=True)
        ]
        pixels, distance = camera.project(point[None])
        np.testing.assert_allclose(pixels[0], expected)
        assert distance[0] == pytest.approx(depth)


def test_the_room_has_the_depth_of_its_floor_walls_and_boxes(room):
    color, depth, floor = room
    assert color.shape == (HEIGHT * SCALE, WIDTH * SCALE, 3)
    camera = CAMERAS[0]
    top = np.array([[(BOXES[0][0][0] + BOXES[0][1][0]) / 2, BOXES[0][0][1], BOXES[0][1][2] - 0.05]])
    for points, on_floor in ((np.array([[0.0, 0.0, 0.0]]), 1), (np.array([[0.0, 3.5, 1.5]]), 0), (top, 0)):
        (pixel,), (distance,) = camera.project(points)
        column, row = np.round(enlarge(pixel)).astype(int)
        assert depth[row, column] == pytest.approx(distance, abs=0.02)
        assert floor[row, column] == on_floor


@pytest.mark.parametrize("name", EXERCISES)
def test_poses_are_rotations_and_move(name):
    style = Style.draw(np.random.default_rng(0))
    first, jump = bone_rotations(EXERCISES[name], 0.4, style, 30.0)
    second, _ = bone_rotations(EXERCISES[name], 2.2, style, 30.0)
    for rotation in (*first.values(), *second.values()):
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
    assert max(np.abs(first[bone] - second[bone]).max() for bone in first) > 0.2
    assert 0 <= jump < 0.2


def test_a_mirrored_style_exchanges_the_sides():
    plain, mirrored = (bone_rotations(EXERCISES["lunge"], 2.0, Style(mirrored=m), 0.0)[0] for m in (False, True))
    flip = np.diag([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(flip @ plain["upperleg01.L"] @ flip, mirrored["upperleg01.R"], atol=1e-12)
    assert np.abs(plain["upperleg01.L"] - plain["upperleg01.R"]).max() > 0.5


def test_drawing_and_annotation_of_a_square(room):
    camera, colors = CAMERAS[0], np.tile([200.0, 30.0, 30.0], (2, 1))
    color, depth = render(camera, room, (SQUARE, FACES, colors))
    points, distances = camera.project(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.5]]))
    (x, y), (_, above) = np.round(enlarge(points)).astype(int)
    assert depth[y, x] == pytest.approx(distances[0], abs=0.1)
    assert color[y, x, 0] > 3 * color[y, x, 1]
    np.testing.assert_array_equal(color[above, x], room[0][above, x])
    assert (color < room[0] - 5).any(axis=-1)[room[2] > 0].any(), "the square casts a shadow on the floor"

    joints = np.tile([[0.0, 0.0, 1.0]], (17, 1))
    joints[1], joints[2] = (0.0, 1.0, 1.0), (0.0, -4.0, 3.0)
    record = annotate(camera, SQUARE, joints, depth)
    keypoints = np.array(record["keypoints"]).reshape(17, 3)
    assert keypoints[:4, 2].tolist() == [2, 1, 0, 2], "before, behind and outside of the image"
    assert keypoints[2].tolist() == [0, 0, 0]
    np.testing.assert_allclose(keypoints[0, :2], points[0], atol=0.01)
    assert record["num_keypoints"] == 16
    corners = camera.project(SQUARE)[0]
    np.testing.assert_allclose(record["bbox"], [*corners.min(0), *np.ptp(corners, axis=0)], atol=0.02)


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_drawn_body_lies_on_its_projection(camera):
    room = render_room(camera, WIDTH, HEIGHT)
    red = np.tile([255.0, 0.0, 0.0], (2, 1))
    drawn = [render(camera, room, (SQUARE + shift, FACES, red))[1] < room[1] - 0.01 for shift in (0, (0.4, 0.3, 0.2))]
    for mask, shift in zip(drawn, (0, (0.4, 0.3, 0.2)), strict=True):
        coverage = cv2.resize(mask.astype(np.float64), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        row, column = np.mgrid[:HEIGHT, :WIDTH]
        center = [float((axis * coverage).sum() / coverage.sum()) for axis in (column, row)]
        np.testing.assert_allclose(center, _centroid(camera.project(SQUARE + shift)[0]), atol=0.05)


def _centroid(polygon):
    """Returns the center of the area of a polygon (N, 2), by the shoelace formula."""
    (x, y), (following_x, following_y) = polygon.T, np.roll(polygon, -1, axis=0).T
    cross = x * following_y - following_x * y
    return [float(((a + b) * cross).sum() / (3 * cross.sum())) for a, b in ((x, following_x), (y, following_y))]
