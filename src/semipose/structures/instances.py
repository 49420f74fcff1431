"""Person: one person box in one image, with or without joints; Persons: many in columns; PersonSet: a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np

from semipose.errors import DataError
from semipose.structures.skeletons import Skeleton

CHUNK = 4096
"""So many persons are objects at a time while columns are made of them."""
AREA_OF_BOX = 0.53
"""Area of a person relative to its box (the usual estimate where a data set has no outlines, as in MPII and LSP)."""


def estimate_area(box: Sequence[float]) -> float:
    """Returns the estimated area of a person in square pixels, from its box [x, y, width, height]."""
    return box[2] * box[3] * AREA_OF_BOX


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
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

    def without_labels(self) -> "Instance":
        """The same box with nothing known of its joints."""
        return replace(self, joints=None, visibility=None)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instances(Sequence[Instance]):
    """N persons over K joints as one array a field; a `Person` is made when one is asked for.

    `images`: (id, path) of each photograph they are in; `image` (N,) points to it. `joints` (N, K, 2) are float32 where
    that holds every coordinate exactly, float64 otherwise; `joints` and `visibility` (N, K) are zero where `posed`
    (N,) is false: nothing is known of these joints. `head_sizes` (N,) is NaN where none was measured.
    """

    images: tuple[tuple[int | str, str], ...]
    image: np.ndarray
    annotation_ids: np.ndarray
    boxes: np.ndarray
    joints: np.ndarray
    visibility: np.ndarray
    annotated: np.ndarray
    areas: np.ndarray
    scores: np.ndarray
    crowds: np.ndarray
    head_sizes: np.ndarray

    @classmethod
    def of(cls, persons: Iterable[Instance], k: int) -> "Instances":
        """Columns of persons with `k` joints each; of an iterator no more than `CHUNK` are in memory at a time."""
        table: dict[tuple[int | str, str], int] = {}
        rest = iter(persons)
        parts = [_columns([], k, table)]
        while chunk := list(islice(rest, CHUNK)):
            parts.append(_columns(chunk, k, table))
        # Column by column: what was put together goes away before the next.
        columns = [np.concatenate([part.pop(0) for part in parts]) for _ in range(len(parts[0]))]
        return cls(tuple(table), *columns)

    def __len__(self) -> int:
        return len(self.image)

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> "Instances": ...
    def __getitem__(self, index: int | slice) -> "Instance | Instances":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        image_id, path = self.images[self.image[index]]
        annotated, head = self.annotated[index], float(self.head_sizes[index])
        x, y, width, height = self.boxes[index].tolist()
        return Instance(
            image=Path(path),
            image_id=image_id,
            annotation_id=int(self.annotation_ids[index]),
            box=(x, y, width, height),
            joints=self.joints[index].astype(np.float64) if annotated else None,
            visibility=self.visibility[index].copy() if annotated else None,
            area=float(self.areas[index]),
            score=float(self.scores[index]),
            is_crowd=bool(self.crowds[index]),
            head_size=None if np.isnan(head) else head,
        )

    @property
    def labeled(self) -> np.ndarray:
        """(N,) whether at least one joint is labeled."""
        return np.any(self.visibility > 0, axis=1)

    @property
    def usable(self) -> np.ndarray:
        """(N,) whether the image can serve, with labels or without: no crowd, a box with an area."""
        return (self.boxes[:, 2] > 0) & (self.boxes[:, 3] > 0) & ~self.crowds

    @property
    def trainable(self) -> np.ndarray:
        """(N,) whether one can learn from the person: usable, and at least one joint is labeled."""
        return self.usable & self.labeled

    @property
    def image_ids(self) -> list[int | str]:
        """Person by person."""
        return [self.images[i][0] for i in self.image.tolist()]

    @property
    def paths(self) -> list[str]:
        """The photograph of each person."""
        return [self.images[i][1] for i in self.image.tolist()]

    def take(self, indices: Iterable[int]) -> "Instances":
        """The persons at `indices`, in that order."""
        chosen = np.array(list(indices), dtype=np.int64)
        shown, image = np.unique(self.image[chosen], return_inverse=True)
        others = (getattr(self, name)[chosen] for name in _COLUMNS[1:])
        return Instances(tuple(self.images[i] for i in shown), image.astype(np.int32), *others)

    def concat(self, other: "Instances") -> "Instances":
        """Both, one after the other."""
        moved = replace(other, image=other.image + len(self.images))
        columns = (np.concatenate([getattr(self, name), getattr(moved, name)]) for name in _COLUMNS)
        return Instances(self.images + other.images, *columns)


_COLUMNS = tuple(f.name for f in fields(Instances) if f.name != "images")


def _columns(persons: list[Instance], k: int, table: dict[tuple[int | str, str], int]) -> list[np.ndarray]:
    """The arrays of `Persons`, in its order; new photographs are added to `table`."""
    n = len(persons)
    annotated = [p.joints is not None and p.visibility is not None for p in persons]
    nowhere, unseen = np.zeros((k, 2)), np.zeros(k, np.int8)
    joints = [p.joints if known else nowhere for p, known in zip(persons, annotated, strict=True)]
    visibility = [p.visibility if known else unseen for p, known in zip(persons, annotated, strict=True)]
    return [
        np.array([table.setdefault((p.image_id, str(p.image)), len(table)) for p in persons], np.int32),
        _whole_numbers([p.annotation_id for p in persons]),
        np.array([p.box for p in persons], np.float64).reshape(n, 4),
        _smallest(np.array(joints, np.float64).reshape(n, k, 2)),
        np.array(visibility, np.int8).reshape(n, k),
        np.array(annotated, bool),
        np.array([p.area for p in persons], np.float64),
        np.array([p.score for p in persons], np.float64),
        np.array([p.is_crowd for p in persons], bool),
        np.array([np.nan if p.head_size is None else p.head_size for p in persons], np.float64),
    ]


def _smallest(values: np.ndarray) -> np.ndarray:
    """float32 where it holds every value exactly (whole and quarter pixels do), else the float64 given."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if (single == values).all() else values


def _whole_numbers(values: list[int]) -> np.ndarray:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, object)  # a file may hold any number


@dataclass(frozen=True, slots=True, init=False)
class PoseDataset:
    """Persons of one data set in a fixed order. `source` names the file or folder for messages and run records.

    `empty` holds the images (id, path) of the set that show nobody: a detector's boxes there count against it.
    """

    skeleton: Skeleton
    instances: Instances
    source: str
    empty: tuple[tuple[int | str, Path], ...]

    def __init__(
        self,
        skeleton: Skeleton,
        persons: Iterable[Instance],
        source: str,
        empty: tuple[tuple[int | str, Path], ...] = (),
    ) -> None:
        columns = persons if isinstance(persons, Instances) else Instances.of(persons, len(skeleton))
        for name, value in (("skeleton", skeleton), ("instances", columns), ("source", source), ("empty", empty)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def image_paths(self) -> dict[int | str, Path]:
        """Every photograph by its id, those that show nobody last."""
        return {identity: Path(path) for identity, path in self.instances.images} | dict(self.empty)

    def __getitem__(self, index: int) -> Instance:
        return self.instances[index]

    def subset(self, indices: Iterable[int]) -> "PoseDataset":
        """The persons at `indices`, in that order."""
        return PoseDataset(self.skeleton, self.instances.take(indices), self.source)

    def usable(self) -> "PoseDataset":
        """The persons whose image can be used, with labels or without: no crowd, a box with an area."""
        return self.subset(np.flatnonzero(self.instances.usable))

    def trainable(self) -> "PoseDataset":
        """The usable persons with at least one labeled joint; raises DataError if there are none."""
        chosen = np.flatnonzero(self.instances.trainable)
        if not len(chosen):
            raise DataError(f"{self.source} has no person with a labeled keypoint; label some first")
        return self.subset(chosen)

    def without_labels(self) -> "PoseDataset":
        """Every box of the set, joints removed."""
        n, k = self.instances.visibility.shape
        instances = replace(
            self.instances,
            joints=np.broadcast_to(np.float32(0), (n, k, 2)),  # takes no memory
            visibility=np.broadcast_to(np.int8(0), (n, k)),
            annotated=np.zeros(n, bool),
        )
        return PoseDataset(self.skeleton, instances, self.source)

    def mapped(self, skeleton: Skeleton) -> "PoseDataset":
        """The same persons over another skeleton, joint by name: what this set lacks is unlabeled there."""
        if skeleton.joints == self.skeleton.joints:
            return self
        here = [self.skeleton.joints.index(j) if j in self.skeleton.joints else -1 for j in skeleton.joints]
        visibility = self.instances.visibility[:, here] * (np.array(here) >= 0)
        joints = self.instances.joints[:, here] * (visibility > 0)[..., None]
        instances = replace(self.instances, joints=joints, visibility=visibility)
        return PoseDataset(skeleton, instances, self.source, self.empty)

    def concat(self, other: "PoseDataset") -> "PoseDataset":
        """Both sets one after the other, over the skeleton of this one."""
        persons = self.instances.concat(other.mapped(self.skeleton).instances)
        return PoseDataset(self.skeleton, persons, f"{self.source} + {other.source}")
