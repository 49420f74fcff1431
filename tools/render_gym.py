"""Renders the gym, the data set of the demo: two fixed cameras, persons who exercise one at a time.

`pip install anny==0.6.2` (Apache-2.0; its MakeHuman bodies are CC0), then `python -m tools.render_gym OUT`. The same
seed gives the same images, but for rounding between machines. Lengths are in meters, x to the right, y away from the
front wall, z up. A person at rest looks along -y.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.gym_exercises import EXERCISES, Style, bone_rotations
from tools.gym_room import CAMERAS, LIGHT, Camera, enlarge, render_room

WIDTH, HEIGHT = 256, 192
PERSONS = {"train": 200, "val": 50}
"""Persons of each part; none is in both."""
FRAMES = 8
"""Frames of each person."""
QUALITY = 70
"""Quality of the WebP files."""

Room = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Color, depth and floor mask of the empty room, as `render_room` returns them."""
Frame = tuple[np.ndarray, dict[str, Any]]
"""An RGB image of 8 bits and its annotation."""

LIMBS = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11],
         [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]  # fmt: skip
"""COCO's limbs, counted from 1."""

SKIN = [(244, 208, 177), (226, 180, 143), (198, 145, 106), (161, 111, 76), (116, 76, 52), (80, 53, 40)]
HAIR = [(30, 24, 20), (70, 48, 32), (120, 84, 50), (190, 155, 100), (150, 150, 150), (110, 50, 30)]
CLOTH = [
    *[(235, 235, 235), (35, 35, 40), (200, 40, 45), (40, 80, 170), (50, 130, 80), (230, 190, 60), (120, 60, 140)],
    *[(230, 120, 50), (120, 125, 130), (60, 60, 90), (150, 200, 220), (200, 150, 160), (90, 70, 50), (70, 160, 160)],
]


@dataclass(frozen=True)
class Person:
    """Shape and clothes of a person: `colors` (F, 3) of the mesh's faces, `offset` (V,) of the cloth in meters."""

    phenotype: dict[str, float]
    colors: np.ndarray
    offset: np.ndarray


class Body:
    """The body model: meshes and COCO keypoints of persons in a pose."""

    def __init__(self) -> None:
        import anny
        import torch
        from anny.keypoints import KeypointsRegressor

        self.torch = torch
        self.model = anny.Anny().to(torch.float32)
        self.keypoints = KeypointsRegressor.coco(self.model)
        self.joints = self.keypoints.labels[:17]
        self.faces = self.model.faces.numpy()
        strongest = self.model.vertex_bone_weights.argmax(1, keepdim=True)
        self.bones = np.array(self.model.bone_labels)[self.model.vertex_bone_indices.gather(1, strongest)[:, 0].numpy()]
        self.names = list(self.model.bone_labels)

    def __call__(self, phenotype: dict[str, float], rotations: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns vertices (V, 3) and COCO keypoints (17, 3), with the pelvis at the origin.

        Args:
            phenotype: Shape of the body.
            rotations: Rotations (3, 3) by bone, in the axes of the rest pose.
        """
        pose = np.tile(np.eye(4, dtype=np.float32), (1, len(self.names), 1, 1))
        for bone, rotation in rotations.items():
            pose[0, self.names.index(bone), :3, :3] = rotation
        with self.torch.inference_mode():
            output = self.model(pose_parameters=self.torch.from_numpy(pose), phenotype_kwargs=phenotype)
            return output["vertices"][0].numpy(), self.keypoints(output)[0, :17].numpy()


def draw_person(rng: np.random.Generator, body: Body) -> Person:
    """Draws shape, skin, hair and clothes."""
    phenotype = {name: float(rng.uniform(0.15, 0.85)) for name in body.model.phenotype_labels}
    phenotype |= {"gender": float(rng.uniform(0, 1)), "age": float(rng.uniform(0.45, 0.9))}
    rest = body(phenotype, {})[0]
    skin, hair, shirt, trousers, shoes = (
        np.array(palette[rng.integers(len(palette))], float) for palette in (SKIN, HAIR, CLOTH, CLOTH, CLOTH)
    )
    colors, offset = np.tile(skin, (len(rest), 1)), np.zeros(len(rest))

    def dress(bones: tuple[str, ...], color: np.ndarray, thickness: float, where: np.ndarray | None = None) -> None:
        chosen = np.array([str(name).startswith(bones) for name in body.bones]) & (True if where is None else where)
        colors[chosen], offset[chosen] = color, thickness

    loose = rng.uniform(0.004, 0.02)
    trunk = ("spine", "clavicle", "shoulder01")
    dress((*trunk, "upperarm01", *(["upperarm02", "lowerarm"] if rng.random() < 0.4 else [])), shirt, loose)
    if rng.random() < 0.4:
        band = np.sin(rest[:, 2] * rng.uniform(60, 120)) > rng.uniform(-0.5, 0.5)
        dress(trunk, np.array(CLOTH[rng.integers(len(CLOTH))], float), loose, band)
    legs = ["lowerleg01", "lowerleg02"] if rng.random() < 0.6 else []
    dress(("root", "pelvis", "spine05", "upperleg", *legs), trousers, rng.uniform(0.004, 0.02))
    dress(("foot", "toe"), shoes, 0.008)
    head = rest[np.char.startswith(body.bones.astype(str), "head")]
    low, high = head.min(0), head.max(0)
    back = rest[:, 1] > low[1] + rng.uniform(0.45, 0.6) * (high[1] - low[1])
    top = rest[:, 2] > low[2] + rng.uniform(0.8, 0.88) * (high[2] - low[2])
    dress(("head", *(["neck"] if rng.random() < 0.4 else [])), hair, rng.uniform(0.006, 0.025), back | top)
    dress(("eye",), np.array((40, 35, 30), float), 0.0)
    return Person(phenotype, colors[body.faces].mean(1), offset)


def _face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns the normals (F, 3) of faces (F, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _inflate(vertices: np.ndarray, faces: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Moves the vertices along their normals by `offset` (V,)."""
    normals, of_faces = np.zeros_like(vertices), _face_normals(vertices, faces)
    for k in range(3):
        np.add.at(normals, faces[:, k], of_faces)
    return vertices + normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12) * offset[:, None]


def _draw_mesh(camera: Camera, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, size: Any) -> np.ndarray:
    """Draws the faces from far to near; returns color and depth (height, width, 4), depth infinite where nothing is."""
    points, depth = camera.project(vertices)
    normals = _face_normals(vertices, faces)
    front = ((vertices[faces].mean(1) - camera.position) * normals).sum(1) < 0
    shade = 0.55 + 0.45 * np.clip(normals @ LIGHT, 0, 1) + 0.1 * normals[:, 2]
    values = np.concatenate([colors * shade[:, None], depth[faces].mean(1)[:, None]], 1)
    order = np.flatnonzero(front)[np.argsort(-values[front, 3])]
    image = np.full((*size, 4), np.inf, np.float32)
    corners = np.round(enlarge(points[faces]) * 16).astype(np.int32)
    for face in order:
        cv2.fillConvexPoly(image, corners[face], values[face].tolist(), shift=4)
    return image


def render(
    camera: Camera, room: Room, mesh: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a mesh and its shadow into the room.

    Args:
        camera: The camera.
        room: Color, depth and floor mask of the empty room.
        mesh: Vertices, faces and colors of faces.

    Returns:
        Color (h, w, 3) and depth (h, w) of the enlarged image.
    """
    vertices, faces, colors = mesh
    background, far, floor = room
    ground = vertices - LIGHT * (vertices[:, 2:] / LIGHT[2])
    points = np.round(enlarge(camera.project(ground)[0]) * 16).astype(np.int32)
    shadow = np.zeros(far.shape, np.float32)
    for triangle in points[faces[::2]]:
        cv2.fillConvexPoly(shadow, triangle, 1.0, shift=4)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 4) * floor
    layer = _draw_mesh(camera, vertices, faces, colors, far.shape)
    near = layer[..., 3] < far
    color = np.where(near[..., None], layer[..., :3], background * (1 - 0.45 * shadow[..., None]))
    return color, np.where(near, layer[..., 3], far)


def annotate(camera: Camera, mesh: np.ndarray, joints: np.ndarray, depth: np.ndarray) -> dict[str, Any]:
    """Returns keypoints, box and area of a person in COCO's form.

    Args:
        camera: The camera.
        mesh: Vertices (V, 3).
        joints: Joints (17, 3).
        depth: Depth of the enlarged image.
    """
    points, distance = camera.project(joints)
    inside = ((points >= 0) & (points < (WIDTH, HEIGHT))).all(1)
    column, row = np.clip(np.round(enlarge(points)).astype(int).T, 0, np.array(depth.shape)[::-1, None] - 1)
    hidden = depth[row, column] < distance - 0.15
    visibility = np.where(inside, np.where(hidden, 1, 2), 0)
    outline = np.clip(camera.project(mesh)[0], 0, (WIDTH - 1, HEIGHT - 1))
    low, high = outline.min(0), outline.max(0)
    box = [round(float(value), 2) for value in (*low, *(high - low))]
    keypoints = [
        number
        for (x, y), seen in zip(points.tolist(), visibility.tolist(), strict=True)
        for number in ((round(x, 2), round(y, 2), seen) if seen else (0, 0, 0))
    ]
    return {
        "keypoints": keypoints,
        "num_keypoints": int((visibility > 0).sum()),
        "bbox": box,
        "area": round(box[2] * box[3], 1),
        "iscrowd": 0,
        "category_id": 1,
    }


def render_clip(rng: np.random.Generator, body: Body, camera: Camera, room: Room) -> Iterator[Frame]:
    """Renders one person, who does two exercises, roughly towards the camera."""
    person = draw_person(rng, body)
    light, phase, speed = rng.uniform(0.8, 1.1), rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
    for exercise in rng.choice(list(EXERCISES), 2, replace=False).tolist():
        place, style = np.append(rng.uniform((-1.1, -0.9), (1.1, 0.9)), 0.0), Style.draw(rng)
        toward = camera.position - place
        heading = np.degrees(np.arctan2(toward[0], -toward[1])) + rng.uniform(-60, 60)
        for _ in range(FRAMES // 2):
            phase += speed * rng.uniform(0.7, 1.3)
            rotations, jump = bone_rotations(EXERCISES[exercise], phase, style, heading + rng.normal(0, 8))
            vertices, joints = body(person.phenotype, rotations)
            vertices = _inflate(vertices, body.faces, person.offset)
            shift = place + np.array((0, 0, jump - vertices[:, 2].min()))
            vertices, joints = vertices + shift, joints + shift
            color, depth = render(camera, room, (vertices, body.faces, person.colors))
            image = cv2.resize(color, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) * light
            image += rng.normal(0, 1.2, image.shape)
            yield np.clip(image, 0, 255).astype(np.uint8), annotate(camera, vertices, joints, depth)


def main() -> None:
    """Renders both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the data set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    body = Body()
    rooms = [render_room(camera, WIDTH, HEIGHT) for camera in CAMERAS]
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    for number, (part, persons) in enumerate(PERSONS.items()):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(persons):
            camera = index % len(CAMERAS)
            rng = np.random.default_rng((options.seed, number, index))
            for frame, (image, annotation) in enumerate(render_clip(rng, body, CAMERAS[camera], rooms[camera])):
                identity, name = len(images) + 1, f"{part}{index:03}_{frame}.webp"
                path = options.out / "images" / name
                cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
                images.append({"id": identity, "file_name": name, "width": WIDTH, "height": HEIGHT})
                annotations.append({"id": identity, "image_id": identity, **annotation})
        category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": body.joints, "skeleton": LIMBS}
        container = {"images": images, "annotations": annotations, "categories": [category]}
        (options.out / f"{part}.json").write_text(json.dumps(container, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    main()
