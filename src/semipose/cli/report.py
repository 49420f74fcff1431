"""semipose report."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, app


@app.command(cls=Command)
def report(folder: Annotated[Path, typer.Argument(metavar="RUN|STUDY", help="Folder of a run or a study.")]) -> None:
    """Write report.html, one self-contained page with curves, scores by joint and examples sorted by error."""
    from semipose.reports.html import write_report

    print(write_report(folder))
