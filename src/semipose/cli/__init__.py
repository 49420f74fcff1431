"""The command line: parses, calls, prints; no logic. One file a group of commands."""

import sys

from semipose.cli import training, using, looking  # isort: skip  (the order of the help)
from semipose.cli.common import app
from semipose.cli.progress import configure_logging
from semipose.errors import BrokenDataError, InputError, RunError, SemiposeError

__all__ = ["app", "looking", "main", "training", "using"]


def main() -> None:
    """Entry point: one line on stderr and exit code 2 for bad input, 1 for a failure; a traceback only with --debug.

    Of broken data sets the list of what is broken comes before the line.
    """
    configure_logging()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]  # it may stand behind the command, too
    try:
        app()
    except SemiposeError as error:
        if debug:
            raise
        if isinstance(error, RunError) and not _speaks(error):
            sys.exit(1)
        for problem in error.listing() if isinstance(error, BrokenDataError) else ():
            print(f"  {problem}", file=sys.stderr)
        print(f"semipose: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except Exception as error:
        from semipose.training.signals import InterruptedTrainingError

        if isinstance(error, InterruptedTrainingError):
            if _speaks(error):
                print("semipose: stopped and saved; continue with --resume", file=sys.stderr)
            sys.exit(128 + error.signal)
        if debug:
            raise
        print(f"semipose: {_in_one_line(error)} (--debug shows where)", file=sys.stderr)
        sys.exit(1)


def _in_one_line(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "OutOfMemoryError":
        text = "the GPU's memory is full; lower train.batch and train.unlabeled_batch"
    return " ".join(text.split())[:500]


def _speaks(error: Exception) -> bool:
    """Whether this process tells how its training ended; of several processes one does."""
    from semipose.training.distributed import is_main_process

    return is_main_process()
