"""Whom a network is to look at: the people of an image, a folder or the images that a COCO file lists."""

from pathlib import Path

from semipose.data.formats.coco import read_image_list
from semipose.data.formats.image_folder import apply_detections, read_folder, whole_images
from semipose.data.formats.registry import read_annotations
from semipose.errors import ConfigError, DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton


def pictured(
    source: Path,
    skeleton: Skeleton,
    images: Path | str | None,
    boxes: Path | str | None,
    min_score: float,
    problems: list[str],
) -> PoseDataset:
    """The persons to look at in an image, a folder or the images of a COCO file."""
    if source.suffix == ".json":
        if boxes is None:
            return _annotated_boxes(source, skeleton, images, problems)
        return apply_detections(read_image_list(source, images, skeleton), boxes, min_score, problems=problems)
    if source.is_dir():
        found = Path(boxes) if boxes else None
        return read_folder(source, skeleton, boxes=found, min_score=min_score, problems=problems)
    if not source.is_file():
        raise DataError(f"{source} is not there; give an image, a folder of images or a video")
    persons = whole_images([source], skeleton, str(source), problems)
    return apply_detections(persons, boxes, min_score, problems=problems) if boxes else persons


def _annotated_boxes(source: Path, skeleton: Skeleton, images: Path | str | None, problems: list[str]) -> PoseDataset:
    """The persons that an annotation file has boxes of; ConfigError where it has none."""
    try:
        return read_annotations(source, images, labels=False, skeleton=skeleton, problems=problems).usable()
    except DataError as error:
        raise ConfigError(
            f"{error}; of a list of images without people, give a detector's boxes with --boxes"
        ) from None
