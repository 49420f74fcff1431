"""The images that can be suggested for labeling: those of a folder or an annotation file, or frames of videos."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from semipose.data.clips import clips, frame_of
from semipose.data.prediction_images import prediction_dataset
from semipose.data.video import is_video_source, list_videos
from semipose.data.video_frames import FRAMES, extract_frames, frame_number, frames_dataset
from semipose.inference.boxes import box_finder_for, is_box_file
from semipose.inference.pose_model import PoseModel
from semipose.structures.boxes import WHOLE
from semipose.structures.instances import PoseDataset
from semipose.utils.progress import NO_PROGRESS, Progress

VIDEO_POOL = 10
"""Number of frames of videos that are examined for each one that is suggested, 300 or more."""


@dataclass(frozen=True)
class Candidates:
    """Persons in the images that can be suggested, and in further frames that show how joints move.

    Attributes:
        persons: The persons in all these images.
        around: By image, the images that are the frames before and after it.
        further: The images that can't be suggested.
        left_out: By reason, what was not examined.
    """

    persons: PoseDataset
    around: Mapping[Path, Sequence[Path]]
    further: frozenset[Path] = frozenset()
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def examined(self) -> PoseDataset:
        """The persons in the images that can be suggested."""
        if not self.further:
            return self.persons
        paths = self.persons.instances.paths
        return self.persons.subset(n for n, path in enumerate(paths) if Path(path) not in self.further)


def read_candidates(
    model: PoseModel,
    source: Path,
    folder: Path,
    count: int,
    problems: list[str],
    progress: Progress = NO_PROGRESS,
    *,
    images: str | os.PathLike[str] | None = None,
    boxes: str | os.PathLike[str] | None = None,
    min_score: float = 0.0,
    box_category: int | str | None = None,
) -> Candidates:
    """Returns the candidates of a source.

    Args:
        model: The model, whose skeleton and category the persons have.
        source: A folder of images, an annotation file, or videos.
        folder: An empty folder for frames of videos.
        count: Number of images that will be suggested.
        problems: Collects images that can't be opened and broken records.
        progress: Shows the progress.
        images: The image folder of an annotation file.
        boxes: COCO detections, or `whole` for whole images, which is also what is returned for boxes that are to be
            found.
        min_score: Detections of a lower score are left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
    """
    skeleton, category = model.skeleton, model.category
    boxes = boxes if box_finder_for(model, boxes) is None else WHOLE
    if not is_video_source(source):
        persons = prediction_dataset(
            source, skeleton, images, boxes, min_score, problems, category, box_category=box_category
        )
        first: dict[str, int | str] = {}
        ids = {first.setdefault(path, image_id) for image_id, path in persons.instances.images}
        own = persons.subset(n for n, person in enumerate(persons.instances) if person.image_id in ids)
        again = {"persons in images that are listed again": len(persons) - len(own)}
        own = replace(own, left_out=persons.left_out)
        return Candidates(own, next_frames(list(own.image_paths.values())), left_out=again)
    wanted, later = max(FRAMES, VIDEO_POOL * count), folder / "following"
    frames, alike = extract_frames(list_videos(source), folder, count=wanted, following=later, progress=progress)
    following = sorted(later.glob("*.jpg"))
    persons = frames_dataset(
        [*frames, *following],
        source,
        skeleton,
        problems,
        boxes=boxes if is_box_file(boxes) else None,
        min_score=min_score,
        box_category=box_category,
        category=category,
    )
    names = {path.name: path for path in following}
    around = {frame: [names[name]] for frame in frames if (name := _next_name(frame)) in names}
    return Candidates(persons, around, frozenset(following), {"examined frames like one taken": alike})


def next_frames(images: Sequence[Path]) -> dict[Path, list[Path]]:
    """Returns the frames before and after each image, whose numbers in the same clip differ by one."""
    found: dict[Path, list[Path]] = {}
    for members in clips(images).values():
        by_number = {frame[1]: image for image in members if (frame := frame_of(image))}
        for number, image in by_number.items():
            if near := [by_number[n] for n in (number - 1, number + 1) if n in by_number]:
                found[image] = near
    return found


def _next_name(frame: Path) -> str:
    number = frame_number(frame) or 0
    return f"{frame.stem.rpartition('_')[0]}_{number + 1:06d}.jpg"
