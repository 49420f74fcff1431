"""Writes data sets as COCO keypoint annotations."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semipose.data.formats.image_files import images_to_copy
from semipose.data.formats.image_names import names_below_shared_folder
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import Skeleton, infer_skeleton
from semipose.utils.cache import is_cached_image
from semipose.utils.files import is_file, make_folder, write_text
from semipose.utils.progress import NO_PROGRESS, Progress


def write_coco(
    persons: PoseDataset,
    path: Path,
    progress: Progress = NO_PROGRESS,
    folder: Path | None = None,
    *,
    pre_labels: bool = False,
) -> Path:
    """Writes a COCO annotation file that `read_coco` reads back.

    Images without persons are listed, too, because detections in them are false positives of an evaluation. Width and
    height are those of the stored pixels; images that cannot be opened have none. Annotation ids that begin at 0 are
    written from 1, because pycocotools counts a match with annotation 0 as none. The key `image_folder` is the path to
    the images from the folder of the file, for `read_coco`. If images lie in the cache folder, as
    frames of a SLEAP file do, all are copied to a folder that the reader of the file finds.

    Args:
        persons: The data set.
        path: The file to write.
        progress: Reports the images whose size was read.
        folder: The folder that the file names are relative to if all images lie below it; else the one they share.
        pre_labels: Whether the joints are predictions to be corrected; the key `pre_labels` then says so.

    Returns:
        The folder that the file names of the images are relative to.
    """
    root, names = names_below_shared_folder(persons.image_paths, folder)
    if any(map(is_cached_image, persons.image_paths.values())):
        root, names = _copied(root, names, path)
    items = progress.track(names.items(), len(names), "reading image sizes")
    images = [{"id": i, "file_name": name, **_size(root / name)} for i, name in items]
    joints: dict[str, Any] = {
        "keypoints": list(persons.skeleton.joints),
        "skeleton": [[a + 1, b + 1] for a, b in persons.skeleton.limbs],
        **_given(persons.skeleton),
    }
    categories = [{"id": category.id, "name": category.name, **joints} for category in persons.category.parts]
    first = int(min(persons.instances.annotation_ids, default=1) == 0)
    records = [
        _record(person, person.annotation_id + first, persons.category_id_of(person)) for person in persons.instances
    ]
    image_folder, folder_of_file = root.resolve(), path.parent.resolve()
    if image_folder.drive == folder_of_file.drive:
        image_folder = Path(os.path.relpath(image_folder, folder_of_file))
    lists = {"images": images, "annotations": records, "categories": categories}
    content = {**lists, "image_folder": image_folder.as_posix()}
    write_text(path, json.dumps(content | ({"pre_labels": True} if pre_labels else {})))
    return root


def _copied(root: Path, names: Mapping[int | str, str], path: Path) -> tuple[Path, dict[int | str, str]]:
    """Copies images beside an annotation file: to the folder of its name, in `images` if there is such a folder.

    Returns:
        The image folder and the names in it; images that are missing have no file there either.

    Raises:
        ConfigError: If there are other images of the same names.
    """
    images = path.parent / "images"
    target, prefix = (images, f"{path.stem}/") if images.is_dir() else (path.with_suffix(""), "")
    for name in images_to_copy(root, target / prefix, [name for name in names.values() if is_file(root / name)]):
        make_folder((target / prefix / name).parent)
        shutil.copyfile(root / name, target / prefix / name)
    return target, {image_id: f"{prefix}{name}" for image_id, name in names.items()}


def _given(skeleton: Skeleton) -> dict[str, Any]:
    """The flip pairs and sigmas that differ from those that a reader infers from the joint names."""
    inferred, joints = infer_skeleton(skeleton.joints), skeleton.joints
    given: dict[str, Any] = {}
    if skeleton.flip_order != inferred.flip_order:
        given["flip_pairs"] = [[joints[a], joints[b]] for a, b in skeleton.flip_pairs]
    sigmas = zip(joints, skeleton.sigmas, inferred.sigmas, strict=True)
    if changed := {joint: sigma for joint, sigma, usual in sigmas if sigma != usual}:
        given["sigmas"] = changed
    return given


def _record(person: Instance, annotation_id: int, category_id: int | str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": annotation_id,
        "image_id": person.image_id,
        "category_id": category_id,
        "iscrowd": int(person.is_crowd),
        "bbox": list(person.box),
        "area": person.area,
    }
    if person.joints is not None and person.visibility is not None:
        flat = np.column_stack([person.joints, person.visibility])
        record["keypoints"] = [int(v) if v == int(v) else float(v) for v in flat.ravel()]
        record["num_keypoints"] = int((person.visibility > 0).sum())
    if person.box_from_labels:
        record["box_from_labels"] = True
    if person.head_size is not None:
        record["head_size"] = person.head_size
    if person.individual is not None:
        record["individual"] = person.individual
    return record


def _size(image: Path) -> dict[str, int]:
    """Width and height from the header of an image file."""
    try:
        with Image.open(image) as opened:
            return {"width": opened.width, "height": opened.height}
    except Exception:  # Pillow raises many types for files that are not images
        return {}
