"""The cache folder, for files that can be recreated."""

import os
from pathlib import Path

UNPACKED, EXTRACTED = "unpacked", "frames"
"""The folders in the cache folder with images of archives, and with frames of videos."""


def cache_dir() -> Path:
    """Returns the cache folder: $SEMIPOSE_CACHE if set, else `semipose` in the user's cache folder."""
    if folder := os.environ.get("SEMIPOSE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "semipose"


def is_cached_image(image: Path) -> bool:
    """Returns whether an image was written into the cache folder, which may also hold data of the user."""
    return any(image.is_relative_to(cache_dir() / folder) for folder in (UNPACKED, EXTRACTED))
