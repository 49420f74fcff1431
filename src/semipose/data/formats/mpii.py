"""MPII in the JSON lists of HRNet (`annot/train.json`, `valid.json`), with head sizes from `gt_valid.mat`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice
from semipose.data.formats.image_files import ImageFolder, require_images
from semipose.data.formats.json_files import first_record, read_json
from semipose.data.formats.matlab import load_mat
from semipose.data.formats.values import finite_numbers
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import MPII

HEAD_SIZE_FACTOR = 0.6
"""Head size of PCKh divided by the diagonal of the head box (Andriluka et al., CVPR 2014)."""
PIXELS_PER_SCALE = 200.0
"""Height in pixels of a person of scale 1."""
CENTER_SHIFT = 15.0
"""Pixels, for scale 1, by which the annotated center moves down, as in HRNet's and MMPose's readers."""


class MpiiFormat(Format):
    """MPII's persons, whose 1-based pixels become 0-based.

    The box is the square of side 200 * scale around the center, which is moved down by 15 * scale. `gt_valid.mat` next
    to `valid.json` gives head sizes, positions and missing joints for PCKh.
    """

    def matches(self, path: Path) -> bool:
        """Returns whether a file is a list of records with an image file."""
        return "image" in first_record(path)

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of an MPII list, as `Format.read` describes."""
        records = read_json(path, "MPII list")
        if not isinstance(records, list) or not records:
            raise DataError(f"MPII list {path} is not a list of persons; use HRNet's annot/train.json or valid.json")
        candidates = (path.parent.parent / "images", path.parent / "images", path.parent)
        folder = ImageFolder(images or next(folder for folder in candidates if folder.is_dir()))
        persons = []
        for number, record in enumerate(records):
            with collect_errors(problems):
                persons.append(_person(record, number, folder, f"{path}: person {number}"))
        folder.report(path)
        if not persons:
            raise DataError(f"MPII list {path} has no usable person; all of its records are broken")
        ground_truth = path.with_name("gt_valid.mat")
        if "valid" in path.stem and ground_truth.is_file():
            persons = _with_ground_truth(persons, ground_truth, len(records))
        require_images([str(person.image) for person in persons], path, problems)
        return PoseDataset(MPII, persons, str(path))


def _person(record: Any, number: int, folder: ImageFolder, where: str) -> Instance:
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        raise DataError(f"{where}: needs 'image', 'center' and 'scale'")
    image = folder.find(record["image"], where)
    center, scale = finite_numbers(record.get("center"), 2), finite_numbers([record.get("scale")], 1)
    if center is None or scale is None or scale[0] <= 0:
        raise DataError(f"{where}: 'center' needs two numbers and 'scale' one above 0")
    size = PIXELS_PER_SCALE * float(scale[0])
    if center[0] != -1:
        center = center + np.array([0, CENTER_SHIFT * float(scale[0])])
    left, top = (center - 1 - (size - 1) / 2).tolist()
    box = (left, top, size, size)
    joints, visibility = _joints(record, where)
    return Instance(
        image=image,
        image_id=record["image"],
        annotation_id=number,
        box=box,
        joints=joints,
        visibility=visibility,
        area=estimate_area(box),
    )


def _joints(record: dict[str, Any], where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Joints and visibility; None for the persons of the test list, which have no joints."""
    rows = record.get("joints")
    if rows is None:
        return None, None
    found = [finite_numbers(row, 2) for row in rows] if isinstance(rows, list) and len(rows) == len(MPII) else [None]
    flags = finite_numbers(record.get("joints_vis"), len(MPII))
    if flags is None or any(row is None for row in found):
        raise DataError(f"{where}: needs {len(MPII)} pairs in 'joints' and {len(MPII)} flags in 'joints_vis'")
    visibility = np.where(flags > 0, 2, 0).astype(np.int8)
    return (np.array(found) - 1) * (visibility > 0)[:, None], visibility


def _with_ground_truth(persons: list[Instance], path: Path, count: int) -> list[Instance]:
    """Adds the positions, missing joints and head sizes of the official evaluation.

    Args:
        persons: Persons whose annotation id is their index in valid.json.
        path: The file `gt_valid.mat`.
        count: Number of records in valid.json.
    """
    content = load_mat(path, ("headboxes_src", "jnt_missing", "pos_gt_src"))
    k = len(MPII)
    shapes = {"headboxes_src": (2, 2, count), "jnt_missing": (k, count), "pos_gt_src": (k, 2, count)}
    for name, shape in shapes.items():
        if content[name].shape != shape:
            raise DataError(
                f"{path}: {name} has shape {content[name].shape}, but valid.json needs {shape}; "
                "take both files from the same release"
            )
    diagonal = np.linalg.norm(content["headboxes_src"][1] - content["headboxes_src"][0], axis=0)
    found = []
    for person in persons:
        i = person.annotation_id
        visibility = np.where(content["jnt_missing"][:, i] == 0, 2, 0).astype(np.int8)
        joints = (content["pos_gt_src"][:, :, i] - 1) * (visibility > 0)[:, None]
        head_size = HEAD_SIZE_FACTOR * float(diagonal[i])
        found.append(replace(person, joints=joints, visibility=visibility, head_size=head_size))
    return found
