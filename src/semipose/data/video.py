"""Videos: their frames, upright, with exact times."""

import glob
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from semipose.data.formats.image_folder import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_by_product
from semipose.errors import DataError
from semipose.utils.extras import import_extra
from semipose.utils.files import files_below, is_file
from semipose.utils.text import plural

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

SCORES_SUFFIX = "_scores.json"
"""End of the name of the file with the scores of a video that need no labels."""
DRAWN_SUFFIX = "_pose.mp4"
"""End of the name of a video with drawn poses."""

DEEPLABCUT_DRAWN = re.compile(r"DLC_.*_labeled$")
THUMBNAIL_SIZE = 32
"""Height and width of the gray thumbnails by which frames are compared."""


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
        """(H, W, 3) uint8 RGB, rotated and mirrored as a player shows it (phones store frames lying)."""
        return np.ascontiguousarray(_as_shown(self.decoded))

    @property
    def thumbnail(self) -> np.ndarray:
        """(32, 32) float32 gray levels in 0…255: averages over the cells of a grid, in the stored orientation."""
        size = THUMBNAIL_SIZE
        small = self.decoded.reformat(width=size, height=size, format="gray", interpolation="AREA")
        return small.to_ndarray().astype(np.float32)


def _as_shown(frame: "av.VideoFrame") -> np.ndarray:
    """The pixels of a frame, moved as its display matrix says, which takes (x, y) to (ax + cy, bx + dy)."""
    image = frame.to_ndarray(format="rgb24")
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return image
    (a, b, _), (c, d, _), _ = np.frombuffer(memoryview(found), np.int32).reshape(3, 3).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def is_video_source(source: Path) -> bool:
    """Returns whether a path is a video, a pattern such as `videos/*.mp4`, or a folder with videos and no image."""
    if source.is_dir():
        suffixes = {p.suffix.lower() for p in files_below(source) if not is_by_product(p.relative_to(source))}
        return bool(suffixes & VIDEO_SUFFIXES) and not suffixes & IMAGE_SUFFIXES
    return source.suffix.lower() in VIDEO_SUFFIXES or _is_pattern(source)


def has_videos(folder: Path) -> bool:
    """Returns whether a path is a folder with videos that are neither hidden nor show drawn poses."""
    return folder.is_dir() and any(not _is_drawn(path) for path in _videos_below(folder))


def list_videos(source: Path) -> list[Path]:
    """Returns a video itself, or the videos below a folder or of a pattern that are not hidden, sorted.

    Videos with drawn poses are left out with a warning: NAME_pose beside a video NAME or the scores NAME_scores.json,
    which `predict` has drawn, and NAMEDLC_…_labeled, which DeepLabCut has.

    Raises:
        DataError: If there is no such file or folder, no video in it, or two videos have one name.
    """
    if source.is_file():
        return [source]
    if not _is_pattern(source):
        _require(source)
    fixed = _first_pattern(source) if _is_pattern(source) else None
    root = source if fixed is None else Path(*source.parts[:fixed])
    every = _videos_below(root, None if fixed is None else "/".join(source.parts[fixed:]))
    found = [p for p in every if not _is_drawn(p)]
    if drawn := sorted({*every}.difference(found)):
        log.warning("%s: %s with drawn poses left out, the first is %s", source, plural(len(drawn), "video"), drawn[0])
    if not found and fixed is not None:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise DataError(
            f"{source} does not exist, and as a pattern it names no video ({kinds}); give images as a folder"
        )
    if not found:
        raise DataError(f"{source} has no video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    by_name: dict[str, Path] = {}
    for video in found:
        if (other := by_name.setdefault(video.stem, video)) != video:
            raise DataError(f"{video} has the name of {other}, and their results would mix; rename one")
    return found


def _videos_below(root: Path, pattern: str | None = None) -> list[Path]:
    """The videos below a folder that are not hidden, sorted; all, or those of a pattern."""
    paths = files_below(root) if pattern is None else root.glob(pattern)
    videos = (path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    return sorted(path for path in videos if not is_by_product(path.relative_to(root)))


def _is_drawn(video: Path) -> bool:
    """Whether a video is DeepLabCut's NAMEDLC_…_labeled, or NAME_pose, and a video NAME or its scores are beside it."""
    if DEEPLABCUT_DRAWN.search(video.stem):
        return True
    name = video.stem.removesuffix("_pose")
    if name == video.stem:
        return False
    beside = video.parent.glob(f"{glob.escape(name)}.*")
    is_beside = any(p.stem == name and p.suffix.lower() in VIDEO_SUFFIXES for p in beside)
    return is_beside or is_file(video.with_name(f"{name}{SCORES_SUFFIX}"))


def read_frames(source: Path, problems: list[str] | None = None) -> Iterator[Frame]:
    """Yields the frames of a video in order; times never decrease, even where recordings were joined.

    Packets that can't be decoded are skipped. A warning at the end counts them, and another one states that the video
    is shorter than its file says; `problems` collects both.

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
    found: list[str] = []
    if undecodable:
        found.append(f"{source}: {plural(undecodable, 'packet')} can't be decoded and left out")
    if last + 1 / rate < 0.9 * stated:
        found.append(f"{source} ends after {float(last):.0f} s, but its file says {float(stated):.0f} s")
    for problem in found:
        log.warning(problem)
    if problems is not None:
        problems += found


def _is_pattern(source: Path) -> bool:
    return glob.has_magic(str(source)) and not source.exists()


def _first_pattern(source: Path) -> int:
    """The number of the first part of a pattern that is no existing folder of this name."""
    known = (Path(*source.parts[: n + 1]).exists() for n in range(len(source.parts)))
    return next((n for n, exists in enumerate(known) if not exists), 0)


def _require(source: Path) -> None:
    if not source.exists():
        raise DataError(f"video {source} does not exist; check the path")


def count_frames(source: Path) -> int:
    """Returns the number of frames that the file states, else that of its packets, which are not decoded."""
    av = _import_av()
    try:
        with av.open(str(source.absolute())) as container:
            if not container.streams.video:
                return 0
            stream = container.streams.video[0]
            return int(stream.frames or sum(packet.size > 0 for packet in container.demux(stream)))
    except (av.FFmpegError, OSError):
        return 0


def _import_av() -> ModuleType:
    return import_extra("av", "video", "reading videos")
