"""semipose evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Command, Device, FlipTest, Json, Network, OnError, app, print_json, print_scores
from semipose.cli.progress import ConsoleProgress


@app.command(cls=Command)
def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|WEIGHTS|PREDICTIONS.json", help="A run, a weights file or COCO results.")
    ],
    data: Annotated[
        str, typer.Option(help="Annotated persons: an annotation file, a DATA.yaml, or people (embedded).")
    ],
    images: Annotated[str | None, typer.Option(help="Image folder of --data.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="COCO detections file with boxes to use instead of the annotated ones.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN|WEIGHTS|PREDICTIONS.json", help="Compare with this run or file on the same persons."),
    ] = None,
    network: Network = None,
    against_network: Annotated[str | None, typer.Option(help="As --network, for the run in --against.")] = None,
    flip_test: FlipTest = False,
    device: Device = "auto",
    on_error: OnError = "strict",
    json: Json = False,
) -> None:
    """Print AP and PCK with 95 % intervals, and the difference from another run."""
    from semipose import api
    from semipose.metrics.bootstrap import describe, describe_differences

    evaluation = api.evaluate(
        run,
        data,
        images=images,
        boxes=boxes,
        against=against,
        network=network,
        against_network=against_network,
        flip_test=flip_test,
        device=device,
        on_error=on_error,  # type: ignore[arg-type]
        progress=ConsoleProgress(),
    )
    if json:
        print_json(evaluation.as_dict())
        return
    both = [evaluation, *([evaluation.against] if evaluation.against else [])]
    names = [f"{n}. {e.name}" if len(both) > 1 else e.name for n, e in enumerate(both, start=1)]
    print_scores({name: e.scores.as_dict() for name, e in zip(names, both, strict=True)})
    for line in (describe(evaluation.intervals), describe_differences(evaluation.difference or {})):
        if line:
            print(line)
    for name, scores in evaluation.scores.by_joint.items():
        print(f"{name} by joint: " + "  ".join(f"{joint} {100 * value:.1f}" for joint, value in scores.items()))
    for note in evaluation.scores.notes:
        print(note)
    print(evaluation.protocol.describe())
    if evaluation.against:
        print(f"second: {evaluation.against.protocol.describe()}")
