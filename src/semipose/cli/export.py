"""semipose export."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, Network, app


@app.command(cls=Command)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run folder or a weights file.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
    network: Network = None,
) -> None:
    """Export the network to ONNX; the exported file is run and compared with the network."""
    from semipose import api

    print(api.export(run, out, network=network))
