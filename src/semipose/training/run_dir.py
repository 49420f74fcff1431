"""The lock of a run folder, so that only one process at a time writes to it."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from semipose.errors import ConfigError
from semipose.utils.files import write_text


@contextmanager
def lock_run_dir(folder: Path) -> Iterator[None]:
    """Locks a run folder for this process; the operating system releases the lock when the process ends.

    Raises:
        ConfigError: If another process holds the lock; the message names its id and its machine.
    """
    lock, owner = FileLock(folder / ".lock"), folder / ".owner.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"`out`: {folder} is in use by {_describe(owner)}; wait for it or choose another") from None
    except OSError as error:
        raise ConfigError(f"`out`: {folder} can't be written ({error.strerror}); choose another") from None
    try:
        _remove_unfinished_files(folder)
        write_text(owner, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> bool:
    """Waits until a run folder is unlocked; returns False if it is still locked after `seconds`."""
    if not folder.is_dir():
        return True
    try:
        with FileLock(folder / ".lock").acquire(timeout=seconds):
            return True
    except Timeout:
        return False


def _remove_unfinished_files(folder: Path) -> None:
    """Removes temporary files (see `utils.files.replacing`) of killed processes."""
    for leftover in [*folder.glob(".*.tmp.*"), *folder.glob("*/.*.tmp.*")]:
        number = leftover.name[1:].partition(".")[0]
        if number.isdigit() and not _is_running(int(number)):
            with suppress(OSError):
                leftover.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _describe(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["since"]))
        return f"process {found['pid']} on {found['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
