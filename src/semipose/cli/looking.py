"""Commands about options, methods and data: config, methods, data check, frames, pack, cache, join, convert."""

from pathlib import Path
from typing import Annotated

import typer

from semipose.cli.common import Json, app, data_app, print_json, print_table
from semipose.cli.progress import ConsoleProgress
from semipose.utils.text import plural

MOST = 20
"""Doubts that are printed."""


@app.command()
def config(
    method: Annotated[str, typer.Option(help="The method whose options are listed.")] = "trs", json: Json = False
) -> None:
    """Every option with its default, type and meaning."""
    from semipose.api import all_options

    rows = all_options(method)
    if json:
        print_json({row[0]: dict(zip(("type", "default", "meaning"), row[1:], strict=True)) for row in rows})
        return
    print_table(f"Options (method {method})", ["option", "type", "default", "meaning"], [list(r) for r in rows])


@app.command()
def methods(json: Json = False) -> None:
    """The methods: one line each, what a step costs, and the papers' COCO AP with 1K, 5K and 10K labels (ResNet-18)."""
    from semipose.methods.cost import describe_methods

    rows = describe_methods()
    if json:
        print_json({row.pop("method"): row for row in rows})
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
    print_table("Methods", columns, cells)


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="COCO, MPII, AI Challenger or LSP file.")],
    images: Annotated[Path | None, typer.Option(help="Image folder; found beside the file when not given.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Open every image as well.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="Another annotation file: list photographs that both have, by content.")
    ] = None,
    against_images: Annotated[Path | None, typer.Option(help="Image folder of that file.")] = None,
    json: Json = False,
) -> None:
    """Count persons, joints and sizes, and list every broken record with its id; exit code 2 when there is one.

    With --decode also what looks wrong and can be used: joints or boxes outside of the picture, other sizes than told.
    """
    from dataclasses import asdict

    from semipose.data.checks import check_data

    found = check_data(path, images, decode=decode, against=against, against_images=against_images)
    if json:
        print_json(asdict(found))
    else:
        low, middle, high = found.box_sides
        persons, crowds = plural(found.persons, "person"), plural(found.crowds, "crowd")
        image_paths = plural(found.images, "image")
        print(f"{found.source}: {persons} ({found.trainable} to learn from, {crowds})")
        print(f"{image_paths}, {found.empty_images} without persons; longer side of a box {low:.0f} to {high:.0f}")
        print(f"pixels, half of them above {middle:.0f}; joints of {found.skeleton!r}")
        rows = [[name, *map(str, counts)] for name, counts in found.joints.items()]
        print_table("", ["joint", "visible", "occluded", "unlabeled"], rows)
        if found.rotated_images:
            turned = plural(found.rotated_images, "image")
            print(f"{turned} stored turned (EXIF orientation); joints refer to the pixels as stored")
        if found.shared_images == 0:
            print(f"no photograph in common with {against}")
        for line in found.suspicious[:MOST]:
            print(f"suspicious: {line}")
        if len(found.suspicious) > MOST:
            print(f"suspicious: … and {len(found.suspicious) - MOST} more")
        print("\n".join(found.problems) or "no broken record")
        if len(found.problems) > 1:
            print(f"{len(found.problems)} problems")
    if found.problems:
        raise typer.Exit(2)


@data_app.command("frames")
def data_frames(
    source: Annotated[Path, typer.Argument(metavar="VIDEO|DIR", help="A video, or a folder of videos.")],
    out: Annotated[Path, typer.Option(help="Folder of the images; --unlabeled of train takes it.")],
    every: Annotated[float, typer.Option(min=0, help="Seconds between two frames at least; 0 looks at all.")] = 1.0,
    min_change: Annotated[
        float, typer.Option(min=0, max=255, help="Gray levels by which some part of the picture must have changed.")
    ] = 8.0,
    json: Json = False,
) -> None:
    """Take frames out of videos as unlabeled images, leaving out those that look like the one kept before."""
    from semipose.data.video import extract_frames, list_videos

    videos = list_videos(source)
    found, alike = extract_frames(videos, out, every=every, min_change=min_change, progress=ConsoleProgress())
    if json:
        print_json({"folder": str(out), "frames": len(found), "alike": alike})
    else:
        print(f"{out}: {plural(len(found), 'frame')}; {alike} left out for looking like the one kept before")


@data_app.command("pack")
def data_pack(
    source: Annotated[Path, typer.Argument(help="Unlabeled images: a folder, or an annotation file.")],
    out: Annotated[Path, typer.Option(help="Folder of the shards; data.unlabeled takes it.")],
    images: Annotated[Path | None, typer.Option(help="Image folder of an annotation file.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="COCO detections file with person boxes.")] = None,
    min_score: Annotated[float, typer.Option(help="Detections with a lower score are left out.")] = 0.5,
    shard_size: Annotated[int, typer.Option(min=1, help="Instances a shard.")] = 4000,
    height: Annotated[int, typer.Option(help="input.height of the trainings.")] = 256,
    width: Annotated[int, typer.Option(help="input.width of the trainings.")] = 192,
    padding: Annotated[float, typer.Option(help="input.padding of the trainings.")] = 1.25,
) -> None:
    """Cut the people of a large unlabeled set into shards, of which a training needs a few at a time."""
    from semipose.data.prepare import pack_images

    size = (height, width)
    print(pack_images(source, out, images=images, boxes=boxes, min_score=min_score, shard_size=shard_size, input_size=size,
               padding=padding, progress=ConsoleProgress()))  # fmt: skip


@data_app.command("cache")
def data_cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of it; trainings cut their people anew.")] = False,
    json: Json = False,
) -> None:
    """Where cut people are kept ($SEMIPOSE_CACHE, else the user's cache folder) and how much of them there is."""
    from semipose.data.crop_cache import cache_size, clear_cache
    from semipose.utils.cache import cache_dir

    if clear:
        clear_cache()
    sets, size = cache_size()
    if json:
        print_json({"folder": str(cache_dir()), "sets": sets, "bytes": size})
    else:
        print(f"{cache_dir()}: {plural(sets, 'set')} of people, {size / 1e6:.0f} MB")


@data_app.command("join")
def data_join(
    paths: Annotated[
        list[Path], typer.Argument(metavar="ANNOTATIONS ...", help="Annotation files, corrected ones last.")
    ],
    out: Annotated[Path, typer.Option(help="COCO container to write.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Image folder of each file, in order, or one for all.")
    ] = None,
    skeleton: Annotated[str | None, typer.Option(help="Map onto union, coco, mpii, ai_challenger or lsp.")] = None,
) -> None:
    """Write several annotation files as one; where several have people in a photograph, those of the last count."""
    from semipose.data.prepare import merge_annotations

    print(merge_annotations(paths, out, images=images or (), skeleton=skeleton, progress=ConsoleProgress()))


@data_app.command("convert")
def data_convert(
    path: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="COCO, MPII, AI Challenger or LSP file.")],
    out: Annotated[Path, typer.Option(help="COCO container to write.")],
    images: Annotated[Path | None, typer.Option(help="Image folder; found beside the file when not given.")] = None,
    skeleton: Annotated[str | None, typer.Option(help="Map onto union, coco, mpii, ai_challenger or lsp.")] = None,
) -> None:
    """Write any known format as a COCO container; images stay where they are."""
    from semipose.data.prepare import convert_annotations

    print(convert_annotations(path, out, images=images, skeleton=skeleton, progress=ConsoleProgress()))
