"""The annotation formats: a file is read in the format that its content has, whatever its name."""

import os
from collections.abc import Callable
from pathlib import Path

from semipose.data.formats.ai_challenger import AIChallengerFormat
from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice
from semipose.data.formats.coco import CocoFormat
from semipose.data.formats.cvat import CocoZipFormat
from semipose.data.formats.deeplabcut import DeepLabCutFormat
from semipose.data.formats.image_folder import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from semipose.data.formats.json_files import read_json
from semipose.data.formats.label_studio import LabelStudioFormat
from semipose.data.formats.lsp import LspFormat
from semipose.data.formats.mpii import MpiiFormat
from semipose.data.formats.sleap import SleapFormat
from semipose.data.formats.yolo import YoloFormat
from semipose.errors import DataError, MissingImagesError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton
from semipose.utils.text import some_of

FORMATS: dict[str, Format] = {
    "mpii": MpiiFormat(),
    "ai_challenger": AIChallengerFormat(),
    "lsp": LspFormat(),
    "label_studio": LabelStudioFormat(),
    "deeplabcut": DeepLabCutFormat(),
    "sleap": SleapFormat(),
    "yolo": YoloFormat(),
    "coco_zip": CocoZipFormat(),
    "coco": CocoFormat(),
}
"""Annotation formats by name; the first one that matches reads a file."""

ANNOTATION_SUFFIXES = (".json", ".mat", ".csv", ".h5", ".slp", ".yaml", ".yml", ".zip")
"""Suffixes of annotation files."""


def read_annotations(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    labels: bool = True,
    skeleton: Skeleton | None = None,
    problems: list[str] | None = None,
    category: CategoryChoice = ANY_CATEGORY,
) -> PoseDataset:
    """Reads the persons of an annotation file in any of `FORMATS`.

    Args:
        path: The annotation file.
        images: The image folder; None to find it near the file.
        labels: Whether joints are read; without them a COCO file needs no joint names.
        skeleton: The skeleton of a COCO file without joint names, used if `labels` is False.
        problems: Collects one line for each broken record, which is then left out.
        category: The category that is read of a COCO file with several.

    Returns:
        The persons, in the order of the file.

    Raises:
        DataError: If the file cannot be used, or a record is broken and `problems` is None.
    """
    path, folder = Path(path), Path(images) if images else None
    if folder is not None and not folder.is_dir():
        raise DataError(f"`images`: folder {folder} does not exist")
    found = find_format(path)
    if labels:
        return found.read(path, folder, problems, category)
    return found.read_boxes(path, folder, problems, skeleton, category)


def read_with_images(
    read: Callable[[str | None], PoseDataset], images: str | None, fallback: str | None
) -> PoseDataset:
    """Returns what `read` finds with the image folder `images`; with `fallback` if none is given or found."""
    try:
        return read(images)
    except MissingImagesError:
        if images is not None or fallback is None:
            raise
        return read(fallback)


def is_annotation_folder(path: Path) -> bool:
    """Returns whether a folder is one of labels, such as a DeepLabCut project, and not just one of images."""
    return path.is_dir() and any(known.matches(path) for known in FORMATS.values())


def find_format(path: Path) -> Format:
    """Returns the format of an annotation file or folder; raises DataError if it has none of `FORMATS`."""
    for known in FORMATS.values():
        if known.matches(path):
            return known
    if path.is_dir():
        files = [str(file) for file in sorted(path.iterdir()) if _is_annotation_file(file)]
        raise DataError(
            f"folder {path} is no DeepLabCut project (no config.yaml with bodyparts) and no split of a YOLO data set; "
            + (f"give an annotation file that is in it: {some_of(files, 'or')}" if files else "give an annotation file")
        )
    if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        kind = "a video" if path.suffix.lower() in VIDEO_SUFFIXES else "an image"
        raise DataError(
            f"{path} is {kind} and has no labels; labels are a COCO file, a DeepLabCut project or table, a SLEAP file, "
            f"a YOLO data set or a file of another format that semipose reads ({', '.join(ANNOTATION_SUFFIXES)})"
        )
    read_json(path, "annotation file")  # raises where a file is missing or broken
    raise DataError(
        f"annotation file {path} has none of the formats {', '.join(FORMATS)}; a list of detections belongs to `boxes`"
    )


def _is_annotation_file(path: Path) -> bool:
    """Whether a file can be given as labels: of a known format, or a data.yaml."""
    if path.suffix.lower() not in ANNOTATION_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return path.stem == "data" or any(known.matches(path) for known in FORMATS.values())
