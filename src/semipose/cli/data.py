"""semipose data: check, convert, merge, split, frames, pack, cache."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semipose.cli.common import BoxCategory, Command, Json, app, print_json, print_table, print_written, translator
from semipose.cli.progress import ConsoleProgress
from semipose.utils.text import plural

if TYPE_CHECKING:
    from semipose.data.checks import DataReport
    from semipose.inference.detector import Detector

MOST_SUSPICIOUS = 20
"""Largest number of suspicious labels that `check` prints."""

data_app = typer.Typer(help="Check, convert, merge and prepare data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Annotations = Annotated[
    Path,
    typer.Argument(
        metavar="ANNOTATIONS",
        help="A DeepLabCut project (folder or config.yaml), or a file: COCO (also CVAT's zip), a csv or h5 of "
        "DeepLabCut or Lightning Pose, SLEAP, YOLO's data.yaml, Label Studio, MPII, AI Challenger, LSP.",
    ),
]
Images = Annotated[Path | None, typer.Option(help="Image folder; if not given, it is searched next to the file.")]
Container = Annotated[
    Path,
    typer.Option(
        help="File to write, in the format of its suffix: .json COCO, .csv or .h5 DeepLabCut, .slp SLEAP, .yaml YOLO."
    ),
]
OnSkeleton = Annotated[
    str | None, typer.Option("--skeleton", help="Map the joints onto union, coco, mpii, ai_challenger or lsp.")
]
OnCategory = Annotated[
    str | None, typer.Option("--category", help="Category of a file with several, by name, or all to read them as one.")
]


@data_app.command(cls=Command)
def check(
    context: typer.Context,
    annotations: Annotations,
    images: Images = None,
    category: OnCategory = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image as well.")] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="Another annotation file; images that both contain are listed, compared by content."),
    ] = None,
    against_images: Annotated[Path | None, typer.Option(help="Image folder of --against.")] = None,
    json: Json = False,
) -> None:
    """Count persons, joints and sizes, and list every broken record by its id; exit code 2 if there is any.

    Also list what is suspicious: duplicates, joints at (0, 0) or outside of their box, and with --decode joints and
    boxes outside of their image, and images with another size than annotated or an EXIF orientation.
    """
    from semipose.data.checks import check_data

    found = check_data(
        annotations, images, category=category, decode=decode, against=against, against_images=against_images
    )
    if json:
        print_json(asdict(found))
    else:
        _print_report(found, against)
        assert isinstance(context.command, Command)
        print("\n".join(map(translator(context.command), found.problems)) or "no broken record")
        if found.problem_count > 1:
            print(plural(found.problem_count, "problem"))
    if found.problems:
        raise typer.Exit(2)


def _print_report(found: "DataReport", against: Path | None) -> None:
    low, middle, high = found.box_sides
    persons, crowds = plural(found.persons, "person"), plural(found.crowds, "crowd")
    print(f"{found.source}: {persons} ({found.trainable} with labels to train on, {crowds})")
    print(f"{plural(found.images, 'image')}, {found.empty_images} without persons")
    print(f"longer side of a box: {low:.0f} to {high:.0f} pixels, median {middle:.0f}; joints of {found.skeleton!r}")
    rows = [[name, *map(str, counts)] for name, counts in found.joints.items()]
    print_table("", ["joint", "visible", "occluded", "unlabeled"], rows)
    if found.rotated_images:
        print(f"{plural(found.rotated_images, 'image')} with an EXIF orientation; joints refer to the pixels as stored")
    if found.shared_images == 0:
        print(f"no image in common with {against}")
    if len(found.suspicious) > 1:
        print(f"suspicious: {found.suspicious_kinds}")
    for line in found.suspicious[:MOST_SUSPICIOUS]:
        print(f"suspicious: {line}")
    if len(found.suspicious) > MOST_SUSPICIOUS:
        print(f"suspicious: … and {len(found.suspicious) - MOST_SUSPICIOUS} more")


@data_app.command(cls=Command)
def convert(
    annotations: Annotations,
    out: Container,
    images: Images = None,
    skeleton: OnSkeleton = None,
    category: OnCategory = None,
    json: Json = False,
) -> None:
    """Write any known format as COCO, DeepLabCut, SLEAP or YOLO; images stay where they are, but YOLO's are copied."""
    from semipose.data.prepare import convert_annotations

    options = {"skeleton": skeleton, "category": category}
    written, account = convert_annotations(annotations, out, images=images, **options, progress=ConsoleProgress())
    print_written([written], account, json=json)


@data_app.command(cls=Command)
def merge(
    annotations: Annotated[
        list[Path], typer.Argument(metavar="ANNOTATIONS ...", help="Annotation files; put corrected ones last.")
    ],
    out: Container,
    images: Annotated[
        list[Path] | None, typer.Option(help="Image folder of each file, in the same order, or one folder for all.")
    ] = None,
    skeleton: OnSkeleton = None,
    category: OnCategory = None,
    json: Json = False,
) -> None:
    """Merge annotation files into one; if several files label an image, the last file is used for it."""
    from semipose.data.prepare import merge_annotations

    options = {"skeleton": skeleton, "category": category}
    written, account = merge_annotations(annotations, out, images=images or (), **options, progress=ConsoleProgress())
    print_written([written], account, json=json)


@data_app.command(cls=Command)
def split(
    annotations: Annotations,
    out: Annotated[Path, typer.Option(help="Folder of train.json, val.json and test.json.")],
    by: Annotated[
        str,
        typer.Option(
            metavar="video|time|person|image",
            help="What stays together: videos (folder and name but for the last number), time in a video, individuals, "
            "or (for photographs) single images.",
        ),
    ] = "video",
    val: Annotated[float, typer.Option(min=0, max=1, help="Share for val.json.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share for test.json.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
    images: Images = None,
    category: OnCategory = None,
    json: Json = False,
) -> None:
    """Split labels so that validation and test show other videos, times, individuals or photographs than training."""
    from semipose.data.split_files import split_annotations

    written = split_annotations(
        annotations,
        out,
        by=by,
        val=val,
        test=test,
        seed=seed,
        images=images,
        category=category,
        progress=ConsoleProgress(),
    )
    print_written(written, written.account, json=json)


@data_app.command(cls=Command)
def frames(
    source: Annotated[
        Path, typer.Argument(metavar="VIDEO|DIR|PATTERN", help="A video, a folder of videos, or a quoted 'a/*.mp4'.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the images, for train --unlabeled.")],
    count: Annotated[int, typer.Option(min=1, help="Largest number of frames of all videos together.")] = 300,
    min_change: Annotated[
        float, typer.Option(min=0, max=255, help="Gray levels by which some part of two frames must differ.")
    ] = 8.0,
    detect: Annotated[
        bool, typer.Option("--detect", help="A detector of torchvision finds boxes in the frames, for train --boxes.")
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Another detector of torchvision, or a file with its weights."),
    ] = None,
    json: Json = False,
) -> None:
    """Write frames of videos as unlabeled images, spread over all videos, those that differ most."""
    from semipose.data.video import list_videos
    from semipose.data.video_frames import extract_frames
    from semipose.inference.parameters import refuse_unused

    if not detect:
        refuse_unused("nothing is to be detected", detector=detector)

    videos, finding = list_videos(source), _detector(detector) if detect else None
    written, alike = extract_frames(videos, out, count=count, min_change=min_change, progress=ConsoleProgress())
    boxes: dict[str, str] = {}
    if finding is not None:
        from semipose.inference.detector import detect_images

        boxes["boxes"] = str(detect_images(finding, {path.name: path for path in written}, out, ConsoleProgress()))
    if json:
        print_json({"folder": str(out), "frames": len(written), "alike": alike, **boxes})
    else:
        print(f"{out}: {plural(len(written), 'frame')}; {alike} of those examined are like one of them")
        print(*boxes.values(), sep="\n", end="\n" if boxes else "")


def _detector(name: str | None) -> "Detector":
    from semipose.inference.detector import Detector
    from semipose.utils.device import resolve_device

    return Detector(name, resolve_device("auto"))


@data_app.command(cls=Command)
def pack(
    source: Annotated[Path, typer.Argument(help="Unlabeled images: a folder, or an annotation file.")],
    out: Annotated[Path, typer.Option(help="Folder of the shards, for train --unlabeled.")],
    images: Annotated[Path | None, typer.Option(help="Image folder of an annotation file.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="COCO detections file with person boxes.")] = None,
    box_category: BoxCategory = None,
    min_score: Annotated[
        float | None, typer.Option(help="Detections with a lower score are left out; 0.5 if not given.")
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Number of persons per shard.")] = 4000,
    height: Annotated[int, typer.Option(min=32, help="input.height of the trainings.")] = 256,
    width: Annotated[int, typer.Option(min=32, help="input.width of the trainings.")] = 192,
    padding: Annotated[float, typer.Option(min=1, help="input.padding of the trainings.")] = 1.25,
    json: Json = False,
) -> None:
    """Crop the persons of a large unlabeled set into shards; a training reads a few of them at a time."""
    from semipose.data.prepare import pack_images
    from semipose.inference.parameters import refuse_unused

    if boxes is None:
        refuse_unused("`boxes` is not given", min_score=min_score, box_category=box_category)
    table, account = pack_images(
        source,
        out,
        images=images,
        boxes=boxes,
        min_score=0.5 if min_score is None else min_score,
        box_category=box_category,
        shard_size=shard_size,
        input_size=(height, width),
        padding=padding,
        progress=ConsoleProgress(),
    )
    print_written([table], account, json=json)


@data_app.command(cls=Command)
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all crops; trainings recreate them.")] = False,
    json: Json = False,
) -> None:
    """Show the folder of cached crops ($SEMIPOSE_CACHE, else the user's cache folder) and its size."""
    from semipose.data.crop_cache import cache_size, clear_cache
    from semipose.utils.cache import cache_dir

    if clear:
        clear_cache()
    sets, size = cache_size()
    if json:
        print_json({"folder": str(cache_dir()), "sets": sets, "bytes": size})
    else:
        print(f"{cache_dir()}: crops of {plural(sets, 'data set')}, {size / 1e6:.0f} MB")
