"""semipose report."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, Json, app, print_json, suggest_command


@app.command(cls=Command)
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|STUDY [RUN ...]", help="Folder of a run or a study; several runs are compared."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of report.html, and of each figure as a picture file in figures/; the run's or study's own "
            "folder, without picture files, if not given; for several runs reports/comparison."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write report.html, one self-contained page with scores, curves, scores by joint and the papers' figures."""
    from semipose.reports.html import write_report

    path = write_report(folders, out, suggest_call=suggest_command)
    if json:
        print_json({"path": str(path)})
    else:
        print(path)
