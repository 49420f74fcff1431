"""Predictions as labels to correct, in the formats of labeling tools."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.cvat_writer import write_cvat
from semipose.data.formats.deeplabcut import LABELS, SCORER, TABLE, write_labels
from semipose.data.formats.label_studio_writer import write_label_studio
from semipose.data.formats.yolo import write_yolo
from semipose.data.images import image_size
from semipose.data.video_frames import FRAME_NAME
from semipose.errors import ConfigError
from semipose.inference.prediction_files import require_writers, write_prediction_files
from semipose.structures.categories import Category
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton

IMAGES = "images"
FILES: Mapping[str, str] = {
    "coco": "annotations.json",
    "cvat": "cvat.zip",
    "label-studio": "label_studio.json",
    "dlc": LABELS,
    "slp": "annotations.slp",
    "yolo": "data.yaml",
}
"""The main file of each format, in DeepLabCut's the folder that has a folder with a table for each video."""


def check_format(format: str) -> None:
    """Raises ConfigError if the format is unknown or needs a package that is missing."""
    if format not in FILES:
        raise ConfigError(f"`format`: {format!r} is unknown; use {', '.join(FILES)}")
    require_writers([Path(f"{TABLE}.h5" if format == "dlc" else FILES[format])])


def target_of(out: Path, image: Path, name: Path, format: str) -> Path:
    """Returns where a copy of an image belongs in the output folder: in `images`, or as DeepLabCut has it.

    DeepLabCut's folders are VIDEO_OUT, with the name of the output folder, because a project whose folder VIDEO were
    replaced would lose its labels.

    Args:
        out: The output folder.
        image: The image.
        name: Its name relative to the folder that all images share.
        format: The format of the pre-labels.
    """
    if format != "dlc":
        return out / IMAGES / name
    frame = FRAME_NAME.fullmatch(image.stem)
    video = frame[1] if frame else image.parent.name or "images"
    return out / LABELS / f"{video}_{out.resolve().name}" / image.name


def write_pre_labels(
    predictions: Sequence[Prediction],
    copies: Mapping[int | str, Path],
    skeleton: Skeleton,
    category: Category,
    out: Path,
    format: str,
    min_joint_score: float,
    scorer: str = SCORER,
) -> list[Path]:
    """Writes predictions as labels for a labeling tool.

    Args:
        predictions: The predictions in the copied images.
        copies: The copy of each image by its id.
        skeleton: The joints.
        category: The category of the persons.
        out: The output folder.
        format: A key of `FILES`.
        min_joint_score: Joints with a lower score have no label, and neither have those outside of the image.
        scorer: DeepLabCut's name of who labels; a project ignores tables of others.

    Returns:
        The files.
    """
    path = out / FILES[format]
    labeled = [_labeled(p, copies[p.image_id], min_joint_score) for p in predictions]
    if format == "slp":
        pairs = zip(predictions, labeled, strict=True)
        kept = [replace(p, joints=np.where(known[:, None], p.joints, np.nan)) for p, known in pairs]
        names = {image_id: str(copy) for image_id, copy in copies.items()}
        write_prediction_files(kept, [path], skeleton, names, [*copies.values()], category)
        return [path]
    labels = PoseDataset(skeleton, _instances(predictions, copies, labeled), "predictions", category=category)
    if format == "dlc":
        folders = sorted({copy.parent for copy in copies.values()})
        return [table for folder in folders for table in _write_tables(labels, folder, scorer)]
    writers: Mapping[str, Callable[[PoseDataset, Path], object]] = {
        "coco": partial(write_coco, pre_labels=True),
        "cvat": write_cvat,
        "label-studio": write_label_studio,
        "yolo": write_yolo,
    }
    writers[format](labels, path)
    further = {"cvat": ["cvat_labels.json"], "label-studio": ["label_studio.xml"]}
    return [path, *(out / name for name in further.get(format, []))]


def _write_tables(labels: PoseDataset, folder: Path, scorer: str) -> list[Path]:
    """Writes the tables of a video's folder: h5, which DeepLabCut reads, and csv."""
    own = labels.subset([n for n, image in enumerate(labels.instances.paths) if Path(image).parent == folder])
    tables = [folder / f"{TABLE}{scorer}{suffix}" for suffix in (".csv", ".h5")]
    for table in tables:
        write_labels(own, table)
    return tables


def _labeled(prediction: Prediction, image: Path, min_joint_score: float) -> np.ndarray:
    """Which joints have a label, (K,): those with a score that lie in the image, as labeling tools demand."""
    size = image_size(image)
    inside = (prediction.joints >= 0) & (prediction.joints < (np.inf if size is None else np.array(size)))
    return np.asarray(inside.all(axis=1) & (prediction.confidences >= min_joint_score) & (prediction.confidences > 0))


def _instances(
    predictions: Sequence[Prediction], copies: Mapping[int | str, Path], labeled: Sequence[np.ndarray]
) -> list[Instance]:
    """Converts predictions to annotations with ids from 1; joints without a label are COCO's (0, 0)."""
    return [
        Instance(
            copies[p.image_id],
            p.image_id,
            number,
            p.box,
            p.joints * known[:, None],
            np.where(known, 2, 0).astype(np.int8),
            area=estimate_area(p.box),
            category_id=p.category_id,
        )
        for number, (p, known) in enumerate(zip(predictions, labeled, strict=True), start=1)
    ]
