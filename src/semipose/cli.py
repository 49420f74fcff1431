"""The command line: parses, calls, prints; no logic."""

import json as json_module
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semipose.errors import InputError, SemiposeError

app = typer.Typer(
    help="Train 2D human pose networks from few labels and many unlabeled images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(help="Look at data sets and convert them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]


@app.callback()
def settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Options of every command."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo's runs, table and picture.")] = Path("runs/demo"),
    fast: Annotated[bool, typer.Option("--fast", help="A check of a minute; its figures mean nothing.")] = False,
    upper_bound: Annotated[bool, typer.Option("--upper-bound", help="Also train on all labels.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and split.")] = 0,
    json: Json = False,
) -> None:
    """Embedded people: the same network on few labels alone, and with the other images unlabeled."""
    from semipose.studies.demo import run_demo

    result = run_demo(out, fast=fast, upper_bound=upper_bound, seed=seed)
    if json:
        _print_json(result.as_dict())
        return
    _print_table("Embedded people, test split", result.columns, result.rows)
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
    json: Json = False,
) -> None:
    """Train a network; leaves a run folder with weights, metrics, predictions and the resolved configuration."""
    from semipose.api import train as start

    overrides: dict[str, Any] = {
        "data.train": data, "data.images": images, "data.val": val, "data.val_images": val_images,
        "data.unlabeled": unlabeled, "data.boxes": boxes, "data.labels": labels, "method": method,
        "model.backbone": backbone, "model.weights": weights, "train.steps": steps, "train.device": device,
        "train.seed": seed,
    }  # fmt: skip
    given = {key: value for key, value in overrides.items() if value is not None}
    result = start(*(arguments or []), out=out, resume=resume, overrides=given)
    if json:
        _print_json(
            {
                "scores": result.scores,
                "reported": result.reported,
                "protocol": result.protocol,
                "out": str(result.folder),
            }
        )
        return
    _print_scores(result.scores)
    print(result.protocol)
    print(result.folder)


@app.command()
def evaluate(
    what: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS|PREDICTIONS.json", help="What is scored.")],
    data: Annotated[str, typer.Option(help="people, a DATA.yaml or COCO keypoint ANNOTATIONS.json.")],
    images: Annotated[str | None, typer.Option(help="Image folder of --data.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="COCO detections file instead of the annotated boxes.")] = None,
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirror image.")] = False,
    json: Json = False,
) -> None:
    """OKS AP and PCK of a run, of weights or of a predictions file."""
    from semipose.api import evaluate as score

    evaluation = score(what, data, images=images, boxes=boxes, flip_test=flip_test)
    if json:
        _print_json({**evaluation.scores.as_dict(), "protocol": evaluation.protocol.describe()})
        return
    _print_scores({what.name: evaluation.scores.as_dict()})
    print(
        "PCK by joint: "
        + "  ".join(f"{n} {100 * v:.1f}" for n, v in evaluation.scores.per_joint.items() if v is not None)
    )
    print(evaluation.protocol.describe())


@app.command()
def predict(
    what: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="The network.")],
    source: Annotated[Path, typer.Argument(metavar="IMAGE|DIR|VIDEO", help="What it looks at.")],
    boxes: Annotated[
        Path | None, typer.Option(help="COCO detections file with person boxes; else whole images.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for predictions.json and pictures.")] = Path("predictions"),
    draw: Annotated[bool, typer.Option("--draw", help="Also write pictures (a video for a video).")] = False,
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirror image.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Joints of the people in images or a video, as COCO results and, if asked, as pictures."""
    from semipose.api import predict as run

    for path in run(what, source, boxes=boxes, out=out, draw=draw, flip_test=flip_test, device=device):
        print(path)


@app.command()
def export(
    what: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="The network.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
) -> None:
    """Write the network for other runtimes; the file is run and compared with the network before it is kept."""
    from semipose.api import export as write

    print(write(what, out, to=to))


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="COCO, MPII, AI Challenger or LSP file.")],
    images: Annotated[Path | None, typer.Option(help="Image folder; found beside the file when not given.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Open every image as well.")] = False,
    json: Json = False,
) -> None:
    """Count persons, joints and sizes, and list every broken record with its id; exit code 2 when there is one."""
    from semipose.data.check import check_data

    found = check_data(path, images, decode=decode)
    if json:
        _print_json(found.as_dict())
    else:
        low, middle, high = found.box_sides
        print(f"{found.source}: {found.persons} persons ({found.trainable} to learn from, {found.crowds} crowds)")
        print(
            f"{found.images} images, {found.empty_images} without persons; longer side of a box {low:.0f} to {high:.0f}"
        )
        print(f"pixels, half of them above {middle:.0f}; joints of {found.skeleton!r}")
        rows = [[name, *map(str, counts)] for name, counts in found.joints.items()]
        _print_table("", ["joint", "visible", "occluded", "unlabeled"], rows)
        print("\n".join(found.problems) or "no broken record")
    if found.problems:
        raise typer.Exit(2)


@data_app.command("convert")
def data_convert(
    path: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="COCO, MPII, AI Challenger or LSP file.")],
    out: Annotated[Path, typer.Option(help="COCO container to write.")],
    images: Annotated[Path | None, typer.Option(help="Image folder; found beside the file when not given.")] = None,
    skeleton: Annotated[str | None, typer.Option(help="Map onto union, coco, mpii, ai_challenger or lsp.")] = None,
) -> None:
    """Write any known format as a COCO container; images stay where they are."""
    from semipose.api import convert

    print(convert(path, out, images=images, skeleton=skeleton))


@app.command()
def study(
    name: Annotated[str | None, typer.Argument(metavar="NAME|GRID.yaml", help="A shipped study or a file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; studies/NAME when not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that holds the study's data sets.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")] = False,
    scale: Annotated[float, typer.Option(help="Share of labels and epochs, for a smaller set or a first look.")] = 1.0,
    show: Annotated[bool, typer.Option("--list", help="Name the shipped studies.")] = False,
    json: Json = False,
) -> None:
    """Methods × labels × seeds to one table, with the published figures beside ours; stopped, it goes on."""
    from semipose.studies.grid import load_grid, shipped
    from semipose.studies.study import run_study

    if show or name is None:
        rows = [[key, load_grid(key).title] for key in shipped()]
        _print_json(dict(rows)) if json else _print_table("Studies", ["name", "summary"], rows)
        return
    folder = out or Path("studies") / Path(name).stem
    table, records = run_study(load_grid(name).scaled(scale), folder, data=data, jobs=jobs, resume=resume)
    if json:
        _print_json({"table": str(table), "cells": records})
        return
    print(table.read_text())
    print(table)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN|STUDY", help="A run's or a study's folder.")]) -> None:
    """Write report.html: one page that opens offline, with curves, per-joint scores and examples sorted by error."""
    from semipose.studies.report import write_report

    print(write_report(folder))


@app.command()
def config(
    method: Annotated[str, typer.Option(help="The method whose options are listed.")] = "trs", json: Json = False
) -> None:
    """Every option with its default, type and meaning."""
    from semipose.api import all_options

    rows = all_options(method)
    if json:
        _print_json([dict(zip(("option", "type", "default", "meaning"), row, strict=True)) for row in rows])
        return
    _print_table(f"Options (method {method})", ["option", "type", "default", "meaning"], [list(r) for r in rows])


@app.command()
def methods(json: Json = False) -> None:
    """The methods: one line each, what a step costs, and the papers' COCO AP with 1K, 5K and 10K labels (ResNet-18)."""
    from semipose.methods.catalog import describe_methods

    rows = describe_methods()
    if json:
        _print_json(rows)
        return
    columns = ["method", "summary", "networks", "passes trained + forward", "units", "AP at 1K / 5K / 10K"]
    cells = [
        [
            row["method"],
            row["summary"],
            str(row["networks"]),
            f"{row['trained']} + {row['forward']}",
            str(row["units"]),
            " / ".join("–" if figure is None else f"{figure:.1f}" for figure in row["published"]),
        ]
        for row in rows
    ]
    _print_table("Methods", columns, cells)


def _print_json(value: Any) -> None:
    print(json_module.dumps(value))


def _print_scores(scores: dict[str, dict[str, float | None]]) -> None:
    if not scores:
        return
    names = list(next(iter(scores.values())))
    rows = [[name, *("–" if v is None else f"{100 * v:.1f}" for v in row.values())] for name, row in scores.items()]
    _print_table("", ["", *names], rows)


def _print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column in ("meaning", "summary") else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)


def main() -> None:
    """Entry point: one line on stderr and exit code 2 for bad input, 1 for a failure; a traceback only with --debug."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    debug = "--debug" in sys.argv
    try:
        app()
    except SemiposeError as error:
        if debug:
            raise
        print(f"semipose: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except Exception as error:
        from semipose.training.loop import InterruptedTrainingError

        if isinstance(error, InterruptedTrainingError):
            print("semipose: stopped and saved; continue with --resume", file=sys.stderr)
            sys.exit(128 + error.signal)
        if debug:
            raise
        print(f"semipose: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        sys.exit(1)
