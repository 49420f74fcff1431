"""Joints in every frame of a video, and the video with them drawn."""

import logging
from pathlib import Path

import av
import numpy as np

from semipose.data.formats.coco_results import save_predictions
from semipose.data.formats.detections import confident_detections
from semipose.data.video import count_frames, read_frames
from semipose.errors import DataError
from semipose.inference.draw import draw_pose
from semipose.inference.pose_model import PoseModel
from semipose.inference.predictor import FrameCrops, Predictor
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)


def predict_video(
    predictor: Predictor,
    model: PoseModel,
    source: Path,
    out: Path,
    *,
    boxes: Path | str | None,
    draw: bool,
    min_score: float = 0.0,
    progress: Progress = NO_PROGRESS,
) -> list[Path]:
    """Writes predictions.json (image_id = frame number from 0) and, with `draw`, the video with joints.

    `boxes` is a COCO detections file whose image_id is the frame number; without one the whole frame is one person.
    Boxes and joints refer to the upright frame, as players and most detectors see it.
    Boxes of less than `min_score` are left out; `watch(iterable, total, what)` may show a progress bar.
    A video that breaks off keeps what was found before, with a warning. Raises DataError when no frame can be read.
    """
    by_frame = _boxes_by_frame(Path(boxes), min_score) if boxes else None
    found: list[Prediction] = []
    painted = out / f"{source.stem}_pose.mp4"
    writer = _Writer(painted) if draw else None
    number = -1
    try:
        frames = read_frames(source)
        shown = progress.track(frames, count_frames(source), "predicting frames")
        for number, frame in enumerate(shown):
            image = frame.image
            whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
            places = [whole] if by_frame is None else by_frame.get(number, [])
            persons = tuple(Instance(source, number, -i - 1, box) for i, box in enumerate(places))
            predictions = []
            if persons:
                crops = FrameCrops(image, PoseDataset(model.skeleton, persons, str(source)), model.geometry)
                predictions = predictor.predict(crops)
                found += predictions
            if writer:
                joints = np.array([p.joints for p in predictions]).reshape(-1, len(model.skeleton), 2)
                scores = np.array([p.scores for p in predictions]).reshape(-1, len(model.skeleton))
                writer.add(draw_pose(image, joints, scores, model.skeleton), frame.rate)
    except DataError as error:
        if number < 0:
            raise
        log.warning("%s; its first %d frames are kept", error, number + 1)
    finally:
        if writer:
            writer.close()
    save_predictions(found, out / "predictions.json")
    return [out / "predictions.json", *([painted] if draw else [])]


def _boxes_by_frame(path: Path, min_score: float) -> dict[int, list[tuple[float, float, float, float]]]:
    by_frame: dict[int, list[tuple[float, float, float, float]]] = {}
    detections = confident_detections(path, min_score)
    for detection in detections:
        if str(detection.image).isdigit():
            by_frame.setdefault(int(detection.image), []).append(detection.box)
    if not by_frame:
        raise DataError(f"{path}: no detection has a frame number (0, 1, …) as its image_id")
    left_out = len(detections) - sum(len(places) for places in by_frame.values())
    if left_out:
        log.warning("%s: %d detections without a frame number as image_id left out", path, left_out)
    return by_frame


class _Writer:
    """An H.264 file that takes frames one by one; its size is that of the first, cut to even numbers."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path), "w")
        self._stream: av.VideoStream | None = None

    def add(self, frame: np.ndarray, rate: int) -> None:
        """Appends a frame (H, W, 3) uint8 RGB."""
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
        if self._stream is None:
            stream = self._container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            self._stream = stream
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Writes out what is waiting."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
