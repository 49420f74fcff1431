"""semipose study."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, Json, app, print_json, print_table
from semipose.errors import RunError
from semipose.utils.text import plural


@app.command(cls=Command)
def study(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|GRID.yaml [section.key=value ...]", help="A study, and options for all its trainings."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; studies/NAME if not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the study's data sets.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of trainings at the same time; 1, or with --slurm any.")
    ] = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            help="Train each run in a Slurm job with these options of submitit: 'timeout_min=600 gpus_per_node=1'."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")] = False,
    scale: Annotated[
        float, typer.Option(help="Fraction of labels and epochs, for a smaller data set or a check.")
    ] = 1.0,
    show: Annotated[bool, typer.Option("--list", help="List the studies of the package.")] = False,
    json: Json = False,
) -> None:
    """Train methods × labels × seeds and write one table, with published scores for comparison.

    Use --resume to continue a stopped study.
    """
    from semipose.config import parse_override
    from semipose.studies.grid import load_grid, presets
    from semipose.studies.study import run_study

    if show or not arguments:
        rows = [[key, load_grid(key).title] for key in presets()]
        print_json(dict(rows)) if json else print_table("Studies", ["name", "summary"], rows)
        return
    name, *overrides = arguments
    grid = load_grid(name).scaled(scale).overridden(dict(parse_override(o) for o in overrides))
    folder = out or Path("studies") / Path(name).stem
    options = None if slurm is None else dict(parse_override(o) for o in shlex.split(slurm))
    result = run_study(grid, folder, data=data, jobs=jobs, resume=resume, slurm=options)
    if json:
        print_json(result.as_dict())
    else:
        print(result.table.read_text(encoding="utf-8"))
        print(result.table)
    if result.failures:
        raise RunError(
            f"{plural(len(result.failures), 'run')} of {len(result.outcomes)} failed, the first: {result.failures[0]}; "
            f"correct the cause, then continue with --resume --out {folder}"
        )
