"""The cache folder, for files that can be recreated."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Returns the cache folder: $SEMIPOSE_CACHE if set, else `semipose` in the user's cache folder."""
    if folder := os.environ.get("SEMIPOSE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "semipose"
