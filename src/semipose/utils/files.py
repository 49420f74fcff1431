"""Files that are always whole: written beside their place, then renamed into it; SHA256SUMS tells later changes."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from semipose.errors import ConfigError

SUMS = "SHA256SUMS"


@contextmanager
def replacing(path: Path, sums: Path | None = None) -> Iterator[Path]:
    """A place beside `path` to write to; it becomes `path` at the end, or goes away when something fails.

    The name ends as `path`'s does, since writers go by it. With `sums`, a folder that `path` lies below, the content's
    hash is noted in its SHA256SUMS: before the renaming beside the one before, after it alone, so that a process may
    end at any moment and what is there is still known.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield temporary
        if sums is not None:
            own = _hash(temporary)
            _note(sums, path, keep_others=True, own=own)
        temporary.replace(path)
        if sums is not None:
            _note(sums, path, keep_others=False, own=own)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, sums: Path | None = None) -> None:
    """Writes `text` as UTF-8. Raises OSError; what was there stays then. `sums` as in `replacing`."""
    with replacing(path, sums) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> None:
    """Makes the folder that --out names. Raises ConfigError where that can't be, or nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:
        reason = "a file is there" if isinstance(error, FileExistsError) else getattr(error, "strerror", error)
        raise ConfigError(
            f"--out: {path} can't be made a folder to write to ({reason}); choose another place"
        ) from None


def place_for(path: Path, *splits: Path) -> None:
    """Makes room for the file that --out names. Raises ConfigError where a folder or one of its `sources` is there."""
    try:
        is_folder = path.is_dir()
        is_read = path.exists() and any(path.samefile(source) for source in splits if source.exists())
    except OSError as error:
        raise ConfigError(f"--out: {path} can't be written ({error.strerror}); choose another name") from None
    if is_folder:
        raise ConfigError(f"--out: {path} is a folder; name the file to write")
    if is_read:
        raise ConfigError(f"--out: {path} is what is read; choose another name")
    make_folder(path.parent)


def unchanged(path: Path) -> bool | None:
    """Whether a file is what the SHA256SUMS of its folder or the one above says; None where none speaks of it."""
    for folder in (path.parent, path.parent.parent):
        known = _sums(folder / SUMS).get(path.relative_to(folder).as_posix())
        if known:
            return _hash(path) in known
    return None


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file system takes (too long, a null byte) is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _note(folder: Path, path: Path, *, keep_others: bool, own: str) -> None:
    found, name = _sums(folder / SUMS), path.relative_to(folder).as_posix()
    found[name] = [*(h for h in found.get(name, []) if keep_others and h != own), own]
    write_text(folder / SUMS, "".join(f"{h}  {n}\n" for n, hashes in sorted(found.items()) for h in hashes))


def _sums(path: Path) -> dict[str, list[str]]:
    """Hashes by file name, as `sha256sum` writes them; lines that are none are passed over."""
    found: dict[str, list[str]] = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text().splitlines():
            value, _, name = line.partition("  ")
            if len(value) == 64 and name:
                found.setdefault(name, []).append(value)
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
