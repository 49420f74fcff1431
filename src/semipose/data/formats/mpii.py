"""MPII in the field's JSON lists (HRNet's `annot/train.json`, `valid.json`), with head sizes from `gt_valid.mat`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.formats.json_files import read_json
from semipose.data.formats.matlab import load_mat
from semipose.data.formats.values import finite_numbers, require_images
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import MPII

HEAD_SHARE = 0.6
"""Head size of PCKh as a share of the head box's diagonal (Andriluka et al., CVPR 2014)."""

SIDE = 200.0
"""A person of scale 1 is this many pixels high."""

SHIFT = 15.0
"""The annotated center moves down by this many pixels per unit of scale, as everyone does."""


def read_mpii(annotations: Path, images: Path | None = None, problems: list[str] | None = None) -> PoseDataset:
    """Persons of an MPII list; 1-based pixels become 0-based.

    The box is the square of side 200 scale around the center, moved down by 15 scale; the crop's padding of 1.25 is
    the list's own. `gt_valid.mat` beside `valid.json` brings head sizes, positions and missing joints for PCKh.
    Raises DataError with file, record and remedy; broken records are left out instead where `problems` is a list to
    note them in.
    """
    records = read_json(annotations, "MPII list")
    if not isinstance(records, list) or not records:
        raise DataError(f"MPII list {annotations} is no list of persons; take HRNet's annot/train.json or valid.json")
    root = _image_root(annotations, images)
    persons = []
    for number, record in enumerate(records):
        with collect_errors(problems):
            persons.append(_person(record, number, root, annotations))
    if not persons:
        raise DataError(f"MPII list {annotations} has no usable person; see semipose data check")
    measured = annotations.with_name("gt_valid.mat")
    if "valid" in annotations.stem and measured.is_file():
        persons = _with_heads(persons, measured, len(records))
    require_images([str(person.image) for person in persons], annotations, problems)
    return PoseDataset(MPII, persons, str(annotations))


def _image_root(path: Path, images: Path | None) -> Path:
    """MPII's layout is annot/ beside images/; samples keep both in one folder."""
    candidates = [images] if images else [path.parent.parent / "images", path.parent / "images", path.parent]
    return next((c for c in candidates if c.is_dir()), candidates[-1])


def _person(record: Any, number: int, root: Path, path: Path) -> Instance:
    where = f"{path}: person {number}"
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        raise DataError(f"{where}: needs 'image', 'center' and 'scale'")
    name = Path(record["image"])
    if name.is_absolute() or ".." in name.parts or "\0" in record["image"]:
        raise DataError(f"{where}: image {record['image']!r} leaves the image folder; make it relative to it")
    center, scale = finite_numbers(record.get("center"), 2), finite_numbers([record.get("scale")], 1)
    if center is None or scale is None or scale[0] <= 0:
        raise DataError(f"{where}: 'center' needs two numbers and 'scale' one above 0")
    size = SIDE * float(scale[0])
    if center[0] != -1:
        center = center + np.array([0, SHIFT * float(scale[0])])
    left, top = (center - 1 - (size - 1) / 2).tolist()
    box = (left, top, size, size)
    joints, visibility = _joints(record, where)
    return Instance(
        image=root / name,
        image_id=record["image"],
        annotation_id=number,
        box=box,
        joints=joints,
        visibility=visibility,
        area=estimate_area(box),
    )


def _joints(record: dict, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """None for the persons of the test list, which have no joints."""
    rows, seen = record.get("joints"), record.get("joints_vis")
    if rows is None:
        return None, None
    found = [finite_numbers(row, 2) for row in rows] if isinstance(rows, list) and len(rows) == len(MPII) else [None]
    flags = finite_numbers(seen, len(MPII))
    if flags is None or any(row is None for row in found):
        raise DataError(f"{where}: needs {len(MPII)} pairs in 'joints' and {len(MPII)} flags in 'joints_vis'")
    visibility = np.where(flags > 0, 2, 0).astype(np.int8)
    return (np.array(found) - 1) * (visibility > 0)[:, None], visibility


def _with_heads(persons: list[Instance], path: Path, count: int) -> list[Instance]:
    """The official evaluation's positions, missing joints and head boxes, in the order of valid.json's `count` records.

    A person's annotation id is its record's place there.
    """
    content = load_mat(path, ("headboxes_src", "jnt_missing", "pos_gt_src"))
    k = len(MPII)
    wanted = {"headboxes_src": (2, 2, count), "jnt_missing": (k, count), "pos_gt_src": (k, 2, count)}
    for name, shape in wanted.items():
        if content[name].shape != shape:
            raise DataError(
                f"{path}: {name} has shape {content[name].shape}, valid.json beside it needs {shape}; "
                "take both from the same release"
            )
    diagonal = np.linalg.norm(content["headboxes_src"][1] - content["headboxes_src"][0], axis=0)
    found = []
    for person in persons:
        i = person.annotation_id
        visibility = np.where(content["jnt_missing"][:, i] == 0, 2, 0).astype(np.int8)
        joints = (content["pos_gt_src"][:, :, i] - 1) * (visibility > 0)[:, None]
        head = HEAD_SHARE * float(diagonal[i])
        found.append(replace(person, joints=joints, visibility=visibility, head_size=head))
    return found
