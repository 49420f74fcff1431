"""Scores of models on a video without labels, and their comparison."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose.data.video import list_videos
from semipose.errors import ConfigError
from semipose.inference.boxes import box_finder_for, is_box_file
from semipose.inference.parameters import refuse_unused
from semipose.inference.pose_model import PoseModel, as_pose_model
from semipose.inference.video import boxes_by_frame, predict_frames
from semipose.metrics.video_scores import VideoScores, video_scores
from semipose.utils.progress import NO_PROGRESS, Progress

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class VideoEvaluation:
    """The scores of a model on a video that need no labels, and those of another model on the same frames."""

    name: str
    scores: VideoScores
    against: "VideoEvaluation | None" = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores by name, ready for JSON."""
        against = {"against": self.against.as_dict()} if self.against else {}
        return {"name": self.name, **self.scores.as_dict(), **against}


def evaluate_video(
    model: PoseModel | PathLike,
    video: PathLike,
    *,
    boxes: PathLike | None = None,
    box_category: int | str | None = None,
    network: str | None = None,
    against: PoseModel | PathLike | None = None,
    against_network: str | None = None,
    flip_test: bool = False,
    device: str = "auto",
    progress: Progress = NO_PROGRESS,
) -> VideoEvaluation:
    """Predicts a video and returns how plausible the poses are; writes nothing.

    Args:
        model: A model, a run folder or a weights file. A model is moved to `device`.
        video: The video.
        boxes: A COCO detections file whose image ids are frame numbers, `whole` or `auto`, as in `predict`.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        network: A network of the run folder, as in `load`.
        against: Another model to compare with.
        against_network: A network of the run folder `against`.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Shows the progress.

    Raises:
        DataError: If no frame can be read.
        ConfigError: If there are several videos, or `box_category` is given without a file of boxes.
    """
    videos = list_videos(Path(video))
    if len(videos) > 1:
        raise ConfigError(f"`data`: {video} has {len(videos)} videos; give one")
    if not is_box_file(boxes):
        refuse_unused("it refers to a file as `boxes`, and none is given", box_category=box_category)
    loaded = as_pose_model(model, network).to(device)
    by_frame, _ = boxes_by_frame(boxes, box_category=box_category, category=loaded.category)
    finder = box_finder_for(loaded, boxes)
    frames = predict_frames(loaded, videos[0], by_frame, finder, flip_test=flip_test, progress=progress)
    scores = video_scores([p for *_, found in frames for p in found], loaded.skeleton)
    other = against and evaluate_video(
        against,
        video,
        boxes=boxes,
        box_category=box_category,
        network=against_network,
        flip_test=flip_test,
        device=device,
        progress=progress,
    )
    return VideoEvaluation(loaded.source, scores, other or None)
