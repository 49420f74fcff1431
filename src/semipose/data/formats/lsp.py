"""Leeds Sports Pose and its extended training set, from their `joints.mat`."""

from pathlib import Path

import numpy as np

from semipose.data.formats.matlab import load_mat
from semipose.data.formats.values import require_images
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import LSP

MARGIN = 0.1
"""The sets have no boxes: the joints' extent grows by this share of its longer side on every side."""


def read_lsp(annotations: Path, images: Path | None = None, problems: list[str] | None = None) -> PoseDataset:
    """One person an image, in the order of the file.

    LSP is (3, 14, N) with a flag for occluded joints, LSP Extended (14, 3, N) with a flag for labeled ones; positions
    are 1-based. Images are `images/im0001.jpg` (LSP) or `im00001.jpg` (extended) beside the file.
    Raises DataError with the remedy; broken persons are left out instead where `problems` is a list to note them in.
    """
    array = load_mat(annotations, ("joints",))["joints"]
    if array.ndim != 3 or {array.shape[0], array.shape[1]} != {3, len(LSP)}:
        raise DataError(f"{annotations}: joints has shape {array.shape}, LSP's is (3, 14, N), LSPET's (14, 3, N)")
    extended = array.shape[0] == len(LSP)
    rows = array.transpose(2, 0, 1) if extended else array.transpose(2, 1, 0)
    root = images or next((p for p in (annotations.parent / "images",) if p.is_dir()), annotations.parent)
    digits = 5 if extended else 4
    persons = []
    for i, row in enumerate(rows):
        with collect_errors(problems):
            if not np.isfinite(row).all():
                raise DataError(f"{annotations}: person {i + 1}: joints holds values that are no numbers")
            persons.append(_person(row, extended, root / f"im{i + 1:0{digits}d}.jpg", i))
    if not persons:
        raise DataError(f"{annotations} has no usable person; see semipose data check")
    require_images([str(person.image) for person in persons], annotations, problems)
    return PoseDataset(LSP, persons, str(annotations))


def _person(row: np.ndarray, extended: bool, image: Path, number: int) -> Instance:
    flag = row[:, 2] > 0
    visibility = np.where(flag, 2, 0) if extended else np.where(flag, 1, 2)
    joints = (row[:, :2] - 1) * (visibility > 0)[:, None]
    labeled = joints[visibility > 0]
    box = (0.0, 0.0, 0.0, 0.0)
    if len(labeled):
        low, high = labeled.min(axis=0), labeled.max(axis=0)
        margin = MARGIN * float((high - low).max()) + 1
        x, y = (low - margin).tolist()
        width, height = (high - low + 2 * margin).tolist()
        box = (x, y, width, height)
    return Instance(
        image=image,
        image_id=image.stem,
        annotation_id=number,
        box=box,
        joints=joints,
        visibility=visibility.astype(np.int8),
        area=estimate_area(box),
    )
