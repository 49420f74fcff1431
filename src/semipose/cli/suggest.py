"""semipose suggest."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import (
    BoxCategory,
    Command,
    Device,
    Json,
    Network,
    OnError,
    app,
    print_written,
)
from semipose.cli.progress import ConsoleProgress


@app.command(cls=Command)
def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run folder or a weights file.")],
    frames: Annotated[
        Path,
        typer.Argument(
            metavar="FRAMES|VIDEO|LABELS", help="A folder of images, videos, or an annotation file that lists images."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for copies of the images, and the pre-labels.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images to label next.")] = 20,
    format: Annotated[
        str, typer.Option(metavar="coco|cvat|label-studio|dlc|slp|yolo", help="The labeling tool of the pre-labels.")
    ] = "coco",
    images: Annotated[Path | None, typer.Option(help="Image folder of a COCO file.")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|whole|auto",
            help="COCO detections file with person boxes; whole: each image is one person; auto: found by the box "
            "network of the run. If not given, auto if the run has one, else the boxes of LABELS, else whole.",
        ),
    ] = None,
    box_category: BoxCategory = None,
    min_joint_score: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Joints with a lower score (probability of being right, if calibrated) are left unlabeled.",
        ),
    ] = 0.2,
    network: Network = None,
    device: Device = "auto",
    on_error: OnError = "skip",
    json: Json = False,
) -> None:
    """Select images to label next, uncertain and different ones, and pre-label them for a labeling tool."""
    from semipose.inference.suggest import suggest as write_suggestions

    written = write_suggestions(
        run,
        frames,
        count=count,
        out=out,
        format=format,
        images=images,
        boxes=boxes,
        box_category=box_category,
        min_joint_score=min_joint_score,
        network=network,
        device=device,
        on_error=on_error,  # type: ignore[arg-type]
        progress=ConsoleProgress(),
    )
    print_written(written, written.account, json=json)
