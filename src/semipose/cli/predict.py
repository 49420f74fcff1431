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
        typer.Argument(
            metavar="IMAGE|DIR|VIDEO|LABELS",
            help="Images, or videos: one, a folder, or a quoted 'videos/*.mp4'; the images of an annotation file.",
        ),
    ],
    images: Annotated[Path | None, typer.Option(help="Image folder of an annotation file.")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|whole|auto",
            help="COCO detections file with person boxes; whole: each image is one person; auto: found by the box "
            "network of the run. If not given, auto if the run has one, else the boxes of LABELS, else whole.",
        ),
    ] = None,
    box_category: BoxCategory = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the predictions and drawings, or one file: .json, .csv, .h5 or .slp.")
    ] = Path("predictions"),
    format: Annotated[
        str | None,
        typer.Option(
            metavar="coco|csv|dlc|slp",
            help="COCO results; a csv with DeepLabCut's header rows; this csv and h5; SLEAP. coco if not given.",
        ),
    ] = None,
    draw: Annotated[
        bool,
        typer.Option("--draw", help="Also draw the poses, without joints of a score below 0.2: images, or a video."),
    ] = False,
    names: Annotated[bool, typer.Option("--names", help="Write the names of the joints into the drawings.")] = False,
    smooth: Annotated[
        int, typer.Option(min=0, help="Frames of a median filter for the table of a video, odd; 0 for none.")
    ] = 0,
    network: Network = None,
    flip_test: FlipTest = False,
    detect: Annotated[
        bool,
        typer.Option("--detect", help="A detector of torchvision finds the persons, or --box-category NAME."),
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Another detector of torchvision, or a file with its weights."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Boxes with a lower score are left out; 0, with --detect 0.5, if not given.")
    ] = None,
    device: Device = "auto",
    on_error: OnError = "skip",
    json: Json = False,
) -> None:
    """Predict the joints of persons or animals in images or a video; write COCO results or a table, and drawings."""
    from semipose.inference.predict import predict as write_predictions

    written = write_predictions(
        run,
        source,
        images=images,
        boxes=boxes,
        box_category=box_category,
        detect=detect,
        detector=detector,
        out=out,
        format=format,
        draw=draw,
        names=names,
        smooth=smooth,
        network=network,
        flip_test=flip_test,
        min_score=min_score,
        device=device,
        on_error=on_error,  # type: ignore[arg-type]
        progress=ConsoleProgress(),
    )
    print_written(written, written.account, json=json)
