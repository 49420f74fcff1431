"""MATLAB files of the data sets, read into arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from semipose.errors import DataError


def load_mat(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays as float64; DataError when the file is no MATLAB file or lacks one."""
    try:
        content = loadmat(path)
    except OSError as error:
        raise DataError(f"MATLAB file {path} can't be read ({error.strerror or error}); check the path") from None
    except Exception as error:  # scipy raises whatever its parser stumbles over
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{path} is no MATLAB file of version 5 to 7 ({reason}); take another copy") from None
    found = {}
    for name in names:
        if name not in content:
            raise DataError(f"{path} has no array {name!r}; it has: {', '.join(k for k in content if k[0] != '_')}")
        try:
            found[name] = np.asarray(content[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{path}: {name!r} is no array of numbers; take another copy") from None
    return found
