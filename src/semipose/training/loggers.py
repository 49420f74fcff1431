"""What a person and a program see of a training: progress bars on stderr, metrics.jsonl, TensorBoard events."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

BETWEEN_LINES = 60.0
"""Seconds between two lines on a training's losses in a log file."""

console = Console(stderr=True, highlight=False)


def mute() -> None:
    """From now on this process says nothing but errors: another one speaks for it."""
    console.quiet = True
    logging.disable(logging.WARNING)


def say(message: str) -> None:
    """One line on stderr, above any bar."""
    console.print(message, markup=False, soft_wrap=True)


def progress_bar(work: Iterable, total: int, what: str) -> Iterator:
    """Shows a bar while `work` is done, if stderr is a terminal."""
    with _bar() as bar:
        task = bar.add_task(what, total=total)
        for item in work:
            yield item
            bar.advance(task)


class TrainingBar:
    """One bar for the whole training: losses, samples per second, time left."""

    def __init__(self, bar: Progress, steps: int, done: int, name: str) -> None:
        self._bar, self._steps, self._said = bar, steps, time.monotonic()
        self._task = bar.add_task(name, total=steps, completed=done)

    def update(self, step: int, text: str) -> None:
        """Moves to `step` and shows `text`; where there is no terminal, as a line now and then."""
        self._bar.update(self._task, completed=step, note=text)
        if not sys.stderr.isatty() and time.monotonic() - self._said > BETWEEN_LINES:
            self._said = time.monotonic()
            say(f"step {step} of {self._steps}: {text}")


@contextmanager
def training_bar(steps: int, done: int, name: str) -> Iterator[TrainingBar]:
    """The bar of a training that has `done` of `steps` behind it."""
    with _bar(TextColumn("{task.fields[note]}")) as bar:
        yield TrainingBar(bar, steps, done, name)


def _bar(*columns: Any) -> Progress:
    standard = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(
        *standard, *columns, console=console, transient=True, disable=console.quiet or not sys.stderr.isatty()
    )
    if columns:
        add = progress.add_task
        progress.add_task = lambda *a, **k: add(*a, **{"note": "", **k})  # type: ignore[method-assign]
    return progress


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
