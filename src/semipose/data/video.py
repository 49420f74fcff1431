"""Frames of videos, upright; and those of them worth keeping as unlabeled images."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from semipose.data.images import write_image
from semipose.errors import ConfigError, DataError, RunError
from semipose.utils.files import make_folder
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}
"""Files taken for videos."""
GRID = 32
"""Two frames are compared as gray pictures of this many cells in height and width."""
QUALITY = 95
TICK = 1e-3
"""Seconds to which containers round their times."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame, at `seconds` from the start of its video, which shows `rate` frames a second."""

    decoded: av.VideoFrame
    seconds: float
    rate: int

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, turned as a player shows it (phones store frames lying)."""
        return np.ascontiguousarray(
            np.rot90(self.decoded.to_ndarray(format="rgb24"), round(self.decoded.rotation / 90))
        )

    @property
    def cells(self) -> np.ndarray:
        """The frame as stored, in gray, averaged over a grid of cells: (32, 32) float32, 0 to 255."""
        small = self.decoded.reformat(width=GRID, height=GRID, format="gray", interpolation="AREA")
        return small.to_ndarray().astype(np.float32)


def list_videos(source: Path) -> list[Path]:
    """A video itself, or the videos below a folder, sorted; DataError when there are none."""
    if not source.is_dir():
        return [source]
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"folder {source} has no video ({', '.join(sorted(SUFFIXES))})")
    return found


def read_frames(source: Path) -> Iterator[Frame]:
    """The frames of a video in order; their times never go back, even where recordings were joined.

    What can't be decoded is passed over and told at the end, and so is a video that ends before its file says. Raises
    DataError when the file is no video, has no frame, or can't be read on.
    """
    number, bad, last, shift = 0, 0, 0.0, 0.0
    try:
        with av.open(str(source.absolute())) as container:
            if not container.streams.video:
                raise DataError(f"{source} has no video stream")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    bad += 1
                    continue
                for frame in frames:
                    seconds = number / rate if frame.time is None else frame.time + shift
                    if number == 0 or seconds < last:
                        expected = last + 1 / rate if number else 0.0
                        shift, seconds = shift + expected - seconds, expected
                    yield Frame(frame, seconds, max(1, round(rate)))
                    number, last = number + 1, seconds
            stated = (container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"video {source} can't be read ({str(error)[:80]}); convert it to H.264 in .mp4") from None
    if number == 0:
        raise DataError(f"video {source} has no frame that can be decoded; convert it to H.264 in .mp4")
    if bad:
        log.warning("%s: %s passed over, which can't be decoded", source, plural(bad, "packet"))
    if last + 1 / rate < 0.9 * stated:
        log.warning("%s ends after %.0f s, where its file says %.0f s", source, last, stated)


def count_frames(source: Path) -> int:
    """Frames as the file states them, 0 where it does not."""
    try:
        with av.open(str(source.absolute())) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except (av.FFmpegError, OSError):
        return 0


def take_frames(
    videos: list[Path], out: Path, *, every: float = 1.0, min_change: float = 8.0, progress: Progress = NO_PROGRESS
) -> tuple[list[Path], int]:
    """Writes frames of `videos` as JPEGs `VIDEO_FRAME.jpg` into `out`: a folder of unlabeled images.

    At most one frame in `every` seconds, and only where some part of the picture (a cell of a grid of 32×32) has
    changed by `min_change` gray levels of 255 since the frame kept before: frames alike teach nothing new. Returns the
    files and how many frames looked at were left out for being alike. A video that breaks off keeps what came before,
    with a warning, and the others go on. Raises DataError when no frame can be read, two videos have one name, or
    `out` holds frames of these videos already; ConfigError when `out` can't be made, RunError when it can't be written
    any more.
    """
    for name, value in (("every", every), ("min_change", min_change)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"{name}: {value} is no number of 0 or more")
    make_folder(out)
    _require_room(videos, out)
    found: list[Path] = []
    alike = 0
    for video in videos:
        before = len(found)
        try:
            for path in _worth_keeping(video, out, every, min_change, progress):
                if path is None:
                    alike += 1
                else:
                    found.append(path)
        except DataError as error:
            if len(videos) == 1 and len(found) == before:
                raise
            log.warning("%s; %s taken before that", error, plural(len(found) - before, "frame"))
    if not found:
        raise DataError(f"{videos[0]} and {len(videos) - 1} more have no frame; are they videos?")
    return found, alike


def _worth_keeping(
    video: Path, out: Path, every: float, min_change: float, progress: Progress
) -> Iterator[Path | None]:
    """For each frame looked at its file, or None where it looks like the one kept before."""
    last, due = None, -np.inf
    frames = read_frames(video)
    for number, frame in enumerate(progress.track(frames, count_frames(video), video.name)):
        if frame.seconds < due:
            continue
        cells = frame.cells
        if last is not None and np.abs(cells - last).max() < min_change:
            yield None
            continue
        last, due = cells, frame.seconds + every - TICK
        yield _keep(frame.image, out / f"{video.stem}_{number:06d}.jpg")


def _require_room(videos: list[Path], out: Path) -> None:
    """Raises DataError where files of two videos, or of two calls, would mix."""
    shared = [name for name, count in Counter(video.stem for video in videos).items() if count > 1]
    if shared:
        raise DataError(f"{shared[0]}: two videos have this name, and their frames would too; rename one")
    names = "|".join(re.escape(video.stem) for video in videos)
    ours = re.compile(rf"(?:{names})_\d{{6,}}\.jpg")
    there = sorted(path.name for path in out.glob("*.jpg") if ours.fullmatch(path.name))
    if there:
        raise DataError(
            f"{out} holds {plural(len(there), 'frame')} of these videos already (the first: {there[0]}); remove them "
            "or choose another --out"
        )


def _keep(image: np.ndarray, path: Path) -> Path:
    try:
        write_image(image, path, QUALITY)
    except OSError as error:
        raise RunError(
            f"frame {path} can't be written ({error.strerror}); make room, or choose another folder or shorter names"
        ) from None
    return path
