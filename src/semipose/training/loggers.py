"""Where the metrics of a training go: metrics.jsonl, and TensorBoard events where tensorboard is installed."""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from semipose.errors import ConfigError
from semipose.utils.extras import import_extra

log = logging.getLogger(__name__)

Metrics = Mapping[str, float | str | None]


class MetricsLogger(ABC):
    """A place that metrics are written to."""

    @abstractmethod
    def write(self, step: int, kind: str, values: Metrics) -> None:
        """Writes the values of one step; `kind` names the group, for example `train` or `validation/F`."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is pending."""


class JsonlLogger(MetricsLogger):
    """One line of JSON per call. A line that can't be written is kept and written with the next one.

    Args:
        path: The file.
        size: Everything after this many bytes is removed first, so that a resumed log has no line twice.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        path.touch()
        self._path, self._pending = path, b""
        self._size = min(size, path.stat().st_size)
        os.truncate(path, self._size)

    @property
    def size(self) -> int:
        """The length of the file in bytes. Raises OSError while lines are pending that can't be written."""
        self._flush()
        return self._size

    def write(self, step: int, kind: str, values: Metrics) -> None:
        """Appends a line."""
        self._pending += (json.dumps({"step": step, "kind": kind, **values}) + "\n").encode()
        with suppress(OSError):
            self._flush()

    def truncate(self, size: int) -> None:
        """Removes everything after `size` bytes."""
        self._pending, self._size = b"", size
        os.truncate(self._path, size)

    def close(self) -> None:
        """Writes the pending lines."""
        with suppress(OSError):
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        with self._path.open("rb+") as file:
            file.truncate(self._size)  # removes the half of a line that a full disk may have left
            file.seek(self._size)
            file.write(self._pending)
        self._size += len(self._pending)
        self._pending = b""


class TensorBoardLogger(MetricsLogger):
    """Numbers as TensorBoard scalars named KIND/NAME.

    Raises:
        ConfigError: If tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        module = import_extra("torch.utils.tensorboard", "tensorboard", "writing TensorBoard events")
        self._writer = module.SummaryWriter(str(folder))

    def write(self, step: int, kind: str, values: Metrics) -> None:
        """Writes the numbers among the values; what a full disk can't take is lost."""
        for name, value in values.items():
            if isinstance(value, int | float):
                with suppress(OSError):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Closes the file of events."""
        with suppress(OSError):
            self._writer.close()


class MetricsLog(MetricsLogger):
    """The loggers of a run folder; none in processes other than the main one."""

    def __init__(self, jsonl: JsonlLogger | None = None, others: Sequence[MetricsLogger] = ()) -> None:
        self._jsonl, self._others = jsonl, others

    @classmethod
    def open(cls, folder: Path, size: int = 0) -> "MetricsLog":
        """Opens metrics.jsonl, shortened to `size` bytes, and, where tensorboard is installed, the folder events/."""
        jsonl = JsonlLogger(folder / "metrics.jsonl", size)
        try:
            return cls(jsonl, [TensorBoardLogger(folder / "events")])
        except ConfigError as error:
            log.info(f"{error}; metrics go to metrics.jsonl alone")
            return cls(jsonl)

    @property
    def size(self) -> int:
        """The length of metrics.jsonl in bytes. Raises OSError while lines are pending that can't be written."""
        return self._jsonl.size if self._jsonl else 0

    def write(self, step: int, kind: str, values: Metrics) -> None:
        """Writes to all loggers."""
        for logger in (*([self._jsonl] if self._jsonl else []), *self._others):
            logger.write(step, kind, values)

    def truncate(self, size: int) -> None:
        """Removes everything after `size` bytes from metrics.jsonl."""
        if self._jsonl:
            self._jsonl.truncate(size)

    def close(self) -> None:
        """Closes all loggers."""
        for logger in (*([self._jsonl] if self._jsonl else []), *self._others):
            logger.close()
