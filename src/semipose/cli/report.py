"""semipose report."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, Json, app, print_json


@app.command(cls=Command)
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN|STUDY", help="Folder of a run or a study.")],
    json: Json = False,
) -> None:
    """Write report.html, one self-contained page with curves, scores by joint and examples sorted by error."""
    from semipose.reports.html import write_report

    path = write_report(folder)
    if json:
        print_json({"path": str(path)})
    else:
        print(path)
