"""Leeds Sports Pose and its extended training set: their `joints.mat`."""

from pathlib import Path

import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice
from semipose.data.formats.image_files import require_images
from semipose.data.formats.matlab import is_matlab, load_mat
from semipose.data.formats.values import box_of_joints
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import LSP

MARGIN = 0.1
"""Margin around the joints that makes the box, as a share of their longer extent; the data sets have no boxes."""


class LspFormat(Format):
    """The joints of one person in each image.

    LSP's array is (3, 14, N) with a flag for occluded joints, LSP Extended's (14, 3, N) with a flag for labeled joints;
    positions are 1-based. Images are `images/im0001.jpg` (LSP) or `im00001.jpg` (extended) next to the file.

    Reference:
        Johnson and Everingham, Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation, BMVC 2010;
        Learning Effective Human Pose Estimation from Inaccurate Annotation, CVPR 2011.
    """

    def matches(self, path: Path) -> bool:
        """Returns whether a file is MATLAB's."""
        return is_matlab(path)

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of LSP's `joints.mat`, as `Format.read` describes."""
        array = load_mat(path, ("joints",))["joints"]
        if array.ndim != 3 or {array.shape[0], array.shape[1]} != {3, len(LSP)}:
            raise DataError(
                f"{path}: joints has shape {array.shape}; it is (3, 14, N) in LSP, (14, 3, N) in LSP Extended"
            )
        extended = array.shape[0] == len(LSP)
        rows = array.transpose(2, 0, 1) if extended else array.transpose(2, 1, 0)
        root = images or next(folder for folder in (path.parent / "images", path.parent) if folder.is_dir())
        persons = []
        for i, row in enumerate(rows):
            with collect_errors(problems):
                if not np.isfinite(row).all():
                    raise DataError(f"{path}: person {i + 1}: joints has values that are not finite")
                persons.append(_person(row, extended, root / f"im{i + 1:0{5 if extended else 4}d}.jpg", i))
        if not persons:
            raise DataError(f"{path} has no usable person; all of its records are broken")
        require_images([str(person.image) for person in persons], path, problems)
        return PoseDataset(LSP, persons, str(path))


def _person(row: np.ndarray, extended: bool, image: Path, number: int) -> Instance:
    """The person of a row; its box has no area if fewer than two joints are labeled."""
    flag = row[:, 2] > 0
    visibility = np.where(flag, 2, 0) if extended else np.where(flag, 1, 2)
    joints = (row[:, :2] - 1) * (visibility > 0)[:, None]
    box = box_of_joints(joints, visibility > 0, MARGIN) or (0.0, 0.0, 0.0, 0.0)
    return Instance(
        image=image,
        image_id=image.stem,
        annotation_id=number,
        box=box,
        joints=joints,
        visibility=visibility.astype(np.int8),
        area=estimate_area(box),
        box_from_labels=True,
    )
