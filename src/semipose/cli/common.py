"""The application that all commands hang on, and how results are printed."""

import json as json_module
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    help="Train 2D human pose networks from few labels and many unlabeled images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(help="Look at data sets and convert them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]

Broken = Annotated[
    str, typer.Option(help="Broken records and photographs: strict lists them and stops, skip leaves them out.")
]


@app.callback()
def settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options of every command."""


def print_json(value: Any) -> None:
    print(json_module.dumps(value))


def print_scores(scores: dict[str, dict[str, float | None]]) -> None:
    if not scores:
        return
    names = list(next(iter(scores.values())))
    rows = [[name, *("–" if v is None else f"{100 * v:.1f}" for v in row.values())] for name, row in scores.items()]
    print_table("", ["", *names], rows)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column in ("meaning", "summary") else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
