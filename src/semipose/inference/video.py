"""Prediction of the joints in every frame of a video, and a copy of the video with drawn poses."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semipose.data.account import DataAccount, WrittenFiles
from semipose.data.data_errors import DataErrors
from semipose.data.formats.detections import BoxSelection, read_detections
from semipose.data.formats.image_names import id_value
from semipose.data.video import DRAWN_SUFFIX, SCORES_SUFFIX, Frame, count_frames, read_frames
from semipose.errors import DataError
from semipose.inference.box_finder import BoxFinder
from semipose.inference.boxes import box_finder_for, is_box_file, warn_of_other_boxes
from semipose.inference.draw import draw_pose
from semipose.inference.legend import add_legend, write_beside
from semipose.inference.pose_model import PoseModel
from semipose.inference.prediction_files import write_prediction_files
from semipose.inference.predictor import FrameCrops
from semipose.inference.smoothing import check_smoothing, median_filter
from semipose.inference.tracking import Tracker, describe_subjects
from semipose.metrics.video_scores import video_scores
from semipose.structures.boxes import box_facts
from semipose.structures.categories import PERSON, Category
from semipose.structures.instances import Instance, Instances, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton
from semipose.utils.extras import import_extra
from semipose.utils.files import check_output_file, replacing, write_text
from semipose.utils.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]


BoxesByFrame = dict[int, list[Box]] | None


def predict_video(
    model: PoseModel,
    source: Path,
    out: Path,
    *,
    files: Sequence[Path] | None = None,
    stem: str | None = None,
    boxes: str | os.PathLike[str] | None = None,
    draw: bool = False,
    names: bool = False,
    smooth: int = 0,
    flip_test: bool = False,
    min_score: float = 0.0,
    box_category: int | str | None = None,
    errors: DataErrors | None = None,
    progress: Progress = NO_PROGRESS,
) -> WrittenFiles:
    """Writes predictions, whose image ids are frame numbers from 0, and with `draw` the video with poses.

    Boxes and joints refer to the upright frame, which video players and most detectors use. If a frame cannot be
    decoded, the predictions for the frames before it are kept and a warning is logged. If a frame has several boxes,
    the persons are tracked (`Tracker`). The scores that need no labels are logged and written to `STEM_scores.json`.

    Args:
        model: The model, on its device.
        source: The video.
        out: Folder of the scores and of the video with poses, STEM_pose.mp4.
        files: The files of the predictions, predictions.json in `out` if not given; a table has a row for each frame.
        stem: STEM; that of the video if not given.
        boxes: A COCO detections file whose image ids are frame numbers, `whole` or `auto`, as in `predict`.
        draw: Whether to write the video with poses, which are not smoothed, and a legend of the joints.
        names: Whether the name of each joint is written beside it.
        smooth: Number of frames of a median filter for the predictions in files; 0 for none.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        min_score: Boxes with a lower score are left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        errors: The policy of `video`, for broken detections and a video that can't be read to its end; to leave out
            what is broken if not given.
        progress: Shows the progress.

    Returns:
        The files written, with the account of the frames and persons.

    Raises:
        DataError: If no frame can be read, or no box of the file is of one of the frames.
        BrokenDataError: If something is broken, and the policy is strict.
        ConfigError: If `smooth` is even, or frames with several boxes are to be smoothed.
    """
    errors = errors or DataErrors(default="skip")
    by_frame, left_out = errors.read(
        "video", lambda problems: boxes_by_frame(boxes, min_score, box_category, model.category, problems)
    )
    finder = box_finder_for(model, boxes)
    several = finder.several if finder else by_frame is not None and max(map(len, by_frame.values())) > 1
    if smooth:
        check_smoothing(smooth, several)
    stem = stem or source.stem
    drawn = out / f"{stem}{DRAWN_SUFFIX}" if draw else None
    if drawn:
        check_output_file(drawn, source)
    problems: list[str] = []
    frames = predict_frames(model, source, by_frame, finder, problems, flip_test=flip_test, progress=progress)
    tracker = Tracker(model.skeleton.sigmas) if several else None
    place: AbstractContextManager[Path | None] = replacing(drawn) if drawn else nullcontext()
    with place as temporary:
        predictions, count = _collect(frames, tracker, temporary, model.skeleton, names=names)
        errors.add("video", problems)
        if by_frame is not None and not predictions:
            raise DataError(
                f"`boxes`: no box of {boxes} is of one of the {count} frames of {source.name}; `image_id` is the "
                "frame number (0, 1, …)"
            )
    left_out["frames without a box"] = count - len({p.image_id for p in predictions})
    account = _account(source, count, len(predictions), by_frame, left_out).with_errors(errors, "video")
    log.info(account.describe())
    if several:
        log.info("%s: %s", source.name, describe_subjects(predictions, count))
    scores = video_scores(predictions, model.skeleton)
    log.info("%s: %s", source.name, scores.describe())
    if smooth:
        predictions = median_filter(predictions, smooth)
    written = list(files or [out / "predictions.json"])
    rows: dict[int | str, str | int] = {n: n for n in range(count)}
    write_prediction_files(predictions, written, model.skeleton, rows, source, model.category)
    scores_file = out / f"{stem}{SCORES_SUFFIX}"
    write_text(scores_file, json.dumps({"video": source.name, "model": model.name, **scores.as_dict()}))
    return WrittenFiles([*written, scores_file, *([drawn] if drawn else [])], account)


def _collect(
    frames: Iterable[tuple[Frame, np.ndarray, list[Prediction]]],
    tracker: Tracker | None,
    drawn: Path | None,
    skeleton: Skeleton,
    *,
    names: bool,
) -> tuple[list[Prediction], int]:
    """Returns the predictions of all frames, tracked if there is a tracker, and the number of frames; draws them."""
    predictions, count = list[Prediction](), 0
    writer: AbstractContextManager[_VideoWriter | None] = _VideoWriter(drawn) if drawn else nullcontext()
    with writer as video:
        for frame, image, untracked in frames:
            found = tracker.update(count, untracked) if tracker else untracked
            predictions += found
            count += 1
            if video:
                video.add(_drawn(image, found, skeleton, names=names), frame)
    return predictions, count


def _account(source: Path, frames: int, persons: int, by_frame: BoxesByFrame, left_out: Counter[str]) -> DataAccount:
    """The account of a video; `left_out` counts the boxes of a file that were not selected."""
    if by_frame is not None:
        left_out["boxes of frames that the video does not have"] = sum(map(len, by_frame.values())) - persons
    return DataAccount(str(source), frames, persons, {"predicted on": persons}, dict(+left_out))


def predict_frames(
    model: PoseModel,
    source: Path,
    by_frame: BoxesByFrame = None,
    finder: BoxFinder | None = None,
    problems: list[str] | None = None,
    *,
    flip_test: bool = False,
    progress: Progress = NO_PROGRESS,
) -> Iterator[tuple[Frame, np.ndarray, list[Prediction]]]:
    """Yields each frame of a video with its image (H, W, 3) uint8 RGB and the predictions for its boxes.

    The boxes are those of `by_frame`, else those that `finder` finds, else the whole frame.

    Raises:
        DataError: If no frame can be read; if a later one can't, a warning is logged, and `problems` collects why.
    """
    predictor, number = model.predictor(flip_test=flip_test), -1
    try:
        frames = progress.track(read_frames(source, problems), count_frames(source), "predicting frames")
        for number, frame in enumerate(frames):
            image = frame.image
            whole: list[Box] = [(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))]
            own = whole if by_frame is None else by_frame.get(number, [])
            persons = [Instance(source, number, -i - 1, box) for i, box in enumerate(own)]
            dataset = PoseDataset(model.skeleton, persons, str(source), category=model.category)
            if finder is not None:
                dataset = finder.in_frame(image, dataset)
            elif number == 0:
                _compare_boxes(model, source, by_frame, whole[0])
            yield frame, image, predictor.predict(FrameCrops(image, dataset, model.geometry)) if len(dataset) else []
    except DataError as error:
        if number < 0:
            raise
        log.warning("%s; the predictions of its first %d frames are kept", error, number + 1)
        if problems is not None:
            problems.append(str(error))


def _compare_boxes(model: PoseModel, source: Path, by_frame: BoxesByFrame, frame: Box) -> None:
    """Warns if the boxes of a video with frames like `frame` are unlike those of the training."""
    boxes = [frame] if by_frame is None else [box for found in by_frame.values() for box in found]
    persons = Instances.from_instances((Instance(source, 0, 0, box) for box in boxes), len(model.skeleton))
    warn_of_other_boxes(model, box_facts(persons, {source: frame[2:]}), source.name)


def _drawn(image: np.ndarray, found: Sequence[Prediction], skeleton: Skeleton, *, names: bool) -> np.ndarray:
    """The image with the predicted poses, the numbers of tracked persons at their boxes, and the legend."""
    joints = np.array([p.joints for p in found]).reshape(-1, len(skeleton), 2)
    scores = np.array([p.confidences for p in found]).reshape(-1, len(skeleton))
    drawn = draw_pose(image, joints, scores, skeleton, names=names)
    for prediction in found:
        if prediction.track is not None:
            write_beside(drawn, str(prediction.track), np.array(prediction.box[:2]), 0)
    return add_legend(drawn, skeleton.joints)


def boxes_by_frame(
    boxes: str | os.PathLike[str] | None,
    min_score: float = 0.0,
    box_category: int | str | None = None,
    category: Category = PERSON,
    problems: list[str] | None = None,
) -> tuple[BoxesByFrame, Counter[str]]:
    """Returns the boxes of `box_category`, or else of `category`, by frame, and by reason the number of the others.

    Without a file there are no boxes: None.

    Raises:
        DataError: If no detection has a frame number as its image id, or one is broken and no list collects `problems`.
    """
    if boxes is None or not is_box_file(boxes):
        return None, Counter()
    path, by_frame = Path(boxes), dict[int, list[Box]]()
    detections, left_out = read_detections(path, BoxSelection(min_score, box_category, category.values), problems)
    for detection in detections:
        frame = None if detection.image.image_id is None else id_value(detection.image.image_id)
        if isinstance(frame, int):
            by_frame.setdefault(frame, []).append(detection.box)
    if not by_frame:
        raise DataError(f"{path}: no detection has a frame number (0, 1, …) as its image_id")
    unnumbered = len(detections) - sum(map(len, by_frame.values()))
    if unnumbered:
        log.warning("%s: %d detections without a frame number as image_id are left out", path, unnumbered)
    left_out["boxes without a frame number"] = unnumbered
    return by_frame, left_out


class _VideoWriter:
    """An H.264 file in the time base of its source; its size is that of the first frame, cut to even numbers."""

    def __init__(self, path: Path) -> None:
        self._av = import_extra("av", "video", "writing a video")
        self._container: av.container.OutputContainer = self._av.open(str(path), "w")
        self._stream: av.VideoStream | None = None
        self._last: av.VideoFrame | None = None
        self._last_pts = -1

    def __enter__(self) -> "_VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(self._last))
            self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, image: np.ndarray, source: Frame) -> None:
        """Appends an image (H, W, 3) uint8 RGB, shown from the time of its source frame until the next image."""
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=source.rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = source.time_base
            self._stream.codec_context.flags |= self._av.codec.context.Flags.frame_duration
            self._stream.codec_context.max_b_frames = 0  # reordered frames of varying length shorten the track
        drawn = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        drawn.time_base = source.time_base
        drawn.duration = source.decoded.duration or max(1, round(1 / (source.rate * source.time_base)))
        drawn.pts = pts = max(round(source.time / source.time_base), self._last_pts + 1)
        if self._last is not None:
            self._last.duration = pts - self._last_pts
            self._container.mux(self._stream.encode(self._last))
        self._last, self._last_pts = drawn, pts
