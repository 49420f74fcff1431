"""Writes CVAT's zip "COCO Keypoints", and the skeleton for its label constructor."""

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import quoteattr

import numpy as np

from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.image_names import names_below_shared_folder
from semipose.structures.instances import PoseDataset
from semipose.utils.files import replacing, write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import as_utf8

ANNOTATIONS = "annotations/person_keypoints_default.json"
IMAGES = "images/default/"
MARGIN = 10
"""Percent of the drawing of a skeleton that stay free at each side."""


def write_cvat(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes a zip with annotations and images, and `NAME_labels.json` beside it.

    The second file is the raw form of the labels of a CVAT project or task, into which the zip is then imported.

    Returns:
        The folder that the names of the images are relative to.
    """
    with TemporaryDirectory() as folder:
        root = write_coco(persons, Path(folder) / "coco.json", progress)
        content = json.loads((Path(folder) / "coco.json").read_bytes())
    del content["image_folder"]  # the images are in the archive
    for image in content["images"]:
        image["file_name"] = as_utf8(image["file_name"])
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
    ):
        archive.writestr(ANNOTATIONS, json.dumps(content))
        for name in names_below_shared_folder(persons.image_paths)[1].values():
            archive.write(root / name, IMAGES + as_utf8(name))
    write_text(path.with_name(f"{path.stem}_labels.json"), json.dumps(_labels(persons), indent=1))
    return root


def _labels(persons: PoseDataset) -> list[dict[str, object]]:
    """The skeleton of each category as a label with its joints as sublabels."""
    joints = persons.skeleton.joints
    sublabels = [{"name": joint, "type": "points", "attributes": []} for joint in joints]
    drawing = _drawing(persons)
    return [
        {"name": part.name, "type": "skeleton", "attributes": [], "sublabels": sublabels, "svg": drawing}
        for part in persons.category.parts
    ]


def _drawing(persons: PoseDataset) -> str:
    """The skeleton as the lines and circles of CVAT's editor, at the mean positions of the joints."""
    points = _positions(persons)
    lines = [
        f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="black" data-type="edge" '
        f'data-node-from="{a + 1}" stroke-width="0.5" data-node-to="{b + 1}"></line>'
        for a, b in persons.skeleton.limbs
        for (x1, y1), (x2, y2) in [(points[a], points[b])]
    ]
    circles = [
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x:.2f}" cy="{y:.2f}" stroke-width="0.1" data-type='
        f'"element node" data-element-id="{n}" data-node-id="{n}" data-label-name={quoteattr(joint)}></circle>'
        for n, (joint, (x, y)) in enumerate(zip(persons.skeleton.joints, points, strict=True), start=1)
    ]
    return "".join([*lines, *circles])


def _positions(persons: PoseDataset) -> np.ndarray:
    """(K, 2) positions in percent: the mean over labeled persons relative to their boxes; a circle without labels."""
    boxes, labeled = persons.instances.boxes, persons.instances.visibility > 0
    relative = (persons.instances.joints - boxes[:, None, :2]) / np.maximum(boxes[:, None, 2:], 1)
    angle = np.linspace(0, 2 * np.pi, len(persons.skeleton), endpoint=False)
    found = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    count = labeled.sum(axis=0)
    if (count > 0).all():
        found = (relative * labeled[..., None]).sum(axis=0) / count[:, None]
    low, size = found.min(axis=0), max(float(np.ptp(found, axis=0).max()), 1e-6)
    return np.asarray(MARGIN + (100 - 2 * MARGIN) * (found - low) / size)
