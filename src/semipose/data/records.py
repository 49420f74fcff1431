"""Person: one person box in one image, with or without joints; PersonSet: a data set of them over one skeleton."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semipose.skeletons import Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person instance.

    `box` is [x, y, width, height] in pixels as COCO has it. `joints` (K, 2) float64 in pixels, pixel centers at
    integers; `visibility` (K,) 0 unlabeled, 1 occluded, 2 visible; both None for a person without labels.
    `annotation_id` is negative for a box nobody annotated: a detection, or a whole image.
    `area` in square pixels (OKS scale). `score` is the detector's, 1 for annotated boxes. `head_size` in pixels where
    the data set measures one (PCKh).
    """

    image: Path
    image_id: int | str
    annotation_id: int
    box: tuple[float, float, float, float]
    joints: np.ndarray | None = None
    visibility: np.ndarray | None = None
    area: float = 0.0
    score: float = 1.0
    is_crowd: bool = False
    head_size: float | None = None

    @property
    def labeled(self) -> bool:
        """Whether at least one joint is labeled."""
        return self.visibility is not None and bool((self.visibility > 0).any())

    def without_labels(self) -> "Person":
        """The same box with nothing known of its joints."""
        return replace(self, joints=None, visibility=None)


@dataclass(frozen=True, slots=True)
class PersonSet:
    """Persons of one data set in a fixed order. `source` names the file or folder for messages and run records.

    `empty` holds the images (id, path) of the set that show nobody: a detector's boxes there count against it.
    """

    skeleton: Skeleton
    persons: tuple[Person, ...]
    source: str
    empty: tuple[tuple[int | str, Path], ...] = ()

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, index: int) -> Person:
        return self.persons[index]

    def subset(self, indices: Iterable[int]) -> "PersonSet":
        """The persons at `indices`, in that order."""
        return PersonSet(self.skeleton, tuple(self.persons[int(i)] for i in indices), self.source)

    def without_labels(self) -> "PersonSet":
        """Every box of the set, joints removed."""
        return PersonSet(self.skeleton, tuple(p.without_labels() for p in self.persons), self.source)

    def mapped(self, skeleton: Skeleton) -> "PersonSet":
        """The same persons over another skeleton, joint by name: what this set lacks is unlabeled there."""
        if skeleton.joints == self.skeleton.joints:
            return self
        here = [self.skeleton.joints.index(j) if j in self.skeleton.joints else -1 for j in skeleton.joints]
        known = np.array(here) >= 0
        persons = []
        for person in self.persons:
            if person.joints is not None and person.visibility is not None:
                visibility = np.where(known, person.visibility[here], 0).astype(np.int8)
                joints = person.joints[here] * (visibility > 0)[:, None]
                person = replace(person, joints=joints, visibility=visibility)
            persons.append(person)
        return PersonSet(skeleton, tuple(persons), self.source, self.empty)

    def joined(self, other: "PersonSet") -> "PersonSet":
        """Both sets one after the other; the skeleton stays this one's."""
        return PersonSet(self.skeleton, self.persons + other.persons, f"{self.source} + {other.source}")
