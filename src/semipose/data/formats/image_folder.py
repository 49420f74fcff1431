"""Folders of images without labels."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from PIL import Image

from semipose.data.formats.detections import read_detected_persons
from semipose.data.images import has_exif_orientation
from semipose.errors import DataError
from semipose.structures.categories import PERSON, Category
from semipose.structures.instances import Instance, PoseDataset, estimate_area
from semipose.structures.skeletons import Skeleton
from semipose.utils.files import files_below
from semipose.utils.text import plural

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
"""Image files that are used."""
VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}
"""Files that count as videos."""
OTHER_SUFFIXES = {
    *VIDEO_SUFFIXES,
    *(".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl"),
    *(".dng", ".raw", ".cr2", ".nef", ".arw"),
}
"""Other images and videos, which are left out with a warning."""
TOOL_FOLDERS = {"__MACOSX", "@eaDir", "Thumbs.db", "$RECYCLE.BIN"}
"""Folders in which systems and tools keep thumbnails and copies, besides hidden ones."""


def list_images(folder: Path, *, with_videos: bool = False) -> tuple[list[Path], dict[str, int]]:
    """Returns the image files in a folder and its subfolders, sorted, and by reason the number of files left out.

    Linked subfolders are read, too. Hidden files and folders (.thumbnails, .ipynb_checkpoints) and those of systems
    (__MACOSX) are left out, with a warning that counts their images, and so are the drawn labels of DeepLabCut (a
    folder NAME_labeled beside NAME), images of other kinds and, unless they are used `with_videos`, videos.

    Raises:
        DataError: If there is no image.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check the path")
    every = [p for p in files_below(folder) if p.is_file()]
    files = [p for p in every if not is_by_product(p.relative_to(folder))]
    every_image = sorted(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
    images = [p for p in every_image if p.parent == folder or not _shows_labels(p)]
    other_suffixes = OTHER_SUFFIXES - VIDEO_SUFFIXES if with_videos else OTHER_SUFFIXES
    others = [p for p in files if p.suffix.lower() in other_suffixes]
    hidden = sorted(p for p in set(every).difference(files) if p.suffix.lower() in IMAGE_SUFFIXES)
    if hidden:
        log.warning(
            "%s: %s in hidden folders and folders of other tools left out, the first is %s",
            folder,
            plural(len(hidden), "image"),
            hidden[0].relative_to(folder),
        )
    if others:
        log.warning(
            "%s: %s of other kinds left out, the first is %s; save images as JPEG or PNG, give videos by themselves",
            folder,
            plural(len(others), "file"),
            others[0].name,
        )
    if drawn := sorted({*every_image}.difference(images)):
        log.warning("%s: %s with drawn labels left out, the first is %s", folder, plural(len(drawn), "image"), drawn[0])
    if not images:
        raise DataError(f"image folder {folder} has no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    counts = {
        "images in hidden folders": len(hidden),
        "images with drawn labels": len(drawn),
        "files of other kinds": len(others),
    }
    return images, {reason: count for reason, count in counts.items() if count}


def _shows_labels(image: Path) -> bool:
    """Whether an image is NAME_labeled/FILE and there is NAME/FILE, as after DeepLabCut's `check_labels`."""
    name = image.parent.name.removesuffix("_labeled")
    return name not in ("", image.parent.name) and (image.parent.with_name(name) / image.name).is_file()


def is_by_product(path: Path) -> bool:
    """Returns whether a path in a data folder is hidden, or in a folder that a system or tool made for itself."""
    return any(part.startswith(".") or part in TOOL_FOLDERS for part in path.parts)


def read_folder(
    folder: str | os.PathLike[str],
    skeleton: Skeleton,
    *,
    boxes: str | os.PathLike[str] | None = None,
    min_score: float = 0.0,
    box_category: int | str | None = None,
    problems: list[str] | None = None,
    with_videos: bool = False,
    category: Category = PERSON,
) -> PoseDataset:
    """Reads a folder of images as persons without labels.

    Args:
        folder: The folder; its subfolders are read, too.
        skeleton: The skeleton of the result.
        boxes: A COCO detections file; None to take each whole image as one person.
        min_score: Detections of a lower score are left out.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        problems: Collects images that cannot be opened and broken detections. Without it such images are left out with
            a warning, and a broken detection is an error.
        with_videos: Whether videos in the folder are used, too, so that they are not left out.
        category: The category of the persons.

    Raises:
        DataError: If no person is left.
    """
    images, left_out = list_images(Path(folder), with_videos=with_videos)
    persons = (
        whole_images(images, skeleton, str(folder), problems)
        if boxes is None
        else read_detected_persons(
            images, Path(folder), skeleton, boxes, min_score, problems, box_category=box_category, category=category
        )
    )
    return replace(persons.with_category(category), left_out={**left_out, **persons.left_out})


def whole_images(images: list[Path], skeleton: Skeleton, source: str, problems: list[str] | None = None) -> PoseDataset:
    """Returns a data set with one person in each image, whose box is the whole image.

    Args:
        images: The images; their ids count from 1.
        skeleton: The skeleton of the result.
        source: The name of the data set.
        problems: Collects images that cannot be opened; without it they are left out with a warning.

    Raises:
        DataError: If no image can be opened.
    """
    persons, broken, rotated = [], [], []
    for number, path in enumerate(images, start=1):
        try:
            with Image.open(path) as image:
                width, height = image.size
                if has_exif_orientation(image):
                    rotated.append(path)
        except Exception:  # Pillow raises many types for files that are not images
            broken.append(path)
            continue
        box = (0.0, 0.0, float(width), float(height))
        persons.append(Instance(path, number, -number, box, area=estimate_area(box)))
    if problems is not None:
        problems += [f"image {path} can't be opened; it may be truncated or mislabeled" for path in broken]
    elif broken:
        log.warning(
            "%s: %d of %d images can't be opened and are left out, the first is %s",
            *(source, len(broken), len(images), broken[0]),
        )
    if rotated:
        log.warning(
            "%s: %d of %d images have an EXIF orientation and are used as stored, the first is %s; save them upright, "
            "for example with mogrify -auto-orient",
            *(source, len(rotated), len(images), rotated[0]),
        )
    if not persons:
        raise DataError(
            f"{source}: none of its {len(images)} images can be opened; they may be truncated or mislabeled"
        )
    left_out = {"unreadable images": len(broken)} if broken and problems is None else {}
    return PoseDataset(skeleton, persons, source, left_out=left_out)
