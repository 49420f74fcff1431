"""Selection of the images to label next, and pre-labels for them."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from semipose.data.account import DataAccount, WrittenFiles
from semipose.data.data_errors import ErrorPolicy
from semipose.data.formats.deeplabcut import SCORER, scorer_of
from semipose.data.formats.registry import ANNOTATION_SUFFIXES
from semipose.data.images import read_image_sizes
from semipose.data.leakage import image_paths
from semipose.errors import ConfigError
from semipose.inference.boxes import box_finder_for, is_box_file, warn_of_other_boxes
from semipose.inference.candidates import Candidates, read_candidates
from semipose.inference.known_images import known_images, run_folder, training_labels, write_record
from semipose.inference.parameters import data_errors_for, refuse_run_folder, refuse_unused
from semipose.inference.pose_model import PoseModel, as_pose_model
from semipose.inference.pre_labels import FILES, IMAGES, check_format, target_of, write_pre_labels
from semipose.inference.selection import select
from semipose.structures.boxes import box_facts
from semipose.structures.predictions import Prediction
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
    format: str = "coco",
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
    """Copies the images to label next to `out`, with pre-labels for a labeling tool.

    The images are uncertain (`uncertainty`), apart in time, and differ in the features of the backbone from each other,
    from those that the run has labels of, and from those suggested before, which are never suggested again.

    Args:
        model: A model, a run folder or a weights file. A model is moved to `device`. The run folder that
            it belongs to gets a file `suggested.json` with what was suggested.
        source: A folder of images, an annotation file, or videos, of which 300 frames or more are examined.
        count: Number of images to copy.
        out: Folder for the copies and the pre-labels.
        format: `coco`: images/ and annotations.json. `cvat`: images/, cvat.zip and its labels. `label-studio`: images/,
            label_studio.json and the labeling configuration. `dlc`: labeled-data/VIDEO_OUT/ with a csv and h5
            each, whose scorer is that of the project that the run learned from. `slp`: images/ and annotations.slp.
            `yolo`: images/, labels/ and data.yaml.
        images: Image folder of an annotation file.
        boxes: A COCO detections file with person boxes, of a video by frame number, `whole` or `auto`, as in `predict`.
        min_score: Boxes with a lower score are left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        min_joint_score: Joints with a lower score have no pre-label: a lower probability of being right, or, if the
            network is not calibrated, a lower peak of the heatmap.
        network: A network of the run folder, as in `load`.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_error: Whether broken records and images are errors (`strict`) or are left out (`skip`).
        progress: Shows the progress.

    Returns:
        The files of the pre-labels, then the copied images, the most uncertain first, with the account of images and
        persons.

    Raises:
        ConfigError: If a parameter cannot be used, or `out` contains annotations already or is a run folder.
        DataError: If every image is labeled or was suggested before.
    """
    model, source, out, errors = as_pose_model(model, network), Path(source), Path(out), data_errors_for(on_error)
    _check(count, min_joint_score, out, format)
    if not is_box_file(boxes):
        reason = "it refers to a file as `boxes`, and none is given"
        refuse_unused(reason, min_score=min_score or None, box_category=box_category)
    if source.suffix.lower() not in ANNOTATION_SUFFIXES:
        refuse_unused(f"{source.name} is not an annotation file", images=images)
    scorer = _scorer(model) if format == "dlc" else SCORER
    make_folder(out)
    log.info(model.describe_scores())
    known = known_images(model.path)
    with TemporaryDirectory(dir=out, prefix=".frames") as folder:
        candidates = errors.read(
            "images",
            lambda problems: read_candidates(
                *(model, source, Path(folder), count, problems, progress),
                images=images,
                boxes=boxes,
                min_score=min_score,
                box_category=box_category,
            ),
        )
        candidates = _with_boxes(model.to(device), candidates, boxes, str(source), progress)
        predictor = model.predictor(flip_test=flip_test)
        selected, left_out = select(predictor, candidates, model.geometry, known, count, errors, progress)
        copies = _copy_images(candidates.persons.image_paths, selected, out, format)
    errors.write(out)
    used = {"images suggested": len(copies), "subjects in them": len(selected)}
    account = DataAccount.of(candidates.examined, used, {**candidates.left_out, **left_out})
    account = replace(account.with_errors(errors, "images"), source=str(source))
    log.info(account.describe())
    if len(copies) < count:
        available = plural(len(copies), "image")
        log.warning("`count` is %d, but %s of %s can be suggested; all are", count, available, source)
    category = candidates.persons.category
    files = write_pre_labels(selected, copies, model.skeleton, category, out, format, min_joint_score, scorer)
    _log_pre_labels(model, selected, min_joint_score)
    _record(model, selected, copies)
    return WrittenFiles([*files, *copies.values()], account)


def _check(count: int, min_joint_score: float, out: Path, format: str) -> None:
    """Raises ConfigError for values out of range, and for a folder with annotations or of a run."""
    if not isinstance(count, Integral) or count < 1:
        raise ConfigError(f"`count` is {count}; give a whole number from 1 on")
    if not 0 <= min_joint_score <= 1:
        raise ConfigError(f"`min_joint_score` is {min_joint_score}; give a number from 0 to 1")
    check_format(format)
    refuse_run_folder(out)
    if existing := next((name for name in (FILES[format], IMAGES) if (out / name).exists()), None):
        raise ConfigError(f"`out`: {out} has {existing} already, perhaps corrected; choose another folder")


def _scorer(model: PoseModel) -> str:
    """The scorer of the DeepLabCut project that the model learned from."""
    labels = training_labels(model.path)
    scorer = SCORER if labels is None else scorer_of(labels)
    if scorer == SCORER:
        log.warning(
            "the tables are of the scorer %s, because the training labels name none; DeepLabCut reads those of the "
            "scorer in its config.yaml: rename them CollectedData_SCORER, then run deeplabcut.convertcsv2h5",
            SCORER,
        )
    return scorer


def _with_boxes(
    model: PoseModel, candidates: Candidates, boxes: PathLike | None, source: str, progress: Progress
) -> Candidates:
    """The candidates in the boxes that the box network finds, or in their own, which may be unlike the training's."""
    if finder := box_finder_for(model, boxes):
        return replace(candidates, persons=finder.in_images(candidates.persons, progress))
    sizes = read_image_sizes(image_paths(candidates.persons))
    warn_of_other_boxes(model, box_facts(candidates.persons.instances, sizes), source)
    return candidates


def _record(model: PoseModel, selected: Sequence[Prediction], copies: Mapping[int | str, Path]) -> None:
    """Notes in the run folder of the model, if it has one, what was suggested."""
    if model.path is not None and (run := run_folder(model.path)) is not None:
        boxes_of = {p.image_id: p.box for p in reversed(selected)}
        write_record(run, [(copy, boxes_of[image_id]) for image_id, copy in copies.items()])


def _log_pre_labels(model: PoseModel, selected: Sequence[Prediction], min_joint_score: float) -> None:
    """Logs how many joints have a pre-label."""
    learned = [j not in model.unlearned_joints for j in model.skeleton.joints]
    scores = np.stack([p.confidences for p in selected])[:, learned]
    log.info(
        "%d of %d joints have a score of %g or more (the highest is %.2g); those in the image have a pre-label",
        (scores >= min_joint_score).sum(),
        scores.size,
        min_joint_score,
        scores.max(),
    )


def _copy_images(
    paths: dict[int | str, Path], predictions: Sequence[Prediction], out: Path, format: str
) -> dict[int | str, Path]:
    """Copies the images of the predictions; images from several folders keep their path below the common folder."""
    sources = {p.image_id: paths[p.image_id].absolute() for p in predictions}
    root = os.path.commonpath([path.parent for path in sources.values()])
    copies = {image_id: target_of(out, path, path.relative_to(root), format) for image_id, path in sources.items()}
    if len(set(copies.values())) < len(copies):
        raise ConfigError("`format`: two images in folders of one name have one name; use another format than dlc")
    for image_id, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[image_id], copy)
    return copies
