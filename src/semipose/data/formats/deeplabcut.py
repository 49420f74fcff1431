"""DeepLabCut projects, and single tables of labels, which Lightning Pose shares."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice, single_category
from semipose.data.formats.image_files import ImageFolder
from semipose.data.formats.image_folder import IMAGE_SUFFIXES
from semipose.data.formats.image_names import names_below_shared_folder
from semipose.data.formats.pose_tables import (
    PoseTable,
    is_csv_table,
    read_csv_table,
    read_h5_table,
    write_csv_table,
    write_h5_table,
)
from semipose.data.formats.whole_frames import NO_AREA, dataset_without_boxes
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import Skeleton, infer_skeleton
from semipose.utils.files import is_file
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
LABELS = "labeled-data"
"""Folder of a project that has a folder of frames and labels for each video."""
H5_SUFFIXES = (".h5", ".hdf5")
SCORER = "semipose"
"""The scorer of tables that are written, where no other is known."""
TABLE = "CollectedData_"
"""Names of tables of labels begin with it and end with the scorer."""


class DeepLabCutFormat(Format):
    """A project (its folder or config.yaml), or one table of labels as csv or h5.

    Image ids and annotation ids count from 1. The box is that of `dataset_without_boxes`. A table with likelihoods
    holds predictions and no labels; only its images and boxes are read.

    Reference: Mathis et al., Nature Neuroscience 2018; Lauer et al., Nature Methods 2022 (several animals).
    """

    def matches(self, path: Path) -> bool:
        """Returns whether a path is a project's folder or configuration, or a table with DeepLabCut's header."""
        if path.is_dir() or path.suffix.lower() in (".yaml", ".yml"):
            return bool(_read_config(path / CONFIG if path.is_dir() else path))
        return is_csv_table(path) or (path.suffix.lower() in H5_SUFFIXES and is_file(path))

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the animals of a project or a table, as `Format.read` describes."""
        return self._read(path, images, problems, category, labels=True)

    def read_boxes(
        self,
        path: Path,
        images: Path | None,
        problems: list[str] | None,
        skeleton: Skeleton | None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the animals without their joints, which may be predictions, as `Format.read_boxes` describes."""
        return self._read(path, images, problems, category, labels=False).without_labels()

    def _read(
        self, path: Path, images: Path | None, problems: list[str] | None, category: CategoryChoice, *, labels: bool
    ) -> PoseDataset:
        project = path if path.is_dir() else path.parent
        if path.is_dir() or path.suffix.lower() in (".yaml", ".yml"):
            config = _read_config(project / CONFIG if path.is_dir() else path)
            files = _label_files(project, config)
            tables = [(file, _read_table(file, problems)) for file in files]
            root = images or project
        else:
            config = _read_config(_table_root(path) / CONFIG)
            tables = [(path, _read_table(path, problems))]
            root = images or _table_root(path)
        if labels and (predicted := [file for file, table in tables if table.values.shape[2] > 2]):
            raise DataError(
                f"{predicted[0]} has likelihoods, so it holds predictions and no labels; correct them and save x and y "
                "alone, or give their images as `data.unlabeled`"
            )
        skeleton = _skeleton([table for _, table in tables], config, path)
        reader = _Reader(skeleton, ImageFolder(root), problems)
        animals = [animal for file, table in tables for animal in reader.animals(table, file)]
        reader.folder.report(path)
        return dataset_without_boxes(skeleton, single_category(None, skeleton, category), animals, path, problems)


@dataclass
class _Reader:
    """Reads tables one after the other; ids go on from table to table."""

    skeleton: Skeleton
    folder: ImageFolder
    problems: list[str] | None
    images: int = 0
    count: int = 0

    def animals(self, table: PoseTable, path: Path) -> Iterator[Instance]:
        """Yields the animals that have a joint in each image, or one without labels where there is none."""
        members = [
            (individual, [c for c, column in enumerate(table.columns) if column[0] == individual])
            for individual in table.individuals
        ]
        targets = [self.skeleton.joints.index(joint) for _, joint in table.columns]
        for name, row in zip(table.names, table.values[..., :2], strict=True):
            self.images += 1
            where = f"{path}: image {str(name)[:80]}"
            with collect_errors(self.problems):
                if not str(name).lower().endswith(tuple(IMAGE_SUFFIXES)):
                    raise DataError(f"{where}: is no file name of an image; predictions for a video are no labels")
                image = self.folder.find(str(name), where)
                if (half := np.isnan(row).sum(axis=1) == 1).any():
                    raise DataError(f"{where}: {table.columns[int(half.argmax())][1]} has only one of x and y")
                found = [
                    self._animal(image, individual, row[columns], [targets[c] for c in columns])
                    for individual, columns in members
                    if np.isfinite(row[columns]).any()
                ]
                yield from found or [self._animal(image, None, row[:0], [])]

    def _animal(self, image: Path, individual: str | None, points: np.ndarray, targets: list[int]) -> Instance:
        self.count += 1
        joints, visibility = np.zeros((len(self.skeleton), 2)), np.zeros(len(self.skeleton), np.int8)
        labeled = np.isfinite(points).all(axis=1)
        joints[targets] = np.where(labeled[:, None], points, 0)
        visibility[targets] = np.where(labeled, 2, 0)
        return Instance(image, self.images, self.count, NO_AREA, joints, visibility, individual=individual)


def write_labels(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes the labels of a data set as DeepLabCut's csv or, by the suffix of the path, h5.

    The scorer is that of the file's name, `CollectedData_SCORER`. Joints that are occluded are written like visible
    ones; boxes are not part of the format.

    Returns:
        The folder that the names of the images are relative to.
    """
    root, files = names_below_shared_folder(persons.image_paths)
    root, files = names_below_labels(root, files)
    by_image: dict[int | str, list[Instance]] = {image_id: [] for image_id in files}
    for person in persons.instances:
        if person.labeled and not person.is_crowd:
            by_image[person.image_id].append(person)
    names = individual_names([[p.individual for p in found] for found in by_image.values()])
    known = sorted({name for found in names for name in found if name is not None})
    individuals: list[str | None] = [*known] or [None]
    columns = tuple((individual, joint) for individual in individuals for joint in persons.skeleton.joints)
    values = np.full((len(files), len(individuals), len(persons.skeleton), 2), np.nan)
    for row, (found, own) in enumerate(zip(by_image.values(), names, strict=True)):
        for person, name in zip(found, own, strict=True):
            assert person.joints is not None and person.visibility is not None
            labeled = person.visibility > 0
            values[row, individuals.index(name), labeled] = person.joints[labeled]
    scorer = _scorer_in_name(path) or SCORER
    table = PoseTable(scorer, list(files.values()), columns, values.reshape(len(files), len(columns), 2))
    (write_h5_table if path.suffix.lower() in H5_SUFFIXES else write_csv_table)(table, path)
    log.info("%s: boxes and whether a joint is occluded are not part of the format", path)
    return root


def scorer_of(labels: Path) -> str:
    """Returns the scorer of a project (its folder or config.yaml) or of a table; `semipose` for other labels."""
    if not DeepLabCutFormat().matches(labels):
        return SCORER
    if labels.is_dir() or labels.suffix.lower() in (".yaml", ".yml"):
        return str(_read_config(labels / CONFIG if labels.is_dir() else labels)["scorer"])
    return _read_table(labels, []).scorer


def _scorer_in_name(table: Path) -> str:
    return table.stem.removeprefix(TABLE) if table.stem.startswith(TABLE) else ""


def individual_names(found: Sequence[Sequence[str | None]]) -> list[list[str | None]]:
    """Returns the names of the animals in each image: their own, or individual1, individual2, … by order.

    Where no image shows two animals and none has a name, all names are None: the table is one of a single animal.
    """
    if all(len(own) < 2 and not any(own) for own in found):
        return [[None] * len(own) for own in found]
    names: list[list[str | None]] = []
    for own in found:
        taken, free = set(own), 1
        row: list[str | None] = []
        for name in own:
            if name is None or name in row:
                while f"individual{free}" in taken:
                    free += 1
                name = f"individual{free}"
                taken.add(name)
            row.append(name)
        names.append(row)
    return names


def names_below_labels(root: Path, files: dict[int | str, str]) -> tuple[Path, dict[int | str, str]]:
    """Returns a folder and the names of images below it; those in `labeled-data` begin with it, as in a project."""
    folder = next((p.parent for p in (root, *root.parents) if p.name == LABELS), root)
    return folder, {image_id: (root / name).relative_to(folder).as_posix() for image_id, name in files.items()}


def _read_config(path: Path) -> dict[str, Any]:
    """The configuration of a project; empty if the file is none."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError):
        return {}
    is_project = (
        isinstance(content, dict) and "scorer" in content and {"bodyparts", "multianimalbodyparts"} & {*content}
    )
    return content if is_project else {}


def _label_files(project: Path, config: dict[str, Any]) -> list[Path]:
    """The table of each video: that of the project's scorer, as csv rather than h5."""
    scorer, files = config.get("scorer"), []
    for folder in sorted(p for p in (project / LABELS).glob("*") if p.is_dir()):
        found = sorted(p for p in folder.glob(f"{TABLE}*") if p.suffix.lower() in (".csv", *H5_SUFFIXES))
        found = [p for p in found if p.stem == f"{TABLE}{scorer}"] or found
        stems = {p.stem for p in found}
        if len(stems) > 1:
            raise DataError(f"{folder} has labels of several scorers ({', '.join(sorted(stems))}); give one file")
        files += sorted(found, key=lambda p: p.suffix.lower() != ".csv")[:1]
    if not files:
        raise DataError(f"DeepLabCut project {project} has no labels ({LABELS}/*/CollectedData_*.csv or .h5)")
    return files


def _read_table(path: Path, problems: list[str] | None) -> PoseTable:
    return read_h5_table(path) if path.suffix.lower() in H5_SUFFIXES else read_csv_table(path, problems)


def _table_root(path: Path) -> Path:
    """The folder that the image names of a table begin in: that of a project, or the table's own."""
    folders = path.absolute().parents
    return folders[2] if len(folders) > 2 and folders[1].name == LABELS else path.parent


def _skeleton(tables: Sequence[PoseTable], config: dict[str, Any], path: Path) -> Skeleton:
    """The joints in the order of the configuration, with its skeleton as limbs."""
    found = dict.fromkeys(joint for table in tables for joint in table.joints)
    listed = [config.get(key) for key in ("multianimalbodyparts", "bodyparts", "uniquebodyparts")]
    ordered = dict.fromkeys(str(j) for names in listed if isinstance(names, list) for j in names if str(j) in found)
    joints = [*ordered, *(joint for joint in found if joint not in ordered)]
    name = str(config.get("Task") or path.stem)
    skeleton = infer_skeleton(joints, name=name)
    given = config.get("skeleton")
    edges: list[Any] = given if isinstance(given, list) else []
    limbs = [
        edge
        for edge in edges
        if isinstance(edge, list) and len(edge) == 2 and all(isinstance(j, str) and j in found for j in edge)
    ]
    if len(limbs) < len(edges):
        log.warning(
            "%s: %s of the skeleton without joints of the labels left out",
            path,
            plural(len(edges) - len(limbs), "edge"),
        )
    return skeleton.with_given(limbs=limbs) if limbs else skeleton
