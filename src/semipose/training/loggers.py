"""Loggers for the metrics of a training: metrics.jsonl, and TensorBoard events if tensorboard is installed."""

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
    """The abstract class of loggers for metrics."""

    @abstractmethod
    def write(self, step: int, kind: str, values: Metrics) -> None:
        """Writes the values of one step; `kind` names the group, for example `train` or `validation/F`."""

    @abstractmethod
    def close(self) -> None:
        """Writes pending values and closes the logger."""


class JsonlLogger(MetricsLogger):
    """A logger that writes one line of JSON per call; lines that can't be written are written with the next one.

    Args:
        path: The file.
        size: Bytes of the file to keep; the rest is removed, so that a resumed run logs no line twice.
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
            file.truncate(self._size)  # removes a partial line, which a full disk may have left
            file.seek(self._size)
            file.write(self._pending)
        self._size += len(self._pending)
        self._pending = b""


class TensorBoardLogger(MetricsLogger):
    """A logger that writes numbers as TensorBoard scalars named KIND/NAME.

    Raises:
        ConfigError: If tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        module = import_extra("torch.utils.tensorboard", "tensorboard", "writing TensorBoard events")
        self._writer = module.SummaryWriter(str(folder))

    def write(self, step: int, kind: str, values: Metrics) -> None:
        """Writes the numbers among the values; a number is lost if the disk is full."""
        for name, value in values.items():
            if isinstance(value, int | float):
                with suppress(OSError):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Closes the events file."""
        with suppress(OSError):
            self._writer.close()


class MetricsLog(MetricsLogger):
    """All loggers of a run folder; processes other than the main process have none."""

    def __init__(self, jsonl: JsonlLogger | None = None, others: Sequence[MetricsLogger] = ()) -> None:
        self._jsonl, self._others = jsonl, others

    @classmethod
    def open(cls, folder: Path, size: int = 0) -> "MetricsLog":
        """Opens metrics.jsonl, truncated to `size` bytes, and the folder events/ if tensorboard is installed."""
        jsonl = JsonlLogger(folder / "metrics.jsonl", size)
        try:
            return cls(jsonl, [TensorBoardLogger(folder / "events")])
        except ConfigError as error:
            log.info(f"{error}; metrics are written to metrics.jsonl only")
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
