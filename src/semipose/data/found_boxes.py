"""Boxes of one subject an image: around the labeled joints, or found by the box network of a run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.datasets import DataSplits
from semipose.data.formats.values import box_of_joints
from semipose.errors import ConfigError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import write_text
from semipose.utils.text import plural

FILE = "boxes.json"
"""The file of a run folder with the boxes that its box network found."""
MARGIN = 0.2
"""Margin of a box around joints, as a share of the longer side of their extent."""
ONE_PLACE = "with labels at less than two places, which make no box"
"""Why a labeled person is left out."""


def around_joints(persons: PoseDataset) -> PoseDataset:
    """Returns the persons with boxes around their labeled joints, without those that have labels at one place only.

    Raises:
        ConfigError: If nobody is left.
    """
    instances = persons.instances
    pairs = zip(instances.joints.astype(float), instances.visibility > 0, strict=True)
    boxes = [box_of_joints(joints, labeled, MARGIN) for joints, labeled in pairs]
    kept = [n for n, box in enumerate(boxes) if box is not None]
    if not kept:
        raise ConfigError(f"`data.boxes`: {persons.source} has no person but those {ONE_PLACE}; use whole images")
    found = np.array([box for box in boxes if box is not None], dtype=float).reshape(-1, 4)
    return persons.subset(kept).with_boxes(found, from_labels=True)


def with_found_boxes(splits: DataSplits, found: Mapping[str, np.ndarray]) -> DataSplits:
    """Returns the sets of a run with other boxes: around the joints of the labeled persons, found ones in other sets.

    Args:
        splits: The sets.
        found: Boxes (N, 4) of the sets `unlabeled`, `validation` and `test`, as far as they exist.

    Raises:
        ConfigError: If a set has another number of persons than boxes, or no labeled person gets a box.
    """
    labeled = around_joints(splits.labeled)
    sets: dict[str, Any] = {}
    for name, persons in other_sets(splits):
        if len(found.get(name, ())) != len(persons):
            raise ConfigError(
                f"`data.boxes`: {len(found.get(name, ()))} boxes were found for the {name} set, which now has "
                f"{plural(len(persons), 'person')}; restore the data, or train in another folder"
            )
        sets[name] = persons.with_boxes(found[name])
    dropped = len(splits.labeled) - len(labeled)
    left_out = {**splits.account.left_out, **({ONE_PLACE: dropped} if dropped else {})}
    return replace(splits, labeled=labeled, account=replace(splits.account, left_out=left_out), **sets)


def other_sets(splits: DataSplits) -> Iterator[tuple[str, PoseDataset]]:
    """Yields name and persons of the unlabeled, validation and test set, as far as they exist."""
    for name in ("unlabeled", "validation", "test"):
        persons: PoseDataset | None = getattr(splits, name)
        if persons is not None:
            yield name, persons


def save_boxes(folder: Path, found: Mapping[str, np.ndarray]) -> None:
    """Writes the boxes.json of a run folder: boxes (N, 4) by set, in the order of its persons."""
    write_text(folder / FILE, json.dumps({name: boxes.tolist() for name, boxes in found.items()}))


def read_boxes(folder: Path) -> dict[str, np.ndarray] | None:
    """Returns the boxes of the boxes.json of a run folder, None if there is none."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except OSError:
        return None
    return {name: np.array(boxes, dtype=float).reshape(-1, 4) for name, boxes in content.items()}


def with_boxes_of_run(splits: DataSplits, folder: Path) -> DataSplits:
    """Returns the sets of a run with the boxes that it was trained in, as far as its folder has found ones."""
    found = read_boxes(folder)
    return splits if found is None else with_found_boxes(splits, found)
