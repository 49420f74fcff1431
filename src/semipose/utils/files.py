"""Atomic writing of files, under a temporary name that is then renamed, checks of output paths, and lists of files."""

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from semipose.errors import ConfigError

BOX_FINDER = "box_finder"
"""Folder of a run folder with the run of its box network."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path that is renamed to `path` at the end and removed when an error occurs.

    The temporary file is in the same folder and has the same suffix, because some writers choose the format by suffix.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8; after an OSError the previous file is still there.

    Bytes of a file name that are not UTF-8 are escaped.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def make_folder(path: Path) -> None:
    """Creates the output folder `path`.

    Raises:
        ConfigError: If the folder cannot be created or is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", error)
        raise ConfigError(f"`out`: cannot write to folder {path} ({reason}); choose another folder") from None


def check_output_file(path: Path, *inputs: Path) -> None:
    """Creates the folder of the output file `path`.

    Raises:
        ConfigError: If `path` is a folder or one of the files `inputs`, or its folder cannot be written to.
    """
    _refuse_inputs(path, inputs)
    make_folder(path.parent)


def check_new_file(path: Path, *inputs: Path) -> None:
    """Raises ConfigError if `path` exists: as a folder, as one of the files `inputs`, or as another file."""
    _refuse_inputs(path, inputs)
    if path.exists():
        raise ConfigError(f"`out`: {path} exists; remove it or choose another file")


def _refuse_inputs(path: Path, inputs: Sequence[Path]) -> None:
    """Raises ConfigError if `path` is a folder or one of the files `inputs`."""
    try:
        is_folder = path.is_dir()
        is_input = path.exists() and any(path.samefile(other) for other in inputs if other.exists())
    except OSError as error:
        raise ConfigError(f"`out`: {path} cannot be written ({error.strerror}); choose another name") from None
    if is_folder:
        raise ConfigError(f"`out`: {path} is a folder; give the name of a file")
    if is_input:
        raise ConfigError(f"`out`: {path} is an input file; choose another name")


def folders_of_run(path: Path) -> tuple[Path, Path, Path]:
    """Returns where the files of a run may be that a path belongs to: its folder, or weights in it or in weights/."""
    path = path.absolute()  # the parent of a relative path may be "."
    return path, path.parent, path.parent.parent


def from_here(path: Path) -> Path:
    """Returns the path relative to the working directory if it is below it, for messages."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def is_run_folder(folder: Path) -> bool:
    """Returns whether a folder is that of a run: with its configuration, and its state or scores."""
    return is_file(folder / "config.yaml") and ((folder / "last").is_dir() or is_file(folder / "scores.json"))


def is_file(path: Path) -> bool:
    """Returns whether a file exists; false for invalid names (too long, null bytes)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """Yields all but folders in a folder and its subfolders, also in linked ones; a folder with several paths once.

    Links are followed after other folders, so that they add only what no other path leads to, and a loop ends; hidden
    folders come last.
    """
    waiting, links, hidden, seen = deque([folder]), deque[Path](), deque[Path](), set[Path]()
    while queue := waiting or links or hidden:
        current = queue.popleft()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        _, folders, names = next(os.walk(current), ("", [], []))
        for below in (current / name for name in sorted(folders)):
            (hidden if below.name.startswith(".") else links if below.is_symlink() else waiting).append(below)
        yield from (current / name for name in names)
