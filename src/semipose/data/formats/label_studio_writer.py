"""Writes Label Studio's tasks with predictions, and the labeling configuration that shows them."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from semipose.data.formats.label_studio import BOXES, HALF_PIXEL, POINTS
from semipose.data.orientation import Orientation
from semipose.errors import DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.utils.files import write_text
from semipose.utils.progress import NO_PROGRESS, Progress

POINT_WIDTH = 0.5
"""Width of a key point in percent of the image."""
ADDRESS = "/data/local-files/?d="
"""Address of files below the folder that Label Studio serves."""


def write_label_studio(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes tasks as JSON with the persons as predictions, and the labeling configuration as XML beside it.

    Each person is a rectangle with its key points in it, so that joints and persons survive. The addresses of the
    images are local files relative to the folder of the file.

    Args:
        persons: The persons; their images are below the folder of `path`.
        path: The JSON file.
        progress: Reports the images.

    Returns:
        The folder of the file.

    Raises:
        DataError: If an image can't be opened.
    """
    members: dict[int | str, list[Instance]] = {image_id: [] for image_id in persons.image_paths}
    for person in persons.instances:
        members[person.image_id].append(person)
    tasks = []
    paths = persons.image_paths
    for image_id, image in progress.track(paths.items(), len(paths), "writing tasks"):
        orientation = Orientation.of(image)
        if orientation is None:
            raise DataError(f"image {image} can't be opened; positions are shares of its size")
        regions = [r for person in members[image_id] for r in _regions(person, persons, orientation)]
        address = ADDRESS + quote(os.fsencode(image.resolve().relative_to(path.parent.resolve()).as_posix()))
        tasks.append({"data": {"image": address}, "predictions": [{"model_version": "semipose", "result": regions}]})
    write_text(path, json.dumps(tasks, indent=1))
    write_text(path.with_suffix(".xml"), labeling_configuration(persons))
    return path.parent


def labeling_configuration(persons: PoseDataset) -> str:
    """Returns the configuration of a Label Studio project with a rectangle for a person and a label for each joint.

    Label Studio's export to COCO takes the order of the joints from `model_index`.
    """
    boxes = "".join(f"    <Label value={quoteattr(part.name)}/>\n" for part in persons.category.parts)
    joints = "".join(
        f'    <Label value={quoteattr(joint)} model_index="{n}"/>\n' for n, joint in enumerate(persons.skeleton.joints)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="boxes" toName="image">\n{boxes}  </RectangleLabels>\n'
        f'  <KeyPointLabels name="joints" toName="image" strokeWidth="3">\n{joints}  </KeyPointLabels>\n</View>\n'
    )


def _regions(person: Instance, persons: PoseDataset, orientation: Orientation) -> list[dict[str, Any]]:
    """The rectangle of a person and the labeled joints, limited to the image, in percent of the upright image."""
    width, height = orientation.upright_size
    left, top, box_width, box_height = orientation.box_to_upright(person.box)
    joints = None if person.joints is None else orientation.to_upright(person.joints + HALF_PIXEL)
    joints = None if joints is None else np.clip(joints, 0, orientation.upright_size)
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    x, y = max(left, 0), max(top, 0)
    w, h = min(left + box_width, width) - x, min(top + box_height, height) - y
    number = person.annotation_id
    names = {part.id: part.name for part in persons.category.parts}
    value = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
    box = {
        **common,
        "id": f"box{number}",
        "from_name": "boxes",
        "type": BOXES,
        "value": {**value, "rotation": 0, BOXES: [names[persons.category_id_of(person)]]},
    }
    points = [
        {
            **common,
            "id": f"box{number}joint{k}",
            "parentID": f"box{number}",
            "from_name": "joints",
            "type": POINTS,
            "value": {
                "x": 100 * float(joints[k, 0]) / width,
                "y": 100 * float(joints[k, 1]) / height,
                "width": POINT_WIDTH,
                POINTS: [joint],
            },
        }
        for k, joint in enumerate(persons.skeleton.joints)
        if joints is not None and person.visibility is not None and person.visibility[k]
    ]
    return [box, *points]
