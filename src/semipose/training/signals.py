"""Handling of SIGINT and SIGTERM: the training ends after the current step and saves its state."""

import logging
import signal
from types import FrameType, TracebackType

log = logging.getLogger(__name__)


class InterruptedTrainingError(Exception):
    """Raised when a signal ended the training after its state was saved; `signal` is the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number


class StopSignals:
    """A context that records SIGINT and SIGTERM instead of ending the process; a SIGINT after a signal ends it at once.

    A SIGTERM after a signal has no effect: Slurm and torchrun each pass one on, and the state is being saved.
    Python allows signal handlers only in the main thread; in other threads signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the received signal; 0 = none."""
        self._previous: dict[int, signal.Handlers] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received = number
            log.info("stopping after this step; Ctrl-C stops at once")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def __enter__(self) -> "StopSignals":
        try:
            self._previous = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}  # type: ignore[misc]
        except ValueError:
            self._previous = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
