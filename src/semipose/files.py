"""Files that are always whole: written beside their place, then renamed into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; it becomes `path` at the end, or goes away when something fails.

    The name ends as `path`'s does, since writers go by it.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8. Raises OSError; what was there stays then."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file system takes (too long, a null byte) is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
