"""Videos: their frames, upright, and the choice of frames that are worth keeping as unlabeled images."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from semipose.data.formats.image_folder import is_by_product
from semipose.data.images import write_image
from semipose.errors import ConfigError, DataError, RunError
from semipose.utils.extras import import_extra
from semipose.utils.files import make_folder
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}
"""Files that count as videos."""
THUMBNAIL_SIZE = 32
"""Height and width of the gray thumbnails by which frames are compared."""
JPEG_QUALITY = 95
TIME_TOLERANCE = 1e-3
"""Seconds to which containers round their time stamps."""


@dataclass(frozen=True)
class Frame:
    """A decoded frame of a video.

    Attributes:
        decoded: The frame as PyAV decoded it.
        time: Exact time from the start of the video in seconds.
        rate: Exact average number of frames per second of the video (30000/1001 for 29.97).
        time_base: Unit in seconds of the video's time stamps.
    """

    decoded: "av.VideoFrame"
    time: Fraction
    rate: Fraction
    time_base: Fraction

    @property
    def seconds(self) -> float:
        """Time from the start of the video in seconds."""
        return float(self.time)

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, rotated as a player shows it (phones store frames lying)."""
        return np.ascontiguousarray(
            np.rot90(self.decoded.to_ndarray(format="rgb24"), round(self.decoded.rotation / 90))
        )

    @property
    def thumbnail(self) -> np.ndarray:
        """(32, 32) float32 gray levels in 0…255: averages over the cells of a grid, in the stored orientation."""
        size = THUMBNAIL_SIZE
        small = self.decoded.reformat(width=size, height=size, format="gray", interpolation="AREA")
        return small.to_ndarray().astype(np.float32)


def list_videos(source: Path) -> list[Path]:
    """Returns a video itself, or the videos below a folder that are not hidden, sorted.

    Raises:
        DataError: If there is no such file or folder, or the folder has no video.
    """
    _require(source)
    if not source.is_dir():
        return [source]
    videos = (p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    found = sorted(p for p in videos if not is_by_product(p.relative_to(source)))
    if not found:
        raise DataError(f"folder {source} has no video ({', '.join(sorted(SUFFIXES))})")
    return found


def read_frames(source: Path) -> Iterator[Frame]:
    """Yields the frames of a video in order; times never decrease, even where recordings were joined.

    Packets that can't be decoded are skipped. A warning at the end counts them, and another one states that the video
    is shorter than its file says.

    Raises:
        DataError: If the file does not exist, is not a video, has no frame, or can't be read to its end.
    """
    av = _import_av()
    _require(source)
    number, undecodable, last, shift = 0, 0, Fraction(0), Fraction(0)
    try:
        with av.open(str(source.absolute())) as container:
            if not container.streams.video:
                raise DataError(f"{source} has no video stream")
            stream = container.streams.video[0]
            rate = Fraction(stream.average_rate or 25)
            time_base = Fraction(stream.time_base or 1 / rate)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    undecodable += 1
                    continue
                for frame in frames:
                    time = number / rate if frame.pts is None else frame.pts * time_base + shift
                    if number == 0 or time < last:
                        expected = last + 1 / rate if number else Fraction(0)
                        shift, time = shift + expected - time, expected
                    yield Frame(frame, time, rate, time_base)
                    number, last = number + 1, time
            stated = (container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"video {source} can't be read ({str(error)[:80]}); convert it to H.264 in .mp4") from None
    if number == 0:
        raise DataError(f"video {source} has no frame that can be decoded; convert it to H.264 in .mp4")
    if undecodable:
        log.warning("%s: %s can't be decoded and left out", source, plural(undecodable, "packet"))
    if last + 1 / rate < 0.9 * stated:
        log.warning("%s ends after %.0f s, but its file says %.0f s", source, last, stated)


def _require(source: Path) -> None:
    if not source.exists():
        raise DataError(f"video {source} does not exist; check the path")


def count_frames(source: Path) -> int:
    """Returns the number of frames that the file states, 0 if it states none."""
    av = _import_av()
    try:
        with av.open(str(source.absolute())) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except (av.FFmpegError, OSError):
        return 0


def extract_frames(
    videos: list[Path], out: Path, *, every: float = 1.0, min_change: float = 8.0, progress: Progress = NO_PROGRESS
) -> tuple[list[Path], int]:
    """Writes frames of videos as JPEGs `VIDEO_FRAME.jpg` into a folder, for use as unlabeled images.

    A frame is kept if the latest kept frame is at least `every` seconds old and differs from it: near duplicates teach
    a network nothing new. Of a video that breaks off, the frames before that are kept, with a warning.

    Args:
        videos: The videos.
        out: The folder.
        every: Shortest time between two kept frames in seconds.
        min_change: Frames are alike if no cell of a grid of 32×32 changes by this many of 255 gray levels.
        progress: Shows the progress.

    Returns:
        The files, and the number of frames that were left out because they are alike.

    Raises:
        DataError: If no frame can be read, two videos have one name, or `out` holds frames of these videos already.
        ConfigError: If `every` or `min_change` is negative or not finite, or `out` can't be created.
        RunError: If `out` can't be written.
    """
    for name, value in (("every", every), ("min_change", min_change)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"`{name}`: {value} is not a number of 0 or more")
    make_folder(out)
    _check_names(videos, out)
    found: list[Path] = []
    alike = 0
    for video in videos:
        before = len(found)
        try:
            for path in _extract(video, out, every, min_change, progress):
                if path is None:
                    alike += 1
                else:
                    found.append(path)
        except DataError as error:
            if len(videos) == 1 and len(found) == before:
                raise
            log.warning("%s; %s kept from before that", error, plural(len(found) - before, "frame"))
    if not found:
        raise DataError(f"{videos[0]} and {len(videos) - 1} more have no frame; are they videos?")
    return found, alike


def _extract(video: Path, out: Path, every: float, min_change: float, progress: Progress) -> Iterator[Path | None]:
    """For each examined frame its file, or None if it is like the latest kept frame."""
    last, due = None, -np.inf
    frames = read_frames(video)
    for number, frame in enumerate(progress.track(frames, count_frames(video), video.name)):
        if frame.seconds < due:
            continue
        thumbnail = frame.thumbnail
        if last is not None and np.abs(thumbnail - last).max() < min_change:
            yield None
            continue
        last, due = thumbnail, frame.seconds + every - TIME_TOLERANCE
        path = out / f"{video.stem}_{number:06d}.jpg"
        try:
            write_image(frame.image, path, JPEG_QUALITY)
        except OSError as error:
            raise RunError(
                f"frame {path} can't be written ({error.strerror}); free some disk space, or choose another folder or "
                "shorter names"
            ) from None
        yield path


def _check_names(videos: list[Path], out: Path) -> None:
    """Raises DataError if frames of two videos, or of two calls, would mix."""
    shared = [name for name, count in Counter(video.stem for video in videos).items() if count > 1]
    if shared:
        raise DataError(f"{shared[0]}: two videos have this name, and their frames would too; rename one")
    names = "|".join(re.escape(video.stem) for video in videos)
    ours = re.compile(rf"(?:{names})_\d{{6,}}\.jpg")
    existing = sorted(path.name for path in out.glob("*.jpg") if ours.fullmatch(path.name))
    if existing:
        raise DataError(
            f"`out`: {out} holds {plural(len(existing), 'frame')} of these videos already (the first: {existing[0]}); "
            "remove them or choose another folder"
        )


def _import_av() -> ModuleType:
    return import_extra("av", "video", "reading videos")
