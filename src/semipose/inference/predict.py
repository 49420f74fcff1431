"""Prediction of the poses in images or a video, written as files."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semipose.data.account import DataAccount, WrittenFiles
from semipose.data.data_errors import DataErrors, ErrorPolicy
from semipose.data.formats.coco_results import save_submission
from semipose.data.formats.deeplabcut import names_below_labels
from semipose.data.formats.image_names import names_below_shared_folder, relative_names
from semipose.data.formats.registry import ANNOTATION_SUFFIXES
from semipose.data.images import read_image_sizes
from semipose.data.leakage import image_paths
from semipose.data.prediction_images import prediction_dataset
from semipose.data.suspicions import log_suspicions, suspicious_labels
from semipose.data.video import is_video_source, list_videos
from semipose.errors import BrokenDataError, ConfigError, DataError
from semipose.inference.box_finder import BoxFinder
from semipose.inference.boxes import box_finder_for, is_box_file, warn_of_other_boxes
from semipose.inference.detector import MIN_SCORE, Detector, detect_images, detect_video
from semipose.inference.draw import draw_predictions, draws_among
from semipose.inference.parameters import data_errors_for, refuse_run_folder, refuse_unused
from semipose.inference.pose_model import PoseModel, as_pose_model
from semipose.inference.prediction_files import output_files, refuse_labels, require_writers, write_prediction_files
from semipose.inference.predictor import predict_dataset
from semipose.inference.smoothing import check_smoothing
from semipose.inference.video import predict_video
from semipose.metrics.instance_score import oks_nms
from semipose.structures.boxes import WHOLE, box_facts
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import COCO
from semipose.utils.files import check_output_file
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]

UNREADABLE = "videos that can't be read"


@dataclass(frozen=True)
class _Output:
    """Where predictions are written, and what is drawn; `stem` begins the names of a video's other files."""

    folder: Path
    files: list[Path]
    stem: str | None
    draw: bool
    names: bool

    @classmethod
    def of(cls, out: PathLike, format: str | None, *, draw: bool, names: bool) -> "_Output":
        """Checks the parameters of `predict` with these names."""
        folder, files = output_files(out, format)
        require_writers(files)
        refuse_run_folder(folder)
        if not draw:
            refuse_unused("it refers to drawings, and `draw` is not given", names=names)
        return cls(folder, files, None if folder == Path(out) else Path(out).stem, draw, names)

    def check(self, source: Path, boxes: PathLike | None) -> None:
        """Creates the folder; raises ConfigError if a file would replace an input, or drawings be among the source."""
        folder = self.folder.resolve()
        self._refuse_drawings(source, among=source.is_dir() and source.resolve() in (folder, *folder.parents))
        for path in self.files:
            check_output_file(path, source, *([Path(boxes)] if boxes and is_box_file(boxes) else []))

    def check_images(self, source: Path, images: Sequence[Path]) -> None:
        """Raises ConfigError if drawings would be among the images of the source."""
        self._refuse_drawings(source, among=draws_among(images, self.folder))

    def _refuse_drawings(self, source: Path, *, among: bool) -> None:
        if self.draw and among:
            raise ConfigError(
                f"`out`: drawings in {self.folder} would be mixed with the images of {source}; choose another folder"
            )

    def of_video(self, video: Path) -> "_Output":
        """Returns the same output with files that begin with the name of one of several videos."""
        return replace(self, files=[path.with_name(f"{video.stem}_{path.name}") for path in self.files])


@dataclass(frozen=True)
class _Boxes:
    """The boxes that predictions are made in: of a file, found by a detector or the box network, or the source's."""

    file: PathLike | None
    min_score: float
    category: int | str | None
    detector: Detector | None
    finder: BoxFinder | None

    @classmethod
    def of(
        cls,
        model: PoseModel,
        boxes: PathLike | None,
        min_score: float | None,
        category: int | str | None,
        detect: bool,
        detector: str | None,
    ) -> "_Boxes":
        """Checks the parameters of `predict` with these names."""
        if not detect:
            refuse_unused("nothing is to be detected", detector=detector)
            if not is_box_file(boxes):
                reason = "it refers to a file as `boxes`, and none is given"
                refuse_unused(reason, min_score=min_score, box_category=category)
            return cls(boxes, min_score or 0.0, category, None, box_finder_for(model, boxes))
        refuse_unused("boxes are to be detected", boxes=boxes)
        found = Detector(detector, model.device)
        return cls(None, MIN_SCORE if min_score is None else min_score, found.category(category), found, None)

    def read(
        self, model: PoseModel, source: Path, images: PathLike | None, problems: list[str], progress: Progress
    ) -> PoseDataset:
        """Returns the persons to predict, for the box network with whole images as boxes."""

        def persons(boxes: PathLike | None, problems: list[str]) -> PoseDataset:
            options = (boxes, self.min_score, problems, model.category)
            return prediction_dataset(source, model.skeleton, images, *options, box_category=self.category)

        if self.detector is None:
            return persons(self.file if self.finder is None else WHOLE, problems)
        listed = persons(WHOLE, []).image_paths
        names = relative_names(listed, source) if source.is_dir() else {image_id: image_id for image_id in listed}
        if source.suffix.lower() not in ANNOTATION_SUFFIXES and not source.is_dir():
            names = {image_id: path.name for image_id, path in listed.items()}
        found = detect_images(self.detector, {names[n]: path for n, path in listed.items()}, source, progress)
        return persons(found, problems)

    def predict_video(
        self,
        model: PoseModel,
        video: Path,
        output: _Output,
        errors: DataErrors,
        progress: Progress,
        *,
        smooth: int,
        flip_test: bool,
    ) -> WrittenFiles:
        """Predicts a video."""
        return predict_video(
            model,
            video,
            output.folder,
            files=output.files,
            stem=output.stem,
            boxes=self.file if self.detector is None else detect_video(self.detector, video, progress),
            draw=output.draw,
            names=output.names,
            smooth=smooth,
            flip_test=flip_test,
            min_score=self.min_score,
            box_category=self.category,
            errors=errors,
            progress=progress,
        )


def predict(
    model: PoseModel | PathLike,
    source: PathLike,
    *,
    out: PathLike,
    format: str | None = None,
    images: PathLike | None = None,
    boxes: PathLike | None = None,
    min_score: float | None = None,
    box_category: int | str | None = None,
    detect: bool = False,
    detector: str | None = None,
    draw: bool = False,
    names: bool = False,
    smooth: int = 0,
    network: str | None = None,
    flip_test: bool = False,
    device: str = "auto",
    on_error: ErrorPolicy = "skip",
    progress: Progress = NO_PROGRESS,
) -> WrittenFiles:
    """Predicts the poses of the persons in images or a video, and writes them as files.

    Args:
        model: A model, a run folder or a weights file. A model is moved to `device`.
        source: An image, a folder of images, a video, a folder or pattern (`videos/*.mp4`) of videos, or an annotation
            file, whose images and boxes are used. The files of several videos are VIDEO_predictions.json.
        out: Folder for the predictions and drawings, or one file, by its suffix .json, .csv, .h5 or .slp; drawings then
            go beside it. The scores and the drawn video have the name of this file, else that of the video. For a COCO
            file and COCO's joints, person_keypoints_NAME_semipose_results.json is also written into the folder, for
            COCO's evaluation server, after OKS-NMS if the model's instance score has it. dropped.json (of a
            file or video NAME, NAME_dropped.json) lists records and images that were left out.
        format: `coco`: predictions.json (COCO keypoint results). `csv`: predictions.csv with DeepLabCut's header rows
            and one row an image or frame. `dlc`: this csv and the same as predictions.h5. `slp`: predictions.slp of
            SLEAP. That of the suffix of `out`, or coco, if not given.
        images: Image folder of an annotation file.
        boxes: A COCO detections file with person boxes; `whole`: each image is one person; `auto`: the box network of
            the run finds them. If not given, `auto` if the run has a box network, else the boxes of an
            annotation file, or whole images.
        min_score: Boxes with a lower score are left out; 0 if not given, with `detect` .5.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        detect: Whether a detector of torchvision, trained on COCO, finds the boxes. They are kept in a file
            boxes_….json beside the images or the video, which is used when the same boxes are wanted again.
        detector: Name of the detector, whose weights come from torchvision's hub, or a weights file of torchvision
            (`DETECTORS`); a fast one on a CPU and an accurate one on a GPU if not given.
        draw: Whether images (or a video) with the poses and a legend of the joints are written.
        names: Whether drawings have the name of each joint beside it.
        smooth: Number of frames of a median filter for the predictions of a video with one person, odd; 0 for none.
        network: A network of the run folder, as in `load`.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_error: Whether broken records, images and videos are errors (`strict`) or are left out (`skip`).
        progress: Shows the progress.

    Returns:
        The files written, predictions first, with the account of the images and persons.

    Raises:
        DataError: If the images or boxes cannot be used.
        ConfigError: If a parameter has no effect, or a file in `out` would replace an input, labels or a file of a run.
    """
    output = _Output.of(out, format, draw=draw, names=names)
    model, source, errors = as_pose_model(model, network), Path(source), data_errors_for(on_error)
    if source.suffix.lower() not in ANNOTATION_SUFFIXES:
        refuse_unused(f"{source.name} is not an annotation file", images=images)
    if smooth:
        check_smoothing(smooth)
    output.check(source, boxes)
    model.to(device)
    log.info(model.describe_scores())
    found = _Boxes.of(model, boxes, min_score, box_category, detect, detector)
    if is_video_source(source):
        return _predict_videos(model, source, found, output, errors, progress, smooth=smooth, flip_test=flip_test)
    refuse_unused(f"{source.name} is no video", smooth=smooth)
    refuse_labels(output.files)
    return _predict_images(model, source, images, found, output, errors, progress, flip_test=flip_test)


def _predict_images(
    model: PoseModel,
    source: Path,
    images: PathLike | None,
    boxes: _Boxes,
    output: _Output,
    errors: DataErrors,
    progress: Progress,
    *,
    flip_test: bool,
) -> WrittenFiles:
    """Predicts the images of a source."""
    persons = errors.read("images", lambda problems: boxes.read(model, source, images, problems, progress))
    paths = image_paths(persons)
    output.check_images(source, paths)
    sizes = read_image_sizes(paths)
    if boxes.finder is None:
        warn_of_other_boxes(model, box_facts(persons.instances, sizes), persons.source)
    else:
        persons = boxes.finder.in_images(persons, progress)
        if not len(persons):
            raise DataError(f"{persons.source}: the box network of the run finds no subject in any image; give `boxes`")
    predictor = model.predictor(flip_test=flip_test)
    predictions, _ = predict_dataset(predictor, persons, model.geometry, errors, "images", progress)
    errors.write(output.folder, output.stem)
    account = DataAccount.of(persons, {"predicted on": len(predictions)}, {}).with_errors(errors, "images")
    log.info(account.describe())
    log_suspicions(persons.source, suspicious_labels(persons, sizes))
    return WrittenFiles(_write(model, source, images, persons, predictions, output), account)


def _write(
    model: PoseModel,
    source: Path,
    images: PathLike | None,
    persons: PoseDataset,
    predictions: list[Prediction],
    output: _Output,
) -> list[Path]:
    """Writes the predictions in images, and drawings; returns the files."""
    shown = persons.image_paths
    if source.is_dir():
        shown = dict(sorted(shown.items(), key=lambda item: item[1]))
    if source.suffix.lower() in ANNOTATION_SUFFIXES and not images:
        _, names = names_below_labels(*names_below_shared_folder(shown))
    else:
        names = relative_names(shown, source if source.is_dir() else Path(images) if images else None)
    write_prediction_files(predictions, output.files, model.skeleton, names, [*shown.values()], persons.category)
    written = list(output.files)
    if source.suffix == ".json" and written == [output.folder / "predictions.json"]:
        written += _write_submission(model, predictions, output.folder, source)
    if output.draw:
        written += draw_predictions(persons, predictions, model.skeleton, output.folder, names=output.names)
    return written


def _write_submission(model: PoseModel, predictions: list[Prediction], out: Path, source: Path) -> list[Path]:
    """Writes the file for COCO's evaluation server, if the joints and image ids are COCO's; returns its path."""
    if model.skeleton.keys != COCO.keys or not all(isinstance(p.image_id, int) for p in predictions):
        return []
    path = out / f"person_keypoints_{source.stem.removeprefix('image_info_')}_semipose_results.json"
    submitted = oks_nms(predictions, model.skeleton.sigmas) if model.instance_score == "rescored" else predictions
    if suppressed := len(predictions) - len(submitted):
        log.info("%s: OKS-NMS leaves out %s as duplicates", path.name, plural(suppressed, "prediction"))
    save_submission(submitted, path)
    return [path]


def _predict_videos(
    model: PoseModel,
    source: Path,
    boxes: _Boxes,
    output: _Output,
    errors: DataErrors,
    progress: Progress,
    *,
    smooth: int,
    flip_test: bool,
) -> WrittenFiles:
    """Predicts a video, or several, whose files then begin with their names."""
    videos = list_videos(source)
    if len(videos) > 1:
        if output.stem is not None:
            file = output.files[0].name
            raise ConfigError(f"`out`: {source} has {len(videos)} videos; give a folder, not the file {file}")
        if is_box_file(boxes.file):
            refuse_unused(f"its frame numbers belong to one video, and {source} has several", boxes=boxes.file)
    outputs = {video: output.of_video(video) if len(videos) > 1 else output for video in videos}
    refuse_labels(path for own in outputs.values() for path in own.files)
    paths: list[Path] = []
    accounts: list[DataAccount] = []
    failed: list[str] = []
    for video, own in outputs.items():
        found = errors.fresh()
        try:
            written = boxes.predict_video(model, video, own, found, progress, smooth=smooth, flip_test=flip_test)
            paths, accounts = [*paths, *written], [*accounts, written.account]
        except DataError as error:
            if len(videos) == 1:
                raise
            found.leave_out("video", video, error)
            failed.append(str(error))
        found.write(own.folder, own.stem or video.stem)
    if len(videos) == 1:
        return WrittenFiles(paths, accounts[0])
    if not accounts:
        raise BrokenDataError(f"{source}: no video can be predicted; the first: {failed[0]}", failed)
    return WrittenFiles(paths, _total(source, accounts, len(failed)))


def _total(source: Path, accounts: Sequence[DataAccount], failed: int) -> DataAccount:
    """Logs and returns the account of several videos."""
    persons = sum(account.persons for account in accounts)
    left_out = sum((Counter(account.left_out) for account in accounts), Counter({UNREADABLE: failed}))
    total = DataAccount(str(source), sum(a.images for a in accounts), persons, {"predicted on": persons}, +left_out)
    log.info(total.describe())
    return total
