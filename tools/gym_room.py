"""The room of the rendered gym and its two cameras: floor boards, mats, wall bars, windows and a vaulting box."""

from dataclasses import dataclass

import cv2
import numpy as np

SCALE = 3
"""Images are drawn this much larger and then reduced."""

LIGHT = np.array([0.35, -0.45, 0.82])
"""Direction towards the light, of length 1."""

ROOM = ((-4.0, -5.0, 0.0), (4.0, 3.5, 3.2))
"""Two opposite corners of the room, in meters."""

BOXES = (
    ((1.5, 1.6, 0.0), (2.9, 2.2, 0.95), (150, 105, 60)),
    ((-3.2, 2.4, 0.0), (-1.2, 2.8, 0.42), (165, 125, 80)),
    ((-0.6, -2.1, 0.0), (0.5, -1.75, 0.38), (60, 90, 140)),
)
"""Vaulting box, bench and step: two opposite corners and a color."""


def enlarge(points: np.ndarray) -> np.ndarray:
    """Returns pixels of the image enlarged by `SCALE` for pixels of the final one; centers of pixels are integers."""
    return (points + 0.5) * SCALE - 0.5


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        position: Position (3,), in meters.
        rotation: Rotation (3, 3) from the room to the camera: rows right, down, forward.
        focal: Focal length in pixels.
        center: Principal point (2,) in pixels.
    """

    position: np.ndarray
    rotation: np.ndarray
    focal: float
    center: tuple[float, float]

    @classmethod
    def looking_at(
        cls, position: tuple[float, float, float], target: tuple[float, float, float], focal: float
    ) -> "Camera":
        """Returns an upright camera at `position` that looks at `target`."""
        forward = np.subtract(target, position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0, 0, 1))
        right = right / np.linalg.norm(right)
        return cls(np.array(position), np.stack([right, np.cross(forward, right), forward]), focal, (127.5, 95.5))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pixels (N, 2), pixel centers at integers, and depths (N,) of points (N, 3)."""
        seen = (points - self.position) @ self.rotation.T
        return seen[:, :2] / seen[:, 2:] * self.focal + self.center, seen[:, 2]


CAMERAS = (
    Camera.looking_at((-1.2, -4.6, 1.5), (0.0, 0.1, 0.9), 320.0),
    Camera.looking_at((3.7, -3.0, 2.5), (0.0, 0.0, 0.8), 300.0),
)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Returns smooth noise in [-1, 1] of `shape`, with `cells` random values a side."""
    values = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _floor(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the color of the floor: boards along y, two mats and a line."""
    board = np.floor(x / 0.14)
    tone = 0.9 + 0.1 * np.sin(board * 12.9898) * np.cos(board * 4.1)
    tone = tone * np.where(np.abs(x / 0.14 - board) < 0.05, 0.75, 1.0)
    color = np.array((186, 140, 92)) * tone[..., None]
    for low, high, mat in (((-1.6, -1.1), (0.2, 1.3), (70, 110, 160)), ((0.35, -1.1), (2.0, 1.3), (150, 70, 70))):
        inside = (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
        color[inside] = mat
    color[np.abs(y + 1.6) < 0.04] = (235, 235, 230)
    return color


def _wall(along: np.ndarray, z: np.ndarray, side: int) -> np.ndarray:
    """Returns the color of a wall: panel below, paint above, and on the walls bars, a window, a door and posters."""
    color = np.where((z < 1.0)[..., None], (150, 120, 90), (214, 208, 192)).astype(float)
    color[np.abs(z - 1.0) < 0.03] = (110, 85, 60)

    def paint(low: float, bottom: float, high: float, top: float, value: tuple[int, int, int]) -> np.ndarray:
        inside = (along > low) & (along < high) & (z > bottom) & (z < top)
        color[inside] = value
        return inside

    if side == 0:
        bars = paint(-0.9, 0.1, 0.9, 2.6, (196, 180, 150))
        color[bars & (np.mod(z, 0.18) < 0.05)] = (130, 90, 50)
        paint(1.6, 1.3, 2.9, 2.7, (190, 215, 235))
        paint(2.23, 1.3, 2.27, 2.7, (245, 245, 245))
        paint(-2.6, 1.4, -1.6, 2.4, (60, 120, 110))
        paint(-2.4, 1.7, -1.8, 2.2, (230, 200, 90))
    else:
        paint(-1.0, 0.0, 0.0, 2.1, (95, 105, 120))
        paint(1.0, 1.4, 2.0, 2.3, (170, 60, 60))
        paint(-3.2, 1.3, -1.8, 2.6, (195, 218, 236))
    return color


def render_room(camera: Camera, width: int, height: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Renders the empty room, enlarged by `SCALE`.

    Args:
        camera: The camera.
        width: Width of the final images, in pixels.
        height: Height of the final images, in pixels.
        seed: Seed of the noise on the surfaces.

    Returns:
        Color (h, w, 3) in 0..255, depth along the optical axis (h, w), and floor mask (h, w), 1 on the floor.
    """
    scale = SCALE
    column, row = np.meshgrid(
        (np.arange(width * scale) + 0.5) / scale - 0.5, (np.arange(height * scale) + 0.5) / scale - 0.5
    )
    rays = np.stack([(column - camera.center[0]) / camera.focal, (row - camera.center[1]) / camera.focal], -1)
    rays = np.concatenate([rays, np.ones((*column.shape, 1))], -1) @ camera.rotation
    low, high = (np.array(corner) for corner in ROOM)
    with np.errstate(divide="ignore"):
        exits = np.where(rays > 0, (high - camera.position) / rays, (low - camera.position) / rays)
    depth, axis = exits.min(-1), exits.argmin(-1)
    points = camera.position + rays * depth[..., None]
    color = np.where((rays[..., 2] > 0)[..., None], (225.0, 225.0, 222.0), _floor(points[..., 0], points[..., 1]))
    for side, (wall, along) in enumerate(((1, 0), (0, 1))):
        chosen = axis == wall
        color[chosen] = _wall(points[..., along], points[..., 2], side)[chosen]
    floor = (axis == 2) & (rays[..., 2] < 0)
    light = np.where(axis == 0, 0.82, 1.0)
    for first, second, paint in BOXES:
        corners = np.sort(np.stack([(np.array(c) - camera.position) / rays for c in (first, second)]), 0)
        enter, leave = corners[0].max(-1), corners[1].min(-1)
        hit = (enter < leave) & (enter > 0) & (enter < depth)
        side = corners[0].argmax(-1)
        color[hit], depth[hit], floor[hit] = paint, enter[hit], False
        light[hit] = np.array((0.7, 0.85, 1.05))[side[hit]]
    rng = np.random.default_rng(seed)
    texture = 1 + 0.06 * _noise(rng, depth.shape, 6) + 0.02 * _noise(rng, depth.shape, 60)
    return color * (light * texture)[..., None], depth, floor.astype(np.float32)
