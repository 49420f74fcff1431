"""The annotation formats that are written, by the suffix of the file."""

from collections.abc import Callable
from pathlib import Path

from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.deeplabcut import write_labels
from semipose.data.formats.sleap import write_slp
from semipose.data.formats.yolo import write_yolo
from semipose.errors import ConfigError
from semipose.structures.instances import PoseDataset
from semipose.utils.progress import NO_PROGRESS, Progress

WRITERS: dict[str, Callable[[PoseDataset, Path, Progress], Path]] = {
    ".json": write_coco,
    ".csv": write_labels,
    ".h5": write_labels,
    ".slp": write_slp,
    ".yaml": write_yolo,
}
"""Writers of COCO, DeepLabCut (csv, h5), SLEAP and YOLO; each returns the folder of the images."""


def write_annotations(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes a data set in the format that the suffix of the file names.

    Args:
        persons: The data set.
        path: The file.
        progress: Reports the images.

    Returns:
        The folder that the names of the images are relative to.

    Raises:
        ConfigError: If the suffix is none of `WRITERS`.
    """
    if path.suffix.lower() not in WRITERS:
        raise ConfigError(f"`out`: {path.name} has no known suffix; use {', '.join(WRITERS)}")
    return WRITERS[path.suffix.lower()](persons, path, progress)
