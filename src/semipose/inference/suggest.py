"""Selection of the images to label next, those with the least confident predictions, and pre-labels for them."""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from semipose.data.account import DataAccount, WrittenFiles
from semipose.data.data_errors import ErrorPolicy
from semipose.data.formats.coco_writer import write_coco
from semipose.data.prediction_images import prediction_dataset
from semipose.data.video import SUFFIXES
from semipose.data.video_frames import extract_frames
from semipose.errors import ConfigError
from semipose.inference.parameters import data_errors_for, refuse_unused
from semipose.inference.pose_model import PoseModel, as_pose_model
from semipose.inference.predictor import predict_dataset
from semipose.structures.instances import Category, Instance, PoseDataset, estimate_area
from semipose.structures.predictions import Prediction
from semipose.utils.device import resolve_device
from semipose.utils.files import make_folder
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]


def suggest(
    model: PoseModel | PathLike,
    source: PathLike,
    *,
    count: int,
    out: PathLike,
    images: PathLike | None = None,
    boxes: PathLike | None = None,
    min_score: float = 0.0,
    box_category: int | str | None = None,
    min_joint_score: float = 0.2,
    network: str | None = None,
    flip_test: bool = False,
    device: str = "auto",
    on_error: ErrorPolicy = "skip",
    progress: Progress = NO_PROGRESS,
) -> WrittenFiles:
    """Copies the images with the least confident predictions to `out`, with pre-labels for a labeling tool.

    Args:
        model: A model, a run folder or a weights file. A model is moved to `device`.
        source: A folder of images, a COCO file, or a video, from which one frame per second is taken.
        count: Number of images to copy.
        out: Folder for the copies, `images`, and the pre-labels, `annotations.json`, in COCO's format.
        images: Image folder of a COCO file.
        boxes: A COCO detections file with person boxes; without one, the annotated boxes or the whole images are used.
        min_score: Boxes with a lower score are left out.
        box_category: Id or name of the detector's category; the persons if not given.
        min_joint_score: Joints with a lower score have no pre-label.
        network: A network of the run folder, as in `load`.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_error: Whether broken records and images are errors (`strict`) or are left out (`skip`).
        progress: Shows the progress.

    Returns:
        The annotation file, then the copied images, the least confident first, with the account of images and persons.

    Raises:
        ConfigError: If a parameter cannot be used, or `out` contains annotations already.
    """
    model, source, out, errors = as_pose_model(model, network), Path(source), Path(out), data_errors_for(on_error)
    _check(count, min_joint_score, out)
    make_folder(out)
    folder, alike = source, 0
    with TemporaryDirectory(dir=out, prefix=".frames") as frames:
        if source.suffix.lower() in SUFFIXES:
            refuse_unused(f"{source.name} is a video", boxes=boxes, images=images)
            folder = Path(frames)
            _, alike = extract_frames([source], folder, progress=progress)
        persons = errors.read(
            "images",
            lambda problems: prediction_dataset(
                folder, model.skeleton, images, boxes, min_score, problems, model.category, box_category=box_category
            ),
        )
        predictor = model.to(resolve_device(device)).predictor(flip_test=flip_test)
        predictions, _ = predict_dataset(predictor, persons, model.geometry, errors, "images", progress)
        selected = least_confident(predictions, count)
        copies = _copy_images(persons.image_paths, selected, out / "images")
    errors.write(out)
    left_out = {"examined frames like one taken": alike}
    account = DataAccount.of(persons, {"predicted on": len(predictions)}, left_out).with_errors(errors, "images")
    account = account if folder == source else replace(account, source=str(source))
    log.info(account.describe())
    if len(copies) < count:
        available = plural(len(copies), "image")
        log.warning("`count` is %d, but %s of %s can be suggested; all are", count, available, source)
    _write_pre_labels(model, selected, copies, persons.category, min_joint_score, out / "annotations.json")
    return WrittenFiles([out / "annotations.json", *copies.values()], account)


def _check(count: int, min_joint_score: float, out: Path) -> None:
    """Raises ConfigError for values out of range, and for a folder with annotations."""
    if count < 1:
        raise ConfigError(f"`count` is {count}; give 1 or more")
    if not 0 <= min_joint_score <= 1:
        raise ConfigError(f"`min_joint_score` is {min_joint_score}; give a number from 0 to 1")
    if (out / "annotations.json").exists() or (out / "images").exists():
        raise ConfigError(
            f"`out`: {out} has annotations.json or images already, perhaps corrected; choose another folder"
        )


def _write_pre_labels(
    model: PoseModel,
    selected: Sequence[Prediction],
    copies: dict[int | str, Path],
    category: Category,
    min_joint_score: float,
    path: Path,
) -> None:
    """Writes the predictions as labels, and logs how many joints have one."""
    labels = PoseDataset(
        model.skeleton, _pre_labels(selected, copies, min_joint_score), "predictions", category=category
    )
    write_coco(labels, path)
    scores = np.stack([p.scores for p in selected])[:, [j not in model.unlearned_joints for j in model.skeleton.joints]]
    log.info(
        "%d of %d joints have a pre-label (score %g or more, the highest is %.2g)",
        (scores >= min_joint_score).sum(),
        scores.size,
        min_joint_score,
        scores.max(),
    )


def least_confident(predictions: Sequence[Prediction], count: int) -> list[Prediction]:
    """Returns the predictions of the `count` least confident images, the least confident image first.

    The confidence of a person is the mean score of its joints. The confidence of an image is the lowest of its persons.
    On LSP Extended this found errors as well as the disagreement between a network's predictions on an image and its
    mirror image, and as well as the disagreement between two networks.
    """
    lowest: dict[int | str, float] = {}
    for prediction in predictions:
        score = float(prediction.scores.mean())
        lowest[prediction.image_id] = min(score, lowest.get(prediction.image_id, score))
    rank = {image: n for n, image in enumerate(sorted(lowest, key=lambda image: lowest[image])[:count])}
    return sorted((p for p in predictions if p.image_id in rank), key=lambda p: rank[p.image_id])


def _copy_images(
    paths: dict[int | str, Path], predictions: Sequence[Prediction], folder: Path
) -> dict[int | str, Path]:
    """Copies the images of the predictions; images from several folders keep their path below the common folder."""
    sources = {p.image_id: paths[p.image_id].absolute() for p in predictions}
    root = os.path.commonpath([path.parent for path in sources.values()])
    copies = {image_id: folder / path.relative_to(root) for image_id, path in sources.items()}
    for image_id, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[image_id], copy)
    return copies


def _pre_labels(
    predictions: Sequence[Prediction], copies: dict[int | str, Path], min_joint_score: float
) -> list[Instance]:
    """Converts predictions to annotations with ids from 1; joints with a low score are unlabeled (COCO's (0, 0))."""
    return [
        Instance(
            copies[p.image_id],
            p.image_id,
            number,
            p.box,
            p.joints * labeled[:, None],
            np.where(labeled, 2, 0).astype(np.int8),
            area=estimate_area(p.box),
            category_id=p.category_id,
        )
        for number, p in enumerate(predictions, start=1)
        for labeled in [(p.scores >= min_joint_score) & (p.scores > 0)]
    ]
