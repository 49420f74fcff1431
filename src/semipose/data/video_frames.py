"""Frames of videos as images: some hundreds that differ, spread over all videos, whatever their frame rate."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from filelock import FileLock

from semipose.data.formats.detections import apply_detections
from semipose.data.formats.image_folder import whole_images
from semipose.data.images import write_image
from semipose.data.k_center import k_center
from semipose.data.video import THUMBNAIL_SIZE, count_frames, list_videos, read_frames
from semipose.errors import ConfigError, DataError, RunError
from semipose.structures.categories import PERSON, Category
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton
from semipose.utils.cache import EXTRACTED, cache_dir
from semipose.utils.files import is_file, make_folder
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)

FRAMES = 300
"""Number of frames that are taken of all videos together if none is given."""
CANDIDATES = 4
"""Number of examined frames, evenly spaced, for each frame that is taken."""
MIN_CHANGE = 8.0
"""Frames are alike if no cell of a grid of 32×32 differs by this many of 255 gray levels."""
JPEG_QUALITY = 95
FRAME_NAME = re.compile(r"(.+)_(\d{6,})")
DONE = ".complete"


def extract_frames(
    videos: Sequence[Path],
    out: Path,
    *,
    count: int = FRAMES,
    min_change: float = MIN_CHANGE,
    following: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[list[Path], int]:
    """Writes frames of videos as JPEGs `VIDEO_FRAME.jpg` into a folder, for use as unlabeled images.

    Each video has an equal share, as far as it has that many frames. Of four times as many frames at even distances
    those are taken that differ most from all others taken (k-center on gray thumbnails): near duplicates teach a
    network nothing new. Of a video that breaks off, the frames before that are used, with a warning.

    Args:
        videos: The videos.
        out: The folder.
        count: Largest number of frames.
        min_change: Frames are alike if no cell of a grid of 32×32 differs by this many of 255 gray levels.
        following: A folder that gets the frame after each one taken, where the video has one.
        progress: Shows the progress.

    Returns:
        The files, sorted by video and frame, and the number of examined frames that are like one taken.

    Raises:
        DataError: If no frame can be read, two videos have one name, or `out` holds frames of these videos already.
        ConfigError: If `count` is below 1, `min_change` is negative or not finite, or `out` can't be created.
        RunError: If `out` can't be written.
    """
    if count < 1:
        raise ConfigError(f"`count` is {count}; give 1 or more")
    if not 0 <= min_change < float("inf"):
        raise ConfigError(f"`min_change`: {min_change} is not a number of 0 or more")
    make_folder(out)
    _check_names(videos, out)
    lengths = [count_frames(video) for video in videos]
    found: list[Path] = []
    alike = 0
    for video, length, share in zip(videos, lengths, shares(count, lengths), strict=True):
        with TemporaryDirectory(dir=out, prefix=".candidates") as folder:
            thumbnails, problem = _write_candidates(
                video, length, share * CANDIDATES, Path(folder), following is not None, progress
            )
            if problem and len(videos) == 1 and not thumbnails:
                raise problem
            files = list(thumbnails)
            points = np.array(list(thumbnails.values())).reshape(len(files), THUMBNAIL_SIZE**2)
            chosen, similar = k_center(points, share, min_change=min_change)
            kept = [_move(files[i], out, following) for i in sorted(chosen)]
        if problem:
            log.warning("%s; %s kept from before that", problem, plural(len(kept), "frame"))
        found += kept
        alike += int(similar.sum())
    if not found:
        raise DataError(f"{videos[0]} and {len(videos) - 1} more have no frame; are they videos?")
    return found, alike


def shares(count: int, lengths: Sequence[int]) -> list[int]:
    """Returns how many frames are taken of each video: equally many, or all that a short one has.

    Args:
        count: Number of frames of all videos.
        lengths: Number of frames of each video; 0 where it is unknown, which counts as many.
    """
    found, left, open_videos = [0] * len(lengths), count, len(lengths)
    for video in sorted(range(len(lengths)), key=lambda video: lengths[video] or np.inf):
        equal = -(-left // open_videos)
        found[video] = min(equal, lengths[video] or equal)
        left, open_videos = left - found[video], open_videos - 1
    return found


def frame_number(image: Path) -> int | None:
    """Returns the frame number of an image that `extract_frames` wrote; None for another name."""
    match = FRAME_NAME.fullmatch(image.stem)
    return int(match[2]) if match else None


def cached_frames(source: Path, count: int = FRAMES, progress: Progress = NO_PROGRESS) -> list[Path]:
    """Returns frames of a video, a folder of videos or a pattern, which are extracted once into the cache folder.

    Raises:
        DataError: If there is no video or no frame can be read.
    """
    videos = list_videos(source)
    states = [(str(video.resolve()), video.stat().st_size, video.stat().st_mtime_ns) for video in videos]
    key = sha256(f"{states} {count}".encode()).hexdigest()[:16]
    folder = cache_dir() / EXTRACTED / key
    make_folder(folder)
    with FileLock(folder / ".lock"):
        if not is_file(folder / DONE):
            for incomplete in folder.glob("*.jpg"):
                incomplete.unlink()
            frames, alike = extract_frames(videos, folder, count=count, progress=progress)
            log.info("%s: %s taken; %d like one of them", source, plural(len(frames), "frame"), alike)
            (folder / DONE).touch()
    return sorted(folder.glob("*.jpg"))


def frames_dataset(
    frames: Sequence[Path],
    source: Path,
    skeleton: Skeleton,
    problems: list[str] | None = None,
    *,
    boxes: str | os.PathLike[str] | None = None,
    min_score: float = 0.0,
    box_category: int | str | None = None,
    category: Category = PERSON,
) -> PoseDataset:
    """Returns the persons, without labels, in frames that `extract_frames` wrote.

    Args:
        frames: The frames.
        source: The video or videos that they are from.
        skeleton: The skeleton of the result.
        problems: Collects frames that cannot be opened and broken detections.
        boxes: COCO detections of one video, whose image ids are its frame numbers; without it each frame is one person.
        min_score: Detections of a lower score are left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        category: The category of the persons.

    Raises:
        ConfigError: If there are boxes and several videos.
        DataError: If no detection is in one of the frames.
    """
    persons = whole_images(list(frames), skeleton, str(source), problems).with_category(category)
    if boxes is None:
        return persons
    if len({FRAME_NAME.sub(r"\1", frame.stem) for frame in frames}) > 1:
        raise ConfigError(f"`boxes`: frame numbers belong to one video, and {source} has several; give one")
    numbered = [replace(p, image_id=number) for p in persons.instances if (number := frame_number(p.image)) is not None]
    persons = PoseDataset(skeleton, numbered, str(source), category=category)
    return apply_detections(persons, boxes, min_score, problems, box_category=box_category, is_sample=True)


def _write_candidates(
    video: Path, length: int, wanted: int, folder: Path, following: bool, progress: Progress
) -> tuple[dict[Path, np.ndarray], DataError | None]:
    """Writes evenly spaced frames, with `following` also the next ones; returns thumbnails and why reading ended."""
    length = max(length, 1)
    wanted = min(wanted, length)
    thumbnails: dict[Path, np.ndarray] = {}
    previous: Path | None = None
    try:
        for number, frame in enumerate(progress.track(read_frames(video), length, video.name)):
            if previous is not None and following:
                _write(frame.image, folder / "following" / _name(video, number))
            previous = None
            if (number * wanted + length // 2) // length != ((number - 1) * wanted + length // 2) // length:
                previous = folder / _name(video, number)
                _write(frame.image, previous)
                thumbnails[previous] = frame.thumbnail
    except DataError as error:
        return thumbnails, error
    return thumbnails, None


def _name(video: Path, number: int) -> str:
    return f"{video.stem}_{number:06d}.jpg"


def _write(image: np.ndarray, path: Path) -> None:
    try:
        write_image(image, path, JPEG_QUALITY)
    except OSError as error:
        raise RunError(
            f"frame {path} can't be written ({error.strerror}); free some disk space, or choose another folder or "
            "shorter names"
        ) from None


def _move(candidate: Path, out: Path, following: Path | None) -> Path:
    """Moves a frame, and the one after it, to where they stay."""
    number, video = frame_number(candidate), FRAME_NAME.sub(r"\1", candidate.stem)
    assert number is not None
    later = candidate.parent / "following" / f"{video}_{number + 1:06d}.jpg"
    if following is not None and later.is_file():
        make_folder(following)
        later.replace(following / later.name)
    return candidate.replace(out / candidate.name)


def _check_names(videos: Sequence[Path], out: Path) -> None:
    """Raises DataError if frames of two videos, or of two calls, would mix."""
    names = "|".join(re.escape(video.stem) for video in videos)
    ours = re.compile(rf"(?:{names})_\d{{6,}}\.jpg")
    existing = sorted(path.name for path in out.glob("*.jpg") if ours.fullmatch(path.name))
    if existing:
        raise DataError(
            f"`out`: {out} holds {plural(len(existing), 'frame')} of these videos already (the first: {existing[0]}); "
            "remove them or choose another folder"
        )
