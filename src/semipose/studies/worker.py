"""Trains one run of a study: `python -m semipose.studies.worker FOLDER`.

FOLDER/plan.yaml holds the resolved configuration; a run that has a checkpoint is resumed. The log goes to standard
error, its last line being the error of a run that failed.
"""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from semipose.config import load_config
from semipose.errors import BrokenDataError, InputError, SemiposeError
from semipose.trainer import train
from semipose.training.checkpoint import has_checkpoint
from semipose.training.signals import InterruptedTrainingError

PLAN = "plan.yaml"
"""The configuration of a run, in its folder."""


def main(folder: Path) -> int:
    """Trains the run and returns the exit code: 0, 2 for invalid input, 1 for a failure, 128 + the signal."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("semipose").setLevel(logging.INFO)
    stop_without_parent()
    try:
        train(load_config(folder / PLAN), folder, resume=has_checkpoint(folder / "last" / "state.pt"))
    except InterruptedTrainingError as error:
        return 128 + error.signal
    except SemiposeError as error:
        for problem in error.problems if isinstance(error, BrokenDataError) else ():
            logging.error(problem)
        logging.error(str(error))
        return 2 if isinstance(error, InputError) else 1
    return 0


def stop_without_parent() -> None:
    """Sends this process SIGTERM when its standard input ends, which happens when its parent is gone."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):  # the file itself: the lock of sys.stdin would outlive the interpreter
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
