"""semipose demo."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, CommandError, Json, app, print_json, print_table
from semipose.cli.progress import ConsoleProgress


@app.command(cls=Command)
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the runs, the table and the example images; runs/demo if not given.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="A one-minute check; its scores are meaningless.")] = False,
    upper_bound: Annotated[bool, typer.Option("--upper-bound", help="Also train on all labels.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and split.")] = 0,
    json: Json = False,
) -> None:
    """Train on the rendered gym, with 40 labels and with unlabeled images in addition.

    If the demo is stopped, run it again to continue.
    """
    from semipose.studies.demo import default_folder, run_demo
    from semipose.training.signals import InterruptedTrainingError

    folder = out or default_folder(fast, seed)
    try:
        result = run_demo(folder, fast=fast, upper_bound=upper_bound, seed=seed, progress=ConsoleProgress())
    except InterruptedTrainingError as error:
        raise CommandError(128 + error.signal, ["stopped and saved; run the command again to continue"]) from None
    if json:
        print_json(result.as_dict())
        return
    print_table("Rendered gym, test split", result.columns, result.rows)
    for line in result.summary:
        print(line)
