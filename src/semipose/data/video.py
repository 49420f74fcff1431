"""Frames of videos, upright; and those of them worth keeping as unlabeled images."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from semipose.data.packed import Watch
from semipose.errors import DataError, RunError
from semipose.files import replacing

log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}
"""Files taken for videos."""
CELLS = (32, 32)
"""Two frames are compared as gray pictures of this size, height and width."""
QUALITY = 95


@dataclass(frozen=True)
class Frame:
    """One frame of a video: `image` (H, W, 3) uint8 RGB, upright, at `seconds` from the start; the video's `rate`."""

    image: np.ndarray
    seconds: float
    rate: int


def list_videos(source: Path) -> list[Path]:
    """A video itself, or the videos below a folder, sorted; DataError when there are none."""
    if not source.is_dir():
        return [source]
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"folder {source} has no video ({', '.join(sorted(SUFFIXES))})")
    return found


def read_frames(source: Path) -> Iterator[Frame]:
    """The frames of a video in order, turned as a player shows them (phones store them lying).

    Raises DataError when the file is no video, and where it breaks off.
    """
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise DataError(f"{source} has no video stream")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            for number, frame in enumerate(container.decode(stream)):
                image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                seconds = number / rate if frame.time is None else frame.time
                yield Frame(np.ascontiguousarray(image), seconds, max(1, round(rate)))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"video {source} can't be read ({str(error)[:80]}); convert it to H.264 in .mp4") from None


def count_frames(source: Path) -> int:
    """Frames as the file states them, 0 where it does not."""
    try:
        with av.open(str(source)) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except (av.FFmpegError, OSError):
        return 0


def take_frames(
    videos: list[Path], out: Path, *, every: float = 1.0, min_change: float = 8.0, watch: Watch | None = None
) -> tuple[list[Path], int]:
    """Writes frames of `videos` as JPEGs `VIDEO_FRAME.jpg` into `out`: a folder of unlabeled images.

    At most one frame in `every` seconds, and only where some part of the picture (a cell of 32×32) has changed by
    `min_change` gray levels of 255 since the frame kept before: frames alike teach nothing new. Returns the files and
    how many frames looked at were left out for being alike. A video that breaks off keeps what came before, with a
    warning, and the others go on. Raises DataError when no frame can be read, or two videos have one name; RunError
    when `out` can't be written.
    """
    shared = [name for name, count in Counter(video.stem for video in videos).items() if count > 1]
    if shared:
        raise DataError(f"{shared[0]}: two videos have this name, and their frames would too; rename one")
    found: list[Path] = []
    alike = 0
    for video in videos:
        last, due, number = None, -np.inf, -1
        frames = read_frames(video)
        try:
            for number, frame in enumerate(watch(frames, count_frames(video), video.name) if watch else frames):
                if frame.seconds < due:
                    continue
                cells = _cells(frame.image)
                if last is not None and np.abs(cells - last).max() < min_change:
                    alike += 1
                    continue
                found.append(_keep(frame.image, out / f"{video.stem}_{number:06d}.jpg"))
                last, due = cells, frame.seconds + every - 0.5 / frame.rate
        except DataError as error:
            if len(videos) == 1 and number < 0:
                raise
            log.warning("%s; its first %d frames are kept", error, number + 1)
    if not found:
        raise DataError(f"none of {len(videos)} videos has a frame, {videos[0]} the first; are they videos?")
    return found, alike


def _cells(image: np.ndarray) -> np.ndarray:
    """The picture in gray, averaged over cells, float32."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, CELLS[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def _keep(image: np.ndarray, path: Path) -> Path:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise RunError(
            f"frame {path} can't be written ({error.strerror}); make room or choose another folder"
        ) from None
    return path
