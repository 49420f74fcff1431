"""semipose evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semipose.cli.common import (
    BoxCategory,
    Command,
    Device,
    FlipTest,
    Json,
    Network,
    OnError,
    app,
    print_json,
    print_scores,
)
from semipose.cli.progress import ConsoleProgress

if TYPE_CHECKING:
    from semipose.inference.evaluation import Evaluation
    from semipose.inference.video_evaluation import VideoEvaluation


@app.command(cls=Command)
def evaluate(
    ctx: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|WEIGHTS|PREDICTIONS", help="A run, a weights file, or predictions (COCO, DeepLabCut)."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Annotated persons: an annotation file, a DATA.yaml, or gym (rendered); or a video without labels."
        ),
    ],
    images: Annotated[str | None, typer.Option(help="Image folder of --data.")] = None,
    category: Annotated[
        str | None,
        typer.Option(help="Category of --data if it has several, by name, or all; that of the run if not given."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|whole|auto",
            help="Detections file, whole images or found boxes, in place of those of --data.",
        ),
    ] = None,
    box_category: BoxCategory = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN|WEIGHTS|PREDICTIONS", help="Compare with this run or file on the same persons."),
    ] = None,
    network: Network = None,
    against_network: Annotated[str | None, typer.Option(help="As --network, for the run in --against.")] = None,
    flip_test: FlipTest = False,
    instance_score: Annotated[
        str | None, typer.Option(help="rescored or mean; that of the run if not given, of other predictions their own.")
    ] = None,
    device: Device = "auto",
    on_error: OnError = "strict",
    json: Json = False,
) -> None:
    """Print AP, PCK and pixel error with 95 % intervals, and the difference from another run.

    Of a video, print the scores that need no labels: jumps between frames, low scores, exchanged left and right.
    """
    from semipose import api
    from semipose.data.video import is_video_source

    if is_video_source(Path(data)):
        from semipose.inference.parameters import refuse_unused
        from semipose.inference.video_evaluation import evaluate_video

        policy = getattr(ctx.get_parameter_source("on_error"), "name", "DEFAULT") != "DEFAULT"
        unused = {"images": images, "category": category, "instance_score": instance_score, "on_error": policy}
        refuse_unused(f"{data} is a video", **unused)
        options = {"network": network, "against_network": against_network, "flip_test": flip_test, "device": device}
        given = {"boxes": boxes, "box_category": box_category, "against": against}
        _print_video(evaluate_video(run, data, **given, **options, progress=ConsoleProgress()), json)  # type: ignore[arg-type]
        return
    evaluation = api.evaluate(
        run,
        data,
        images=images,
        category=category,
        boxes=boxes,
        box_category=box_category,
        against=against,
        network=network,
        against_network=against_network,
        flip_test=flip_test,
        instance_score=instance_score,  # type: ignore[arg-type]
        device=device,
        on_error=on_error,  # type: ignore[arg-type]
        progress=ConsoleProgress(),
    )
    if json:
        print_json(evaluation.as_dict())
        return
    _print_evaluation(evaluation)


def _print_video(evaluation: "VideoEvaluation", json: bool) -> None:
    if json:
        print_json(evaluation.as_dict())
        return
    for one in filter(None, (evaluation, evaluation.against)):
        print(f"{one.name}: {one.scores.describe()}")


def _print_evaluation(evaluation: "Evaluation") -> None:
    from semipose.metrics.bootstrap import describe, describe_differences
    from semipose.metrics.registry import column_title, value_text
    from semipose.metrics.scores import describe_pixel_error

    first, second = evaluation, evaluation.against
    both = [first] if second is None else [first, second]
    names = [f"{n}. {e.name}" if second else e.name for n, e in enumerate(both, start=1)]
    print_scores({name: e.scores.as_dict() for name, e in zip(names, both, strict=True)})
    lines = [describe(first.intervals), describe_differences(first.difference or {})]
    lines.append(describe_pixel_error(first.scores.pixel_error, boxes=first.protocol.boxes))
    for of, groups in (("joint", first.scores.by_joint), ("part", first.scores.by_part)):
        for name, scores in groups.items():
            values = "  ".join(f"{member} {value_text(name, value)}" for member, value in scores.items())
            lines.append(f"{column_title(name)} by {of}: {values}")
    lines += [*first.scores.notes, first.protocol.describe()]
    if second:
        notes = (note for note in second.scores.notes if note not in first.scores.notes)
        errors = describe_pixel_error(second.scores.pixel_error, boxes=second.protocol.boxes)
        lines += [f"second: {line}" for line in (errors, *notes, second.protocol.describe()) if line]
    for line in filter(None, lines):
        print(line)
