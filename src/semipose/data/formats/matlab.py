"""MATLAB files, read into arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semipose.errors import DataError
from semipose.utils.extras import import_extra
from semipose.utils.text import first_line


def is_matlab(path: Path) -> bool:
    """Returns whether a file is a MATLAB file, by its header or, because a broken file has none, by its suffix."""
    try:
        with path.open("rb") as file:
            return path.suffix == ".mat" or file.read(6) == b"MATLAB"
    except OSError:
        return False


def load_mat(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the named arrays of a MATLAB file as float64.

    Raises:
        DataError: If the file is not a MATLAB file of version 5 to 7 or lacks one of the arrays.
        ConfigError: If SciPy is not installed.
    """
    scipy_io = import_extra("scipy.io", "formats", "reading MATLAB files")
    try:
        content = scipy_io.loadmat(path)
    except OSError as error:
        raise DataError(f"MATLAB file {path} can't be read ({error.strerror or error}); check the path") from None
    except Exception as error:  # SciPy's parser raises many types
        raise DataError(
            f"{path} is not a MATLAB file of version 5 to 7 ({first_line(error)}); use another copy"
        ) from None
    found = {}
    for name in names:
        if name not in content:
            raise DataError(f"{path} has no array {name!r}; it has: {', '.join(k for k in content if k[0] != '_')}")
        try:
            found[name] = np.asarray(content[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{path}: {name!r} is not an array of numbers; use another copy") from None
    return found
