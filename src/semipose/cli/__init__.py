"""The command line: parses, calls the library, prints. One file per command, in the order of the help."""

import os
import sys

from semipose.cli import demo, train, evaluate, predict, suggest  # isort: skip
from semipose.cli import export, report, data, study, config, methods  # isort: skip
from semipose.cli.common import app, describe_failure, escape_unprintable, exit_on_sigterm

__all__ = ["app", "main"]
COMMANDS = (demo, train, evaluate, predict, suggest, export, report, data, study, config, methods)


def main() -> None:
    """Runs a command: one line on stderr and exit code 2 for bad input, 1 for a failure; a traceback with --debug."""
    escape_unprintable()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]  # it may also follow the command
    try:
        if "LOCAL_RANK" in os.environ:
            from torch.distributed.elastic.multiprocessing.errors import record

            record(app)()  # makes torchrun report which process failed, and why
        else:
            with exit_on_sigterm():
                app()
    except Exception as error:
        if debug:
            raise
        failure = describe_failure(error)
        if os.environ.get("RANK", "0") == "0":
            *problems, line = failure.lines
            print(*problems, f"semipose: {line}", sep="\n", file=sys.stderr)
        sys.exit(failure.code)
