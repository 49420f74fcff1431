"""Progress bars and log messages on standard error, through rich."""

import logging
import os
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

from semipose.utils.progress import Progress, ProgressBar

SECONDS_BETWEEN_LINES = 60.0
"""Interval between lines of progress if standard error is not a terminal."""

console = Console(stderr=True, highlight=False)


class ConsoleHandler(logging.Handler):
    """Prints log messages above any progress bar."""

    def __init__(self, translate: Callable[[str], str]) -> None:
        """Sets the function that is applied to each message."""
        super().__init__()
        self.translate = translate

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message as one line."""
        console.print(self.translate(self.format(record)), markup=False, soft_wrap=True)


def configure_logging(translate: Callable[[str], str] = str) -> None:
    """Prints the package's log messages on standard error; with several processes only those of the first.

    Args:
        translate: Replaces parameter names in a message by options of the running command.
    """
    root, first = logging.getLogger(), os.environ.get("RANK", "0") == "0"
    for handler in [h for h in root.handlers if isinstance(h, ConsoleHandler)]:
        root.removeHandler(handler)
    root.addHandler(ConsoleHandler(translate))
    logging.getLogger("semipose").setLevel(logging.INFO if first else logging.ERROR)


class _Bar(ProgressBar):
    def __init__(self, bars: RichBars, task: TaskID, description: str, total: int) -> None:
        self._bars, self._task, self._description, self._total = bars, task, description, total
        self._printed = time.monotonic()
        bars.start()

    def update(self, done: int, note: str = "") -> None:
        self._bars.update(self._task, completed=done, note=note)
        if note and not sys.stderr.isatty() and time.monotonic() - self._printed > SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            console.print(f"{self._description}: {done} of {self._total}: {note}", markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bars.stop()


class ConsoleProgress(Progress):
    """Progress bars on a terminal; without a terminal, one line per minute for tasks that report notes."""

    def start(self, description: str, total: int, done: int = 0) -> ProgressBar:
        """Returns a bar on standard error."""
        bars = RichBars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        return _Bar(bars, bars.add_task(description, total=total or None, completed=done, note=""), description, total)
