"""The interface by which long-running functions report progress; the caller decides how to display it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

Item = TypeVar("Item")


class ProgressBar(ABC):
    """The progress of one task."""

    @abstractmethod
    def update(self, done: int, note: str = "") -> None:
        """Reports that `done` units of the total are finished, with a short `note`."""

    @abstractmethod
    def close(self) -> None:
        """Ends the report."""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Progress(ABC):
    """Starts progress bars."""

    @abstractmethod
    def start(self, description: str, total: int, done: int = 0) -> ProgressBar:
        """Returns the bar of a task with `total` units (0 = unknown), `done` of which are finished."""

    def track(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Yields the items and reports each as one finished unit."""
        with self.start(description, total) as bar:
            for number, item in enumerate(items, start=1):
                yield item
                bar.update(number)


class _SilentBar(ProgressBar):
    def update(self, done: int, note: str = "") -> None:
        pass

    def close(self) -> None:
        pass


class NoProgress(Progress):
    """Reports nothing."""

    def start(self, description: str, total: int, done: int = 0) -> ProgressBar:
        """Returns a bar that shows nothing."""
        return _SilentBar()


NO_PROGRESS = NoProgress()
