"""Images that are inside of another file, such as an archive, written once into the cache folder."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from semipose.errors import DataError
from semipose.utils.cache import UNPACKED, cache_dir
from semipose.utils.files import is_file

DONE = ".complete"
"""An empty file that says that a folder holds all that it should."""


def file_key(path: Path) -> str:
    """Returns a key of a file that differs for another place, size or time of change."""
    stat = path.stat()
    state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return sha256(state.encode(errors="surrogatepass")).hexdigest()[:16]


def unpacked(path: Path, unpack: Callable[[Path], None]) -> Path:
    """Returns a folder in the cache with the content of a file; `unpack` fills it the first time.

    Args:
        path: The file; a changed file is unpacked again.
        unpack: Called with the empty folder.

    Raises:
        DataError: If the cache folder can't be written.
    """
    folder = cache_dir() / UNPACKED / f"{path.stem[:40]}-{file_key(path)}"
    if not is_file(folder / DONE):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unpack(folder)
            (folder / DONE).touch()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{path} can't be unpacked to {folder} ({reason}); unpack it yourself") from None
    return folder
