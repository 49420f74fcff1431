"""Images that need no suggestion: those that a run has labels of, and those that were suggested before."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semipose.data.clips import thumbnail
from semipose.data.data_config import DataConfig
from semipose.data.datasets import load_splits
from semipose.data.found_boxes import around_joints
from semipose.data.images import read_image, read_image_bytes
from semipose.data.leakage import find_training_images
from semipose.data.video_frames import MIN_CHANGE
from semipose.errors import SemiposeError
from semipose.structures.boxes import AUTO
from semipose.structures.instances import Instance
from semipose.utils.files import folders_of_run, is_run_folder, write_text
from semipose.utils.hashing import content_digest

log = logging.getLogger(__name__)

RECORD = "suggested.json"
"""The file of a run folder that lists what was suggested."""
MOST_PERSONS = 500
"""Largest number of labeled persons that suggestions are compared with, evenly drawn."""


@dataclass
class KnownImages:
    """Images that are labeled already or were suggested before.

    Attributes:
        labeled: Digests of the labeled images.
        suggested: Digests of the suggested images.
        persons: Persons in these images, as far as the images exist.
        thumbnails: (M, 32, 32) gray levels of these images.
    """

    labeled: set[str] = field(default_factory=set)
    suggested: set[str] = field(default_factory=set)
    persons: list[Instance] = field(default_factory=list)
    thumbnails: np.ndarray = field(default_factory=lambda: np.zeros((0, 32, 32), np.float32))

    def reason(self, image: Path) -> str:
        """Returns why an image needs no suggestion; empty if it does.

        A frame of which no cell of a grid of 32×32 differs by 8 gray levels from a known image is known, too.
        """
        digest = content_digest(read_image_bytes(image))
        if digest in self.labeled:
            return "labeled already"
        if digest in self.suggested:
            return "suggested before"
        return "like a labeled or suggested image" if self.is_alike(thumbnail(read_image(image)).gray) else ""

    def is_alike(self, gray: np.ndarray) -> bool:
        """Returns whether a thumbnail (32, 32) is like that of a known image."""
        return bool((np.abs(self.thumbnails - gray).max(axis=(1, 2), initial=0) < MIN_CHANGE).any())

    def add(self, gray: np.ndarray) -> None:
        """Adds the thumbnail (32, 32) of an image."""
        self.thumbnails = np.concatenate([self.thumbnails, gray[None]])


def run_folder(path: Path) -> Path | None:
    """Returns the run folder that a path, a run folder or a weights file in it, belongs to; None if there is none."""
    return next((folder for folder in folders_of_run(path) if is_run_folder(folder)), None)


def training_labels(run: Path | None) -> Path | None:
    """Returns the labels that a run folder, or the run of a weights file, learned from, if its configuration tells."""
    folder = None if run is None else run_folder(run)
    if folder is None:
        return None
    try:
        return Path(_data_config(folder)["train"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def known_images(run: Path | None) -> KnownImages:
    """Returns the labeled and suggested images of a run folder, or of the run that a weights file belongs to."""
    known = KnownImages()
    if run is None:
        return known
    training = find_training_images(run)
    if training:
        known.labeled = {*training.labeled, *training.validation}
    folder = run_folder(run)
    records = read_record(folder) if folder else []
    known.suggested = {str(record["digest"]) for record in records}
    labeled = _labeled_persons(folder) if folder else []
    suggested = [Instance(Path(record["image"]), n, -n - 1, tuple(record["box"])) for n, record in enumerate(records)]
    for person in [*labeled, *suggested]:
        try:
            gray = thumbnail(read_image(person.image)).gray
        except SemiposeError:
            continue
        known.persons.append(person)
        known.add(gray)
    return known


def read_record(folder: Path) -> list[dict[str, Any]]:
    """Returns what was suggested for a run: image, digest and box of each image."""
    try:
        return list(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def write_record(folder: Path, copies: Sequence[tuple[Path, tuple[float, float, float, float]]]) -> None:
    """Adds copied images, each with the box of a person, to the record of a run folder.

    If it can't be written, a warning says so.
    """
    new = [
        {"image": str(image.absolute()), "digest": content_digest(image.read_bytes()), "box": list(box)}
        for image, box in copies
    ]
    try:
        write_text(folder / RECORD, json.dumps([*read_record(folder), *new]))
    except OSError as error:
        log.warning("%s can't be written (%s); the same images may be suggested again", folder / RECORD, error.strerror)


def _data_config(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["data"])


def _labeled_persons(folder: Path) -> list[Instance]:
    """The labeled persons of a run, including those held out; none, with a warning, if the data can't be read."""
    try:
        content = _data_config(folder)
        others = dict.fromkeys(("unlabeled", "boxes", "val", "val_images", "test", "test_images"))
        found = content.get("boxes") == AUTO
        splits = load_splits(DataConfig(**{**content, **others}))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, SemiposeError) as error:
        log.warning("%s: its labels can't be read (%s); suggestions may look like them", folder, str(error)[:200])
        return []
    persons = splits.labeled if splits.validation is None else splits.labeled.concat(splits.validation)
    persons = around_joints(persons) if found else persons
    step = max(1, -(-len(persons) // MOST_PERSONS))
    return [persons[n] for n in range(0, len(persons), step)]
