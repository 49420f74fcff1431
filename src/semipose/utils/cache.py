"""The folder for files that can be made again at any time."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Returns the cache folder: $SEMIPOSE_CACHE, else `semipose` in the user's cache folder."""
    if own := os.environ.get("SEMIPOSE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "semipose"
