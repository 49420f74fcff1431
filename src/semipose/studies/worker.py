"""Trains one run of a study: `python -m semipose.studies.worker FOLDER`.

FOLDER/plan.yaml is the resolved configuration. A run with a checkpoint is resumed. The log is written to standard
error; if the run fails, the last line is the error.
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
from semipose.training.checkpoint import is_begun
from semipose.training.signals import InterruptedTrainingError

PLAN = "plan.yaml"
"""Name of the configuration file in the folder of a run."""


def main(folder: Path) -> int:
    """Trains the run in a process of its own and returns the exit code of `train_planned`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    stop_without_parent()
    return train_planned(folder)


def train_planned(folder: Path) -> int:
    """Trains the run and returns the exit code: 0, 2 for invalid input, 1 for a failure, or 128 + signal number."""
    logging.getLogger("semipose").setLevel(logging.INFO)
    try:
        train(load_config(folder / PLAN), folder, resume=is_begun(folder))
    except InterruptedTrainingError as error:
        return 128 + error.signal
    except SemiposeError as error:
        for problem in error.problems if isinstance(error, BrokenDataError) else ():
            logging.error(problem)
        logging.error(str(error))
        return 2 if isinstance(error, InputError) else 1
    return 0


def stop_without_parent() -> None:
    """Sends SIGTERM to this process when its standard input is closed, which means that its parent has ended."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold when the interpreter exits
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
