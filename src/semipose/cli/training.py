"""Commands that train: demo, train, study."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semipose.cli.common import Json, app, print_json, print_scores, print_table
from semipose.cli.progress import ConsoleProgress
from semipose.errors import RunError, SemiposeError
from semipose.utils.text import plural

log = logging.getLogger(__name__)


if TYPE_CHECKING:
    from semipose.api import TrainResult


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the demo's runs, table and picture; runs/demo when not given.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="A check of a minute; its figures mean nothing.")] = False,
    upper_bound: Annotated[bool, typer.Option("--upper-bound", help="Also train on all labels.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and split.")] = 0,
    json: Json = False,
) -> None:
    """Embedded people: the same network on few labels alone, and with the other images unlabeled.

    Stopped, it goes on when it is started again.
    """
    from semipose.studies.demo import default_folder, run_demo

    result = run_demo(out or default_folder(fast, seed), fast=fast, upper_bound=upper_bound, seed=seed)
    if json:
        print_json(result.as_dict())
        return
    print_table("Embedded people, test split", result.columns, result.rows)
    print(result.summary)
    print(result.picture)


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG.yaml] [section.key=value ...]", help="Configuration and overrides."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="people, a DATA.yaml or COCO keypoint ANNOTATIONS.json.")] = None,
    images: Annotated[str | None, typer.Option(help="Image folder of --data.")] = None,
    val: Annotated[str | None, typer.Option(help="COCO keypoints file that picks the best weights.")] = None,
    val_images: Annotated[str | None, typer.Option(help="Image folder of --val.")] = None,
    unlabeled: Annotated[str | None, typer.Option(help="Unlabeled images: a folder or a COCO file.")] = None,
    boxes: Annotated[str | None, typer.Option(help="COCO detections file with person boxes for --unlabeled.")] = None,
    labels: Annotated[int | None, typer.Option(help="This many persons keep their labels.")] = None,
    method: Annotated[
        str | None, typer.Option(help="See semipose methods; trs unless the configuration says more.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm backbone.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained weights of the backbone: a file, auto or none.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps (instead of epochs).")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/METHOD when not given.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out exactly where it stopped.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.")] = None,
    with_stdin: Annotated[
        bool, typer.Option("--stop-with-stdin", help="Save and leave when standard input ends, as launchers want.")
    ] = False,
    page: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html at the end.")] = True,
    json: Json = False,
) -> None:
    """Train a network; leaves a run folder with weights, metrics, predictions, report and resolved configuration."""
    from semipose.api import train as start
    from semipose.config import load_config, parse_override
    from semipose.errors import ConfigError
    from semipose.training.distributed import is_first
    from semipose.training.run_dir import stop_with_stdin

    if with_stdin:
        stop_with_stdin()
    overrides: dict[str, Any] = {
        "data.train": data, "data.images": images, "data.val": val, "data.val_images": val_images,
        "data.unlabeled": unlabeled, "data.boxes": boxes, "data.labels": labels, "method": method,
        "model.backbone": backbone, "model.weights": weights, "train.steps": steps, "train.device": device,
        "train.seed": seed,
    }  # fmt: skip
    given = {key: value for key, value in overrides.items() if value is not None}
    files = [a for a in arguments or [] if "=" not in a]
    given = dict(parse_override(a) for a in arguments or [] if "=" in a) | given
    if len(files) > 1:
        raise ConfigError(f"one configuration file at most, not {' and '.join(files)}; overrides are section.key=value")
    if resume and files:
        raise ConfigError(f"{files[0]}: --resume goes on with the run's own configuration; leave it out")
    own = out / "config.yaml" if resume and out is not None and (out / "config.yaml").is_file() else None
    configuration = load_config(own or (files[0] if files else None), given)
    result = start(configuration, out=out, resume=resume, progress=ConsoleProgress())
    if not is_first():
        return
    written = _report(result.folder) if page and not with_stdin else None
    _print_result(result, written, json)


def _print_result(result: "TrainResult", page: Path | None, json: bool) -> None:
    """Scores and protocol, which network is the best one, and where everything lies."""
    from semipose.metrics.bootstrap import describe

    if json:
        print_json(
            {
                "scores": result.scores,
                "headline_networks": result.headline_networks,
                "protocol": result.protocol,
                "best": result.best,
                "intervals": result.intervals,
                "out": str(result.folder),
            }
        )
        return
    print_scores(result.scores)
    sure = describe(result.intervals, f" of {result.best}" if len(result.scores) > 1 else "")
    if sure:
        print(sure)
    print(result.protocol)
    if result.best and len(result.scores) > 1:
        print(
            f"best.safetensors is {result.best}: evaluate, predict and export take it of the folder, or --network NAME"
        )
    if page:
        print(page)
    print(result.folder)


def _report(folder: Path) -> Path | None:
    """report.html of a run; a training that is done does not fail for want of it."""
    from semipose.reports.html import write_report

    try:
        return write_report(folder)
    except (SemiposeError, OSError) as error:
        log.info(f"no report.html: {error}")
        return None


@app.command(hidden=True)
def join() -> None:
    """What semipose train starts where a training takes several processes; not for people."""
    from semipose.trainer import join as take_part

    take_part()


@app.command()
def study(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|GRID.yaml [section.key=value ...]", help="A shipped study or a file; options for every cell."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; studies/NAME when not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that holds the study's data sets.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")] = False,
    scale: Annotated[float, typer.Option(help="Share of labels and epochs, for a smaller set or a first look.")] = 1.0,
    show: Annotated[bool, typer.Option("--list", help="Name the shipped studies.")] = False,
    json: Json = False,
) -> None:
    """Methods × labels × seeds to one table, with the published figures beside ours; stopped, it goes on."""
    from semipose.config import parse_override
    from semipose.studies.grid import load_grid, shipped
    from semipose.studies.study import run_study

    if show or not arguments:
        rows = [[key, load_grid(key).title] for key in shipped()]
        print_json(dict(rows)) if json else print_table("Studies", ["name", "summary"], rows)
        return
    name, *overrides = arguments
    grid = load_grid(name).scaled(scale).overridden(dict(parse_override(o) for o in overrides))
    folder = out or Path("studies") / Path(name).stem
    table, records = run_study(grid, folder, data=data, jobs=jobs, resume=resume)
    if json:
        print_json({"table": str(table), "cells": records})
    else:
        print(table.read_text())
        print(table)
    failed = [record for record in records if "failure" in record]
    if failed:
        raise RunError(
            f"{plural(len(failed), 'cell')} of {len(records)} failed, the first: {failed[0]['failure']}; mend that, "
            f"then --resume --out {folder}"
        )
