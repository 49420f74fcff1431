"""Merges several data sets into one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semipose.data.leakage import first_copies, image_paths
from semipose.errors import ConfigError
from semipose.structures.categories import Category
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import evaluated, is_evaluated
from semipose.structures.skeletons import describe_difference


@dataclass(frozen=True)
class MergedDataset:
    """Several data sets as one.

    Attributes:
        persons: The merged data set.
        replaced: Number of images whose labeled persons were replaced by those of a later set.
        kept: Number of images that a later set lists without labeled persons, so that those of an earlier set stay.
    """

    persons: PoseDataset
    replaced: int
    kept: int


def merge(datasets: Sequence[PoseDataset]) -> MergedDataset:
    """Merges data sets over the joints of the first; all ids are new and count from 1.

    Where several sets have labeled persons in an image (the same file, or a copy of it), those of the last set are
    used, so that corrected labels replace earlier ones. A set that lists an image without persons, with a crowd or with
    boxes without joints replaces nothing there. Persons get the category of the first set, or its member that has the
    name of their own category.

    Raises:
        ConfigError: If the sets have different joints.
    """
    first = datasets[0]
    for persons in datasets:
        _require_same_joints(persons, first)
    same = first_copies(map(image_paths, datasets))
    last_labeled: dict[Path, int] = {}
    last_listed: dict[Path, int] = {}
    files: dict[Path, Path] = {}
    for number, (persons, image_of) in enumerate(zip(datasets, same, strict=True)):
        for path, image in image_of.items():
            files.setdefault(image, path)
            last_listed[image] = number
        labeled = persons.instances.take(np.flatnonzero(evaluated(persons)))
        last_labeled |= {image_of[Path(path)]: number for path in set(labeled.paths)}
    image_ids = {image: number for number, image in enumerate(files, start=1)}
    merged: list[Instance] = []
    replaced = set()
    for number, (persons, image_of) in enumerate(zip(datasets, same, strict=True)):
        category_ids = _category_ids(persons.category, first.category)
        for person in persons.to_skeleton(first.skeleton).instances:
            image = image_of[person.image]
            if last_labeled.get(image, number) == number:
                merged.append(
                    replace(
                        person,
                        image=files[image],
                        image_id=image_ids[image],
                        annotation_id=len(merged) + 1,
                        category_id=category_ids.get(persons.category_id_of(person)),
                    )
                )
            elif is_evaluated(person):
                replaced.add(image)
    used = {person.image_id for person in merged}
    empty_images = tuple((image_id, files[image]) for image, image_id in image_ids.items() if image_id not in used)
    source = " + ".join(persons.source for persons in datasets)
    kept = sum(last_listed[image] > number for image, number in last_labeled.items())
    return MergedDataset(PoseDataset(first.skeleton, merged, source, empty_images, first.category), len(replaced), kept)


def _category_ids(own: Category, first: Category) -> dict[int | str, int | str | None]:
    """By id of a set's category the id of the first set's member of the same name; None if there is none."""
    by_name = {member.name: member.id for member in first.members}
    return {part.id: by_name.get(part.name) for part in own.parts}


def _require_same_joints(persons: PoseDataset, first: PoseDataset) -> None:
    if set(persons.skeleton.keys) != set(first.skeleton.keys):
        ours, theirs = (first.source, first.skeleton), (persons.source, persons.skeleton)
        raise ConfigError(f"different joints: {describe_difference(theirs, ours, 'skeleton')}")
