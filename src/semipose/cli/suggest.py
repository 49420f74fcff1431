"""semipose suggest."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import BoxCategory, Command, Device, Json, Network, OnError, app, print_written
from semipose.cli.progress import ConsoleProgress


@app.command(cls=Command)
def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run folder or a weights file.")],
    frames: Annotated[
        Path, typer.Argument(metavar="FRAMES|VIDEO|COCO.json", help="Images: a folder, a video or a COCO file.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of images to label next.")],
    out: Annotated[Path, typer.Option(help="Folder for copies of the images, and annotations.json.")],
    images: Annotated[Path | None, typer.Option(help="Image folder of a COCO file.")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="COCO detections file with person boxes; if not given, each image is one person."),
    ] = None,
    box_category: BoxCategory = None,
    min_joint_score: Annotated[
        float, typer.Option(min=0, max=1, help="Joints with a lower score are left unlabeled.")
    ] = 0.2,
    network: Network = None,
    device: Device = "auto",
    on_error: OnError = "skip",
    json: Json = False,
) -> None:
    """Select the images with the least confident joints for labeling, and pre-label them for a labeling tool."""
    from semipose.inference.suggest import suggest as write_suggestions

    written = write_suggestions(
        run,
        frames,
        count=count,
        out=out,
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
