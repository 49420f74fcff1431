"""Who may write a run folder, and when a training must end: one process a folder, none without its launcher."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from semipose.errors import ConfigError
from semipose.utils.files import write_text


@contextmanager
def lock_run_dir(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process; a lock of the system, which ends with the process however that ends.

    Raises ConfigError, naming the owner's process and machine, when another process holds it.
    """
    lock, owner = FileLock(folder / ".lock"), folder / ".owner.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"{folder} is in use by {_describe(owner)}; wait for it or choose another --out") from None
    except OSError as error:
        raise ConfigError(f"run folder {folder} can't be written ({error.strerror}); choose another --out") from None
    try:
        _tidy(folder)
        write_text(owner, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> bool:
    """Waits until no process holds `folder`; false when one still does after `seconds`."""
    if not folder.is_dir():
        return True
    try:
        with FileLock(folder / ".lock").acquire(timeout=seconds):
            return True
    except Timeout:
        return False


def stop_with_stdin() -> None:
    """From now on this process gets SIGTERM when its standard input ends, as it does when the launcher is gone."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):  # the file, not sys.stdin, whose lock would outlive the interpreter
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _tidy(folder: Path) -> None:
    """Removes unfinished files (`files.replacing`) of processes that were killed."""
    for leftover in [*folder.glob(".*.tmp.*"), *folder.glob("*/.*.tmp.*")]:
        number = leftover.name[1:].partition(".")[0]
        if number.isdigit() and not _runs(int(number)):
            with suppress(OSError):
                leftover.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _describe(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text())
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["since"]))
        return f"process {found['pid']} on {found['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
