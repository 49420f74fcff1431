"""What a person and a program see of a training: progress bars on stderr, metrics.jsonl, TensorBoard events."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


class MetricsLog:
    """metrics.jsonl and TensorBoard events of a run folder.

    A line that can't be written waits and is tried again with the next one, and before `size` is taken.
    """

    def __init__(self, folder: Path, keep_bytes: int = 0) -> None:
        """Opens the log; with `keep_bytes` everything after that length is cut off first (resume)."""
        self._path = folder / "metrics.jsonl"
        self._written = min(keep_bytes, self._path.stat().st_size) if self._path.exists() else 0
        self._path.touch()
        os.truncate(self._path, self._written)
        self._waiting = b""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._events = SummaryWriter(str(folder / "events"))

    @property
    def size(self) -> int:
        """Length in bytes of metrics.jsonl. Raises OSError while lines wait that can't be written."""
        self._flush()
        return self._written

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """One line, and its numbers as TensorBoard scalars under `kind`."""
        self._waiting += (json.dumps({"step": step, "kind": kind, **values}) + "\n").encode()
        with suppress(OSError):
            self._flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                with suppress(OSError):
                    self._events.add_scalar(f"{kind}/{name}", value, step)

    def cut(self, length: int) -> None:
        """Forgets every line after `length` bytes: the training goes on from there."""
        self._waiting, self._written = b"", length
        os.truncate(self._path, length)

    def close(self) -> None:
        """Writes out what is waiting."""
        with suppress(OSError):
            self._flush()
            self._events.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        with self._path.open("rb+") as file:
            file.truncate(self._written)  # half a line, from a disk that filled up, goes away
            file.seek(self._written)
            file.write(self._waiting)
        self._written += len(self._waiting)
        self._waiting = b""


class NoLog(MetricsLog):
    """What processes besides the first one write to: nothing."""

    def __init__(self) -> None:
        self._written, self._waiting = 0, b""

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """Nothing."""

    def cut(self, length: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
