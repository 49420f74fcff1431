"""semipose train."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semipose.cli.common import OPTIONS, BoxCategory, Command, Json, app, print_json, print_scores, suggest_command
from semipose.cli.progress import ConsoleProgress
from semipose.errors import ConfigError, SemiposeError

if TYPE_CHECKING:
    from semipose.api import TrainResult
    from semipose.config import RunConfig

log = logging.getLogger(__name__)


@app.command(cls=Command)
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [section.key=value ...]",
            help="A YAML file or a name (semipose config lists names), default if not given; then further options.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labels: a DeepLabCut project, an annotation file, a DATA.yaml, or gym (rendered)."),
    ] = None,
    images: Annotated[str | None, typer.Option(help="Image folder of --data.")] = None,
    val: Annotated[
        str | None,
        typer.Option(help="Annotation file for validation, on which the gain is measured."),
    ] = None,
    val_images: Annotated[str | None, typer.Option(help="Image folder of --val.")] = None,
    unlabeled: Annotated[
        str | None,
        typer.Option(
            help="Unlabeled images: a folder, an annotation file, or videos (one, a folder, a quoted 'videos/*.mp4')."
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|whole|auto",
            help="COCO detections file with person boxes for --unlabeled; auto: first a small network learns to find "
            "all boxes; whole: all boxes are whole images.",
        ),
    ] = None,
    box_category: BoxCategory = None,
    labels: Annotated[int | None, typer.Option(help="This many persons keep their labels.")] = None,
    method: Annotated[str | None, typer.Option(help="A training method; semipose methods lists them.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A timm backbone, or vitpose_small to vitpose_huge.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained weights of the backbone: a file, auto or none.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="A run, a weights file or a name such as vitpose-base-simple to start from; without --data it adapts "
            "to --unlabeled."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/METHOD if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initial weights, data order and augmentation.")] = None,
    with_report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html at the end.")] = True,
    json: Json = False,
) -> None:
    """Train a network and write a run folder with weights, metrics, predictions, scores, report and configuration."""
    from semipose import api

    given = {
        "--data": data, "--images": images, "--val": val, "--val-images": val_images, "--unlabeled": unlabeled,
        "--boxes": boxes, "--box-category": box_category, "--labels": labels, "--method": method,
        "--backbone": backbone, "--weights": weights, "--start": start, "--steps": steps, "--device": device,
        "--seed": seed,
    }  # fmt: skip
    overrides = {key: given[option] for key, option in OPTIONS.items() if given[option] is not None}
    config = _configuration(arguments or [], overrides, out if resume else None, resume)
    folder = out or Path("runs") / config.method.name
    if config.train.devices != 1 and "LOCAL_RANK" not in os.environ:
        from semipose.cli.launch import train_in_processes

        result = train_in_processes(config, folder, resume=resume)
    else:
        result = api.train(config, out=folder, resume=resume, progress=ConsoleProgress())
    if os.environ.get("RANK", "0") == "0":
        _print_result(result, _write_report(result.folder) if with_report else None, json)


def _configuration(arguments: list[str], overrides: dict[str, Any], out: Path | None, resume: bool) -> "RunConfig":
    """Returns the configuration of a new run, or of the run in `out`, with overrides."""
    from semipose.config import load_config

    if not resume:
        return new_configuration(arguments, overrides)
    file, options = split_arguments(arguments)
    if out is None:
        raise ConfigError("`resume=True` continues the run in `out`; give `out` as well")
    if file:
        raise ConfigError(
            f"{file}: `resume=True` continues with the run's own configuration; leave the configuration out"
        )
    if not (out / "config.yaml").is_file():
        raise ConfigError(f"{out} contains no run to continue (no config.yaml); leave `resume=True` out")
    return load_config(out / "config.yaml", options | overrides)


def new_configuration(arguments: list[str], overrides: dict[str, Any]) -> "RunConfig":
    """Returns the configuration of a new run from a file or a name, options section.key=value, and overrides."""
    from semipose.config import ADAPT, DEFAULT, load_config

    file, options = split_arguments(arguments)
    options |= overrides
    adapts = "train.start" in options and "data.train" not in options
    return load_config(file or (ADAPT if adapts else DEFAULT), options)


def split_arguments(arguments: list[str]) -> tuple[str | None, dict[str, Any]]:
    """Returns the file or name of a configuration, if one is given, and the options section.key=value."""
    from semipose.config import parse_override

    files = [a for a in arguments if "=" not in a or Path(a).exists()]
    if len(files) > 1:
        raise ConfigError(f"{' and '.join(files)}: one configuration can be given; options are section.key=value")
    return (files[0] if files else None), dict(parse_override(a) for a in arguments if a not in files)


def _print_result(result: "TrainResult", report: Path | None, json: bool) -> None:
    from semipose.metrics.bootstrap import describe
    from semipose.metrics.scores import describe_pixel_error

    if json:
        print_json({**result.as_dict(), "data": result.data, "out": str(result.folder)})
        return
    several = len(result.scores) > 1
    print_scores(result.scores)
    of = f" of {result.best}" if several else ""
    errors = describe_pixel_error(result.pixel_error, of, result.boxes)
    for line in (describe(result.intervals, of), errors, result.protocol):
        if line:
            print(line)
    if result.best and several:
        print(f"best.safetensors is {result.best}; evaluate, predict and export use it unless --network is given")
    if report:
        print(report)
    print(result.folder)
    if gain := result.describe_gain():
        print(gain)


def _write_report(folder: Path) -> Path | None:
    """Writes report.html; if this fails, logs a warning and returns None."""
    from semipose.reports.html import write_report

    try:
        return write_report(folder, suggest_call=suggest_command)
    except (SemiposeError, OSError) as error:
        log.warning(f"report.html was not written: {error}")
        return None
