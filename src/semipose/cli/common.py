"""The parts that all commands share: the application, the names of options, and printing of results."""

import io
import json as json_module
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from semipose import __version__
from semipose.cli.progress import configure_logging
from semipose.errors import BrokenDataError, InputError, SemiposeError

if TYPE_CHECKING:
    from semipose.data.account import DataAccount

OPTIONS = {
    "data.train": "--data",
    "data.images": "--images",
    "data.val": "--val",
    "data.val_images": "--val-images",
    "data.unlabeled": "--unlabeled",
    "data.boxes": "--boxes",
    "data.box_category": "--box-category",
    "data.labels": "--labels",
    "method": "--method",
    "model.backbone": "--backbone",
    "model.weights": "--weights",
    "train.start": "--start",
    "train.steps": "--steps",
    "train.device": "--device",
    "train.seed": "--seed",
}
"""Command-line options of configuration values, by the key in the configuration."""

TEXT_COLUMNS = ("meaning", "summary", "type", "value", "default")
"""Columns of tables that are aligned to the left, like the first one."""


MOST_PATHS = 10
"""Largest number of written files that are printed one by one."""


class CommandError(Exception):
    """The failure of a command, with its exit code and the lines for standard error."""

    def __init__(self, code: int, lines: list[str]) -> None:
        """Sets the exit code and the lines; the last line is the message."""
        super().__init__(lines[-1])
        self.code, self.lines = code, lines


def describe_failure(error: Exception) -> CommandError:
    """Returns exit code 2 for bad input, 130 or 143 for a signal, and 1 for all other errors, with a one-line message.

    For broken data, a list of the problems precedes the message.
    """
    if isinstance(error, CommandError):
        return error
    if isinstance(error, SemiposeError):
        problems = error.listing() if isinstance(error, BrokenDataError) else []
        return CommandError(2 if isinstance(error, InputError) else 1, [*(f"  {p}" for p in problems), str(error)])
    from semipose.training.signals import InterruptedTrainingError

    if isinstance(error, InterruptedTrainingError):
        return CommandError(128 + error.signal, ["stopped and saved; continue with --resume"])
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "OutOfMemoryError":
        text = "the GPU's memory is full; lower train.batch and train.unlabeled_batch"
    return CommandError(1, [f"{' '.join(text.split())[:500]} (--debug shows where)"])


class Command(TyperCommand):
    """A command that replaces parameter names in messages of the library by its options."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        translate = translator(self)
        configure_logging(translate)
        try:
            return super().invoke(ctx)
        except SemiposeError as error:
            error.args = (translate(str(error)),)
            if isinstance(error, BrokenDataError):
                error.problems = tuple(map(translate, error.problems))
            raise
        except CommandError as failure:
            failure.lines = list(map(translate, failure.lines))
            raise


def translator(command: TyperCommand) -> Callable[[str], str]:
    """Returns a function that replaces parameter names in backticks by the command's options.

    `` `boxes` `` becomes `--boxes`, `` `model.weights=none` `` becomes `--weights none`, and a switch
    `` `resume=True` `` becomes `--resume`. Parameters without an option are not changed.
    """
    by_name = {name: option for name, option in OPTIONS.items() if any(option in p.opts for p in command.params)}
    named = {p.name: p for p in command.params if p.param_type_name == "option"}
    by_name |= {str(name): parameter.opts[0] for name, parameter in named.items()}

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in by_name:
            return match[0]
        return by_name[name] if value in (None, "True") else f"{by_name[name]} {value}"

    return lambda text: re.sub(r"`([\w.]+)(?:=([^`\s]+))?`", option, text)


app = typer.Typer(
    help="Train 2D pose networks from few labels and many unlabeled images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]

FlipTest = Annotated[bool, typer.Option("--flip-test", help="Average heatmaps with those of the mirrored image.")]

Network = Annotated[
    str | None,
    typer.Option(help="Name of a network of the run, or ensemble; the best network if not given."),
]

BoxCategory = Annotated[
    str | None, typer.Option(help="Id or name of the detector's category in --boxes; the persons if not given.")
]

OnError = Annotated[
    str,
    typer.Option(
        metavar="strict|skip", help="Broken records and images: strict stops with a list, skip leaves them out."
    ),
]


def print_version(wanted: bool) -> None:
    """Prints the version and ends the program."""
    if wanted:
        print(f"semipose {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options of every command."""


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the command with exit code 143 as an error does, so that temporary files are removed."""
    previous = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def escape_unprintable() -> None:
    """Makes standard output and error escape the letters that their encoding lacks, so that no name stops a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """Prints one line of JSON."""
    print(json_module.dumps(value))


def print_written(paths: Sequence[Path], account: "DataAccount", *, json: bool) -> None:
    """Prints the files that a command wrote, or their folder and number; as JSON with the account of the data read."""
    if json:
        print_json({"files": list(map(str, paths)), "data": account.as_dict()})
    elif len(paths) <= MOST_PATHS:
        print(*paths, sep="\n")
    else:
        print(paths[0], f"{os.path.commonpath(paths)}: {len(paths)} files", sep="\n")


def suggest_command(folder: str, with_boxes: bool) -> str:
    """Returns the command that suggests frames for a run folder, with or without a file of boxes, for reports."""
    return f"semipose suggest {shlex.quote(folder)} VIDEO {'--boxes FILE ' if with_boxes else ''}--out to_label"


def print_scores(scores: dict[str, dict[str, float | None]]) -> None:
    """Prints scores in percent and errors in pixels, a line for each network."""
    from semipose.metrics.registry import column_title, is_of_part, value_text

    if scores:
        names = [name for name in next(iter(scores.values())) if not is_of_part(name)]
        rows = [[name, *(value_text(key, row[key]) for key in names)] for name, row in scores.items()]
        print_table("", ["", *map(column_title, names)], rows)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table; an empty row draws a line."""
    table = Table(title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        justify: JustifyMethod = "left" if number == 0 or column in TEXT_COLUMNS else "right"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
    for row in rows:
        if row:
            table.add_row(*map(escape, row))
        else:
            table.add_section()
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
