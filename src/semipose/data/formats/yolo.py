"""YOLO-pose data sets: a data.yaml, folders of images, and a text file of labels for each image."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice, read_categories
from semipose.data.formats.image_files import images_to_copy
from semipose.data.formats.image_folder import list_images
from semipose.data.formats.image_names import names_below_shared_folder
from semipose.data.formats.values import LARGEST_NUMBER
from semipose.data.orientation import Orientation
from semipose.errors import ConfigError, DataError, collect_errors
from semipose.structures.instances import Instance, Instances, PoseDataset, estimate_area
from semipose.structures.skeletons import COCO
from semipose.utils.files import write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
LEVELS_ABOVE = 3
"""Number of folders above a folder of images in which its data.yaml is searched."""


class YoloFormat(Format):
    """A data.yaml with `kpt_shape`, or the folder of images of one of its splits.

    A data.yaml means its training images; a training also takes its `val` and `test`. Joint names are those of
    `kpt_names`; without it, COCO's for 17 joints that mirror like COCO's, else keypoint_1, keypoint_2, …
    Image ids and annotation ids count from 1. An image without a file of labels shows nothing.

    Reference: Jocher et al., Ultralytics, documentation of pose data sets.
    """

    is_upright = True

    def matches(self, path: Path) -> bool:
        """Returns whether a path is a data.yaml of poses, or the folder of images of a split."""
        return _find(path) is not None

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of a split, as `Format.read` describes."""
        config = _find(path)
        assert config is not None
        folders = [images] if images else config.split_of(path)
        files = [file for folder in folders for file in list_images(folder)[0]]
        if path.is_file():
            log.info("%s: the images of %s are read", path, ", ".join(map(str, folders)))
        rows = [row for number, file in enumerate(files, start=1) for row in config.rows(file, number, problems)]
        if not rows:
            raise DataError(f"{path} has no labeled person; labels are text files in folders `labels` beside `images`")
        used = {class_id for class_id, _ in rows}
        categories = [
            {"id": n, "name": name, "keypoints": list(config.joints), "flip_pairs": config.flip_pairs}
            for n, name in config.names.items()
        ]
        read = read_categories(categories, path, None, category, lambda: used)
        persons = Instances.from_instances(
            (
                replace(person, annotation_id=number, category_id=class_id if len(read.ids) > 1 else None)
                for number, (class_id, person) in enumerate(rows, start=1)
                if class_id in read.ids
            ),
            len(config.joints),
        )
        if not len(persons):
            raise DataError(f"{path} has no person of category {read.category.name}; choose another one")
        shown = {person.image_id for _, person in rows}
        empty = tuple((n, file) for n, file in enumerate(files, start=1) if n not in shown)
        others = len(rows) - len(persons)
        return PoseDataset(
            read.skeleton, persons, str(path), empty, read.category, {"of another category": others} if others else {}
        )


def split_folders(path: Path) -> dict[str, str]:
    """Returns the folders of the splits of a data.yaml that are one folder; empty if the file is not YOLO's.

    A split that is the training images again is left out, and one of several folders with a warning.
    """
    config = _read(path)
    folders = {} if config is None else config.folders
    others = {split: own for split, own in folders.items() if split == "train" or own != folders.get("train")}
    for split, own in others.items():
        if len(own) > 1 and split != "train":
            log.warning("%s: `%s` is %d folders and is not used; give one folder", path, split, len(own))
    return {split: str(own[0]) for split, own in others.items() if len(own) == 1}


@dataclass(frozen=True)
class _Config:
    """The content of a data.yaml: classes by id, joints, numbers a joint, pairs of joints, folders by split."""

    path: Path
    names: dict[int, str]
    joints: tuple[str, ...]
    dims: int
    flip_pairs: list[list[str]] | None
    folders: dict[str, list[Path]]

    def split_of(self, path: Path) -> list[Path]:
        """The folders of images that a path means: a folder itself, or those of the first split of the file."""
        if path.is_dir():
            return [path]
        for split in SPLITS:
            if split in self.folders:
                return self.folders[split]
        raise DataError(f"{path} has none of the keys {', '.join(SPLITS)}; give the folder of its images")

    def rows(self, image: Path, number: int, problems: list[str] | None) -> Iterator[tuple[int, Instance]]:
        """Yields the class and the person of each line of an image's labels, without annotation id."""
        path = _labels_of(image)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
        except (OSError, UnicodeDecodeError):
            lines = ["unreadable"]
        orientation = Orientation.of(image) if lines else None
        for line, text in enumerate(lines, start=1):
            if text.strip():
                with collect_errors(problems):
                    if orientation is None:
                        raise DataError(f"image {image} can't be opened; it may be truncated or mislabeled")
                    yield self._row(text.split(), image, number, orientation, f"{path}: line {line}")

    def _row(
        self, cells: list[str], image: Path, number: int, orientation: Orientation, where: str
    ) -> tuple[int, Instance]:
        try:
            values = np.array(cells, float)
        except ValueError:
            values = np.full(1, np.nan)
        count = 5 + len(self.joints) * self.dims
        if values.shape != (count,) or not (np.abs(values) <= LARGEST_NUMBER).all():
            raise DataError(
                f"{where}: needs {count} numbers: class, box and {self.dims} for each of {len(self.joints)}"
            )
        if values[0] not in self.names:
            raise DataError(f"{where}: {cells[0]} is no class of {self.path.name}; add its name")
        size = orientation.upright_size
        center, extent = values[1:3] * size, values[3:5] * size
        if (extent < 0).any():
            raise DataError(f"{where}: the box has a negative size; it is center x, center y, width, height")
        points = values[5:].reshape(len(self.joints), self.dims)
        flags = points[:, 2] if self.dims == 3 else np.where(points.any(axis=1), 2.0, 0.0)
        if not set(flags.tolist()) <= {0, 1, 2}:
            raise DataError(f"{where}: a visibility is none of 0, 1, 2")
        x, y = (center - extent / 2).tolist()
        box = orientation.box_to_stored((x, y, float(extent[0]), float(extent[1])))
        joints = orientation.to_stored(points[:, :2] * size) * (flags > 0)[:, None]
        person = Instance(image, number, 0, box, joints, np.asarray(flags, np.int8), area=estimate_area(box))
        return int(values[0]), person


def _labels_of(image: Path) -> Path:
    """The file of labels of an image: in the folder `labels` in the place of the last folder `images`."""
    parts = list(image.parts)
    places = [n for n, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _find(path: Path) -> _Config | None:
    """The data.yaml that a path is, or in which it is the folder of a split."""
    if not path.is_dir():
        return _read(path)
    resolved = path.resolve()
    for folder in [*resolved.parents][:LEVELS_ABOVE]:
        for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
            config = _read(file)
            if config and any(resolved == f.resolve() for found in config.folders.values() for f in found):
                return config
    return None


def _read(path: Path) -> _Config | None:
    """The content of a data.yaml; None if a file is none."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return None
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError):
        return None
    shape = content.get("kpt_shape") if isinstance(content, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in (2, 3) or not isinstance(shape[0], int):
        return None
    names = content.get("names")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not names or not all(isinstance(n, int) for n in names):
        raise DataError(f"{path}: 'names' needs the name of each class")
    joints, order = _joints(content, shape[0]), content.get("flip_idx")
    numbers = order if isinstance(order, list) and all(isinstance(n, int) for n in order) else []
    if order is not None and sorted(numbers) != list(range(shape[0])):
        raise DataError(f"{path}: 'flip_idx' needs the numbers 0 to {shape[0] - 1}, once each")
    pairs = order and [[joints[a], joints[b]] for a, b in enumerate(order) if a < b]
    root = next((p for p in (path.parent / str(content.get("path") or ""), path.parent) if p.is_dir()), path.parent)
    folders = {s: _folders(content[s], root, path) for s in SPLITS if content.get(s)}
    return _Config(path, {n: str(name) for n, name in names.items()}, joints, shape[1], pairs, folders)


def _joints(content: dict[str, Any], count: int) -> tuple[str, ...]:
    names = content.get("kpt_names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)  # by class; all have the same
    if isinstance(names, list) and len(names) == count:
        return tuple(map(str, names))
    if content.get("flip_idx") == list(COCO.flip_order):
        return COCO.joints
    return tuple(f"keypoint_{n}" for n in range(1, count + 1))


def _folders(value: Any, root: Path, path: Path) -> list[Path]:
    """The folders of a split; `../` is left out where nothing is there, as Ultralytics does for Roboflow's files."""
    names = [Path(str(name)) for name in (value if isinstance(value, list) else [value])]
    if wrong := [name for name in names if "\0" in str(name)]:
        raise DataError(f"{path}: {str(wrong[0])!r} is no name of a folder; give folders of images")
    folders = [
        root.joinpath(*name.parts[1:]) if name.parts[:1] == ("..",) and not (root / name).exists() else root / name
        for name in names
    ]
    if wrong := [folder for folder in folders if folder.suffix == ".txt"]:
        raise DataError(f"{path}: {wrong[0]} is a list of files; give folders of images")
    return folders


def write_yolo(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes a data.yaml, and copies of the images and their labels in `images` and `labels` beside it.

    Crowds are left out, and ids are not part of the format.

    Returns:
        The folder of the images.

    Raises:
        ConfigError: If there are text files in folders `labels` already, which would be mixed with the new ones, or
            other images of the same names.
    """
    _refuse_old_labels(path.parent)
    root, names = names_below_shared_folder(persons.image_paths)
    stems = Counter(Path(name).with_suffix("") for name in names.values())
    if double := next((stem for stem, count in stems.items() if count > 1), None):
        raise DataError(f"two images are named {double} and would share their labels; rename one")
    folder = path.parent
    missing = {*images_to_copy(root, folder / "images", names.values())}
    classes = {part.id: n for n, part in enumerate(persons.category.parts)}
    lines: dict[int | str, list[str]] = {image_id: [] for image_id in names}
    for person in persons.instances:
        orientation = Orientation.of(person.image)
        if orientation is None:
            raise DataError(f"image {person.image} can't be opened; positions are shares of its size")
        if not person.is_crowd:
            lines[person.image_id].append(_line(person, classes[persons.category_id_of(person)], orientation, persons))
    for image_id, name in progress.track(names.items(), len(names), "copying images"):
        image = folder / "images" / name
        labels = _labels_of(image)
        for parent in (image.parent, labels.parent):
            parent.mkdir(parents=True, exist_ok=True)
        if name in missing:
            shutil.copyfile(root / name, image)
        write_text(labels, "".join(f"{line}\n" for line in lines[image_id]))
    content = {
        "train": "images",
        "val": "images",
        "kpt_shape": [len(persons.skeleton), 3],
        "flip_idx": list(persons.skeleton.flip_order),
        "names": {n: part.name for n, part in enumerate(persons.category.parts)},
        "kpt_names": {n: list(persons.skeleton.joints) for n in classes.values()},
    }
    note = "# val are the training images again, because YOLO needs the key; choose others before you compare scores\n"
    write_text(path, note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    if crowds := int(persons.instances.is_crowd.sum()):
        log.warning("%s: %s left out", path, plural(crowds, "crowd"))
    return folder / "images"


def _refuse_old_labels(folder: Path) -> None:
    """Raises ConfigError if a text file is where `_labels_of` has those of the images in `images`."""
    found = (*(folder / "labels").rglob("*.txt"), *(folder / "images").rglob("labels/**/*.txt"))
    if found:
        raise ConfigError(f"`out`: {min(found)} exists, and old and new labels would mix; choose another folder")


def _line(person: Instance, class_id: int, orientation: Orientation, persons: PoseDataset) -> str:
    size = orientation.upright_size
    x, y, width, height = orientation.box_to_upright(person.box)
    box = np.array([(x + width / 2) / size[0], (y + height / 2) / size[1], width / size[0], height / size[1]])
    k = len(persons.skeleton)
    joints = np.zeros((k, 2)) if person.joints is None else orientation.to_upright(person.joints) / size
    visibility = np.zeros(k, int) if person.visibility is None else person.visibility
    points = (f"{u!r} {v!r} {int(flag)}" for (u, v), flag in zip(joints.tolist(), visibility, strict=True))
    return " ".join([str(class_id), *map(repr, box.tolist()), *points])
