"""semipose predict."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import BoxCategory, Command, Device, FlipTest, Json, Network, OnError, app, print_written
from semipose.cli.progress import ConsoleProgress


@app.command(cls=Command)
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run folder or a weights file.")],
    source: Annotated[
        Path,
        typer.Argument(metavar="IMAGE|DIR|VIDEO|COCO.json", help="Images; for a COCO file, the images that it lists."),
    ],
    images: Annotated[Path | None, typer.Option(help="Image folder of a COCO file.")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="COCO detections file with person boxes; if not given, each image is one person."),
    ] = None,
    box_category: BoxCategory = None,
    out: Annotated[Path, typer.Option(help="Folder of predictions.json and drawn images.")] = Path("predictions"),
    draw: Annotated[bool, typer.Option("--draw", help="Also draw the poses: images, or a video of a video.")] = False,
    network: Network = None,
    flip_test: FlipTest = False,
    min_score: Annotated[float, typer.Option(help="Boxes with a lower score are left out.")] = 0.0,
    device: Device = "auto",
    on_error: OnError = "skip",
    json: Json = False,
) -> None:
    """Predict the joints of the persons in images or a video; write COCO results and, with --draw, drawings."""
    from semipose.inference.predict import predict as write_predictions

    written = write_predictions(
        run,
        source,
        images=images,
        boxes=boxes,
        box_category=box_category,
        out=out,
        draw=draw,
        network=network,
        flip_test=flip_test,
        min_score=min_score,
        device=device,
        on_error=on_error,  # type: ignore[arg-type]
        progress=ConsoleProgress(),
    )
    print_written(written, written.account, json=json)
