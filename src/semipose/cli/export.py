"""semipose export."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, Json, Network, app, print_json


@app.command(cls=Command)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run folder or a weights file.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
    network: Network = None,
    json: Json = False,
) -> None:
    """Export the network to ONNX; the exported file is run and compared with the network."""
    from semipose import api

    path = api.export(run, out, network=network)
    if json:
        print_json({"path": str(path)})
    else:
        print(path)
