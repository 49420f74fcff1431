"""Prediction of the joints in every frame of a video, and a copy of the video with drawn poses."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semipose.data.formats.coco_results import save_predictions
from semipose.data.formats.detections import confident_detections
from semipose.data.video import count_frames, read_frames
from semipose.errors import DataError
from semipose.inference.draw import draw_pose
from semipose.inference.pose_model import PoseModel
from semipose.inference.predictor import FrameCrops
from semipose.structures.instances import Instance, PoseDataset
from semipose.utils.extras import import_extra
from semipose.utils.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]


def predict_video(
    model: PoseModel,
    source: Path,
    out: Path,
    *,
    boxes: str | os.PathLike[str] | None = None,
    draw: bool = False,
    flip_test: bool = False,
    min_score: float = 0.0,
    progress: Progress = NO_PROGRESS,
) -> list[Path]:
    """Writes predictions.json, whose image ids are frame numbers from 0, and with `draw` the video with poses.

    Boxes and joints refer to the upright frame, which video players and most detectors use. If a frame cannot be
    decoded, the predictions for the frames before it are kept and a warning is logged.

    Args:
        model: The model, on its device.
        source: The video.
        out: Folder of the files.
        boxes: A COCO detections file whose image ids are frame numbers; without one, the whole frame is one person.
        draw: Whether to write the video with poses.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        min_score: Boxes with a lower score are left out.
        progress: Shows the progress.

    Returns:
        The files written.

    Raises:
        DataError: If no frame can be read.
    """
    by_frame = _boxes_by_frame(Path(boxes), min_score) if boxes else None
    predictor, predictions, number = model.predictor(flip_test=flip_test), [], -1
    target = out / f"{source.stem}_pose.mp4"
    writer: AbstractContextManager[_VideoWriter | None] = _VideoWriter(target) if draw else nullcontext()
    with writer as video:
        try:
            frames = progress.track(read_frames(source), count_frames(source), "predicting frames")
            for number, frame in enumerate(frames):
                image = frame.image
                whole: list[Box] = [(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))]
                frame_boxes = whole if by_frame is None else by_frame.get(number, [])
                persons = [Instance(source, number, -i - 1, box) for i, box in enumerate(frame_boxes)]
                dataset = PoseDataset(model.skeleton, persons, str(source))
                found = predictor.predict(FrameCrops(image, dataset, model.geometry)) if persons else []
                predictions += found
                if video:
                    joints = np.array([p.joints for p in found]).reshape(-1, len(model.skeleton), 2)
                    scores = np.array([p.scores for p in found]).reshape(-1, len(model.skeleton))
                    video.add(draw_pose(image, joints, scores, model.skeleton), frame.rate)
        except DataError as error:
            if number < 0:
                raise
            log.warning("%s; the predictions of its first %d frames are kept", error, number + 1)
    save_predictions(predictions, out / "predictions.json")
    return [out / "predictions.json", *([target] if draw else [])]


def _boxes_by_frame(path: Path, min_score: float) -> dict[int, list[Box]]:
    by_frame: dict[int, list[Box]] = {}
    detections = confident_detections(path, min_score)
    for detection in detections:
        if str(detection.image).isdigit():
            by_frame.setdefault(int(detection.image), []).append(detection.box)
    if not by_frame:
        raise DataError(f"{path}: no detection has a frame number (0, 1, …) as its image_id")
    left_out = len(detections) - sum(map(len, by_frame.values()))
    if left_out:
        log.warning("%s: %d detections without a frame number as image_id are left out", path, left_out)
    return by_frame


class _VideoWriter:
    """A writer of H.264 files with the size of the first frame, cropped to even numbers."""

    def __init__(self, path: Path) -> None:
        self._av = import_extra("av", "video", "writing a video")
        self._container: av.container.OutputContainer = self._av.open(str(path), "w")
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> "_VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, frame: np.ndarray, rate: int) -> None:
        """Appends a frame (H, W, 3) uint8 RGB."""
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(picture))
