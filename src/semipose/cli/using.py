"""Commands that use what was trained: evaluate, predict, export, report."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Broken, Json, app, print_json, print_scores
from semipose.cli.progress import ConsoleProgress

Network = Annotated[
    str | None, typer.Option(help="A network of the run by its name in train's table, or ensemble; else its best.")
]


@app.command()
def evaluate(
    what: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS|PREDICTIONS.json", help="What is scored.")],
    data: Annotated[str, typer.Option(help="people, a DATA.yaml or COCO keypoint ANNOTATIONS.json.")],
    images: Annotated[str | None, typer.Option(help="Image folder of --data.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="COCO detections file instead of the annotated boxes.")] = None,
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirror image.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    network: Network = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN|WEIGHTS|PREDICTIONS.json", help="Compared with on the same persons, image by image."),
    ] = None,
    against_network: Annotated[str | None, typer.Option(help="As --network, of the run in --against.")] = None,
    broken: Broken = "strict",
    json: Json = False,
) -> None:
    """OKS AP and PCK of a run, of weights or of a predictions file, and how sure they are."""
    from semipose.api import evaluate as score
    from semipose.metrics.bootstrap import describe, describe_differences

    evaluation = score(
        what,
        data,
        images=images,
        boxes=boxes,
        flip_test=flip_test,
        device=device,
        network=network,
        against=against,
        against_network=against_network,
        on_error=broken,  # type: ignore[arg-type]
    )
    if json:
        print_json(evaluation.as_dict())
        return
    both = [evaluation, *([evaluation.against] if evaluation.against else [])]
    print_scores(
        {f"{n}. {e.name}" if len(both) > 1 else e.name: e.scores.as_dict() for n, e in enumerate(both, start=1)}
    )
    for line in (describe(evaluation.intervals), describe_differences(evaluation.difference or {})):
        if line:
            print(line)
    for name, figures in evaluation.scores.by_joint.items():
        print(f"{name} by joint: " + "  ".join(f"{joint} {100 * value:.1f}" for joint, value in figures.items()))
    for note in evaluation.scores.notes:
        print(note)
    print(evaluation.protocol.describe())
    if evaluation.against:
        print(f"second: {evaluation.against.protocol.describe()}")


@app.command()
def predict(
    what: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="The network.")],
    source: Annotated[
        Path, typer.Argument(metavar="IMAGE|DIR|VIDEO|COCO.json", help="What it looks at; of a COCO file, its images.")
    ],
    images: Annotated[Path | None, typer.Option(help="Image folder of a COCO file.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="COCO detections file with person boxes; else whole images.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for predictions.json and pictures.")] = Path("predictions"),
    draw: Annotated[bool, typer.Option("--draw", help="Also write pictures (a video for a video).")] = False,
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirror image.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    min_score: Annotated[float, typer.Option(help="Boxes of a lower score are left out.")] = 0.0,
    network: Network = None,
    broken: Broken = "skip",
) -> None:
    """Joints of the people in images or a video, as COCO results and, if asked, as pictures."""
    from semipose.api import predict as run

    written = run(
        what,
        source,
        images=images,
        boxes=boxes,
        out=out,
        draw=draw,
        flip_test=flip_test,
        device=device,
        min_score=min_score,
        network=network,
        on_error=broken,  # type: ignore[arg-type]
        progress=ConsoleProgress(),
    )
    for path in written:
        print(path)


@app.command()
def export(
    what: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="The network.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    network: Network = None,
) -> None:
    """Write the network for other runtimes; the file is run and compared with the network before it is kept."""
    from semipose.api import export as write

    print(write(what, out, network=network))


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN|STUDY", help="A run's or a study's folder.")]) -> None:
    """Write report.html: one page that opens offline, with curves, per-joint scores and examples sorted by error."""
    from semipose.reports.html import write_report

    print(write_report(folder))
