"""Person instances: `Instance` is one person, `Instances` many as columns, `PoseDataset` a data set of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np

from semipose.errors import DataError
from semipose.structures.categories import PERSON, Category
from semipose.structures.skeletons import Skeleton
from semipose.utils.text import plural

CHUNK_SIZE = 4096
"""Number of `Instance` objects that exist at a time while columns are built from an iterator."""
AREA_OF_BOX = 0.53
"""Area of a person relative to its box (the usual estimate where a data set has no outlines, as in MPII and LSP)."""


def estimate_area(box: Sequence[float]) -> float:
    """Returns the estimated area of a person in square pixels, from its box [x, y, width, height]."""
    return box[2] * box[3] * AREA_OF_BOX


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One person in one image, with or without labeled joints.

    Attributes:
        image: Path of the image.
        image_id: Id of the image as in the annotation file.
        annotation_id: Id of the annotation; negative for a box that was not annotated (a detection or a whole image).
        box: x, y, width and height in pixels, as in COCO.
        joints: (K, 2) float64 in pixels, pixel centers at integers; None without labels.
        visibility: (K,) 0 unlabeled, 1 occluded, 2 visible, as in COCO; None without labels.
        area: Area of the person in square pixels, the scale of OKS.
        score: Score of the detector, 1 for annotated boxes.
        is_crowd: Whether the box holds a group of persons.
        head_size: Length in pixels that normalizes PCKh, where the data set gives one.
        box_from_labels: Whether the box is the extent of the labeled joints, because the data set gives none.
        category_id: Id of the person's own category, where the data set has several; None for the data set's.
        individual: Name of the animal or person, the same in all images, where the data set gives one.
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
    box_from_labels: bool = False
    category_id: int | str | None = None
    individual: str | None = None

    @property
    def labeled(self) -> bool:
        """Whether at least one joint is labeled."""
        return self.visibility is not None and bool((self.visibility > 0).any())

    def without_labels(self) -> "Instance":
        """Returns the same person without joints."""
        return replace(self, joints=None, visibility=None)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instances(Sequence[Instance]):
    """N persons with K joints each, one array per field; indexing builds an `Instance`.

    Attributes:
        images: (id, path) of each image that shows at least one of the persons.
        image_index: (N,) index into `images`.
        annotation_ids: (N,) integers; of dtype object where a number does not fit 64 bits.
        boxes: (N, 4) x, y, width and height in pixels.
        joints: (N, K, 2) in pixels; float32 where that holds every coordinate exactly, else float64.
        visibility: (N, K) 0 unlabeled, 1 occluded, 2 visible.
        annotated: (N,) whether joints and visibility are known; both are zero where they are not.
        areas: (N,) in square pixels.
        scores: (N,) scores of a detector, 1 for annotated boxes.
        is_crowd: (N,) whether the box holds a group of persons.
        head_sizes: (N,) in pixels, NaN where the data set gives none.
        box_from_labels: (N,) whether the box is the extent of the labeled joints.
        category_ids: (N,) ids of the persons' own categories, None where that is the data set's.
        individuals: (N,) names of the animals or persons, None where the data set gives none.
    """

    images: tuple[tuple[int | str, str], ...]
    image_index: np.ndarray
    annotation_ids: np.ndarray
    boxes: np.ndarray
    joints: np.ndarray
    visibility: np.ndarray
    annotated: np.ndarray
    areas: np.ndarray
    scores: np.ndarray
    is_crowd: np.ndarray
    head_sizes: np.ndarray
    box_from_labels: np.ndarray
    category_ids: np.ndarray
    individuals: np.ndarray

    @classmethod
    def from_instances(cls, instances: Iterable[Instance], num_joints: int) -> "Instances":
        """Builds the columns of persons with `num_joints` joints each, `CHUNK_SIZE` of an iterator at a time."""
        image_numbers: dict[tuple[int | str, str], int] = {}
        remaining = iter(instances)
        parts = [_columns([], num_joints, image_numbers)]
        while chunk := list(islice(remaining, CHUNK_SIZE)):
            parts.append(_columns(chunk, num_joints, image_numbers))
        # One column at a time, so that the memory of its parts is free before the next is joined.
        columns = [np.concatenate([part.pop(0) for part in parts]) for _ in range(len(parts[0]))]
        return cls(tuple(image_numbers), *columns)

    def __len__(self) -> int:
        return len(self.image_index)

    def __repr__(self) -> str:
        persons, images = plural(len(self), "person"), plural(len(self.images), "image")
        return f"Instances({persons} in {images}, {int(self.labeled.sum())} labeled, {self.joints.shape[1]} joints)"

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> "Instances": ...
    def __getitem__(self, index: int | slice) -> "Instance | Instances":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        image_id, path = self.images[self.image_index[index]]
        annotated, head_size = self.annotated[index], float(self.head_sizes[index])
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
            is_crowd=bool(self.is_crowd[index]),
            head_size=None if np.isnan(head_size) else head_size,
            box_from_labels=bool(self.box_from_labels[index]),
            category_id=self.category_ids[index],
            individual=self.individuals[index],
        )

    @property
    def labeled(self) -> np.ndarray:
        """(N,) whether at least one joint is labeled."""
        return np.any(self.visibility > 0, axis=1)

    @property
    def labeled_joints(self) -> np.ndarray:
        """(K,) whether at least one person has the joint labeled."""
        return np.any(self.visibility > 0, axis=0)

    @property
    def usable(self) -> np.ndarray:
        """(N,) whether a crop can be made: the box has an area and holds one person."""
        return (self.boxes[:, 2] > 0) & (self.boxes[:, 3] > 0) & ~self.is_crowd

    @property
    def trainable(self) -> np.ndarray:
        """(N,) whether the person can be a labeled example: usable and at least one joint labeled."""
        return self.usable & self.labeled

    @property
    def image_ids(self) -> list[int | str]:
        """Id of each person's image."""
        return [self.images[i][0] for i in self.image_index.tolist()]

    @property
    def paths(self) -> list[str]:
        """Path of each person's image."""
        return [self.images[i][1] for i in self.image_index.tolist()]

    def take(self, indices: Iterable[int]) -> "Instances":
        """Returns the persons at `indices`, in that order, and the images that show them."""
        selected = np.fromiter(indices, np.int64)
        kept, image_index = np.unique(self.image_index[selected], return_inverse=True)
        others = (getattr(self, name)[selected] for name in _COLUMNS[1:])
        return Instances(tuple(self.images[i] for i in kept), image_index.astype(np.int32), *others)

    def concat(self, other: "Instances") -> "Instances":
        """Returns these persons followed by the `other` ones."""
        other = replace(other, image_index=other.image_index + len(self.images))
        columns = (np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS)
        return Instances(self.images + other.images, *columns)


_COLUMNS = tuple(f.name for f in fields(Instances) if f.name != "images")


def _columns(
    instances: list[Instance], num_joints: int, image_numbers: dict[tuple[int | str, str], int]
) -> list[np.ndarray]:
    """Returns the arrays in the order of `_COLUMNS`; new images are added to `image_numbers`."""
    n = len(instances)
    annotated = [p.joints is not None and p.visibility is not None for p in instances]
    no_joints, no_visibility = np.zeros((num_joints, 2)), np.zeros(num_joints, np.int8)
    joints = [p.joints if known else no_joints for p, known in zip(instances, annotated, strict=True)]
    visibility = [p.visibility if known else no_visibility for p, known in zip(instances, annotated, strict=True)]
    return [
        np.array(
            [image_numbers.setdefault((p.image_id, str(p.image)), len(image_numbers)) for p in instances], np.int32
        ),
        _integers([p.annotation_id for p in instances]),
        np.array([p.box for p in instances], np.float64).reshape(n, 4),
        _float32_if_exact(np.array(joints, np.float64).reshape(n, num_joints, 2)),
        np.array(visibility, np.int8).reshape(n, num_joints),
        np.array(annotated, bool),
        np.array([p.area for p in instances], np.float64),
        np.array([p.score for p in instances], np.float64),
        np.array([p.is_crowd for p in instances], bool),
        np.array([np.nan if p.head_size is None else p.head_size for p in instances], np.float64),
        np.array([p.box_from_labels for p in instances], bool),
        np.array([p.category_id for p in instances], object),
        np.array([p.individual for p in instances], object),
    ]


def _float32_if_exact(values: np.ndarray) -> np.ndarray:
    """Whole and quarter pixels fit float32 and take half the memory."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if (single == values).all() else values


def _integers(values: list[int]) -> np.ndarray:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, object)  # JSON allows integers of any size


@dataclass(frozen=True, slots=True, init=False, repr=False)
class PoseDataset:
    """The persons of one data set in a fixed order.

    Attributes:
        skeleton: The K joints.
        instances: The N persons.
        source: Name of the file or folder, for messages and run records.
        empty_images: (id, path) of the images that show no person; a detection there is a false positive.
        category: The category of the persons, which can be animals or things.
        left_out: By reason, the number of records of the file that are not among the persons; broken ones excluded.
    """

    skeleton: Skeleton
    instances: Instances
    source: str
    empty_images: tuple[tuple[int | str, Path], ...]
    category: Category
    left_out: Mapping[str, int]

    def __init__(
        self,
        skeleton: Skeleton,
        instances: Iterable[Instance],
        source: str,
        empty_images: tuple[tuple[int | str, Path], ...] = (),
        category: Category = PERSON,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        if not isinstance(instances, Instances):
            instances = Instances.from_instances(instances, len(skeleton))
        values = {
            "skeleton": skeleton,
            "instances": instances,
            "source": source,
            "empty_images": empty_images,
            "category": category,
            "left_out": dict(left_out or {}),
        }
        for name, value in values.items():  # the only way to set the fields of a frozen dataclass
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        persons, images = plural(len(self), "person"), plural(len(self.image_paths), "image")
        labeled = int(self.instances.labeled.sum())
        return (
            f"PoseDataset({self.source!r}: {persons} in {images}, {labeled} labeled, skeleton {self.skeleton.name!r})"
        )

    @property
    def boxes_from_labels(self) -> int:
        """Number of persons whose box is the extent of their labeled joints."""
        return int(self.instances.box_from_labels.sum())

    @property
    def unlabeled_joints(self) -> tuple[str, ...]:
        """Names of the joints that no person has labeled; none if there are no labels at all."""
        found = self.instances.labeled_joints
        return tuple(j for j, known in zip(self.skeleton.joints, found, strict=True) if not known and found.any())

    @property
    def image_paths(self) -> dict[int | str, Path]:
        """Path of every image by its id, the empty images last."""
        return {image_id: Path(path) for image_id, path in self.instances.images} | dict(self.empty_images)

    def __getitem__(self, index: int) -> Instance:
        return self.instances[index]

    def category_id_of(self, person: Instance) -> int | str:
        """Returns the id of a person's own category."""
        return self.category.id if person.category_id is None else person.category_id

    def subset(self, indices: Iterable[int]) -> "PoseDataset":
        """Returns the persons at `indices`, in that order."""
        return PoseDataset(self.skeleton, self.instances.take(indices), self.source, category=self.category)

    def with_category(self, category: Category) -> "PoseDataset":
        """Returns the same persons as those of another category."""
        return PoseDataset(self.skeleton, self.instances, self.source, self.empty_images, category, self.left_out)

    def with_boxes(self, boxes: np.ndarray, *, from_labels: bool = False) -> "PoseDataset":
        """Returns the same persons with other boxes (N, 4), which come from their labels or not."""
        instances = replace(self.instances, boxes=boxes, box_from_labels=np.full(len(self), from_labels))
        return PoseDataset(self.skeleton, instances, self.source, self.empty_images, self.category, self.left_out)

    def usable(self) -> "PoseDataset":
        """Returns the persons whose image can be used, with labels or without: no crowd, a box with an area."""
        return self.subset(np.flatnonzero(self.instances.usable))

    def trainable(self) -> "PoseDataset":
        """Returns the usable persons with at least one labeled joint; raises DataError if there are none."""
        chosen = np.flatnonzero(self.instances.trainable)
        if not len(chosen) and self.instances.labeled.any():
            raise DataError(f"{self.source} has no person with labeled keypoints and a box; add a 'bbox' with an area")
        if not len(chosen):
            raise DataError(f"{self.source} has no person with a labeled keypoint; label some first")
        return self.subset(chosen)

    def without_labels(self) -> "PoseDataset":
        """Returns the persons with their boxes and without joints."""
        n, k = self.instances.visibility.shape
        instances = replace(
            self.instances,
            joints=np.broadcast_to(np.float32(0), (n, k, 2)),  # takes no memory
            visibility=np.broadcast_to(np.int8(0), (n, k)),
            annotated=np.zeros(n, bool),
        )
        return PoseDataset(self.skeleton, instances, self.source, category=self.category)

    def without_joints(self, joints: Collection[str]) -> "PoseDataset":
        """Returns the persons without labels of the joints of these names."""
        kept = np.array([joint not in joints for joint in self.skeleton.joints])
        visibility = self.instances.visibility * kept
        if (visibility == self.instances.visibility).all():
            return self
        instances = replace(
            self.instances, visibility=visibility, joints=self.instances.joints * (visibility > 0)[..., None]
        )
        return PoseDataset(self.skeleton, instances, self.source, self.empty_images, self.category, self.left_out)

    def to_skeleton(self, skeleton: Skeleton) -> "PoseDataset":
        """Returns the persons with another skeleton, whose joints are matched by name; missing joints are unlabeled.

        Joints match whose names differ only in spelling or in the place of their side, such as `frontLeftPaw` and
        `left_front_paw`.
        """
        if skeleton == self.skeleton:
            return self
        own = self.skeleton.keys
        if skeleton.keys == own:
            return PoseDataset(skeleton, self.instances, self.source, self.empty_images, self.category, self.left_out)
        sources = [own.index(key) if key in own else -1 for key in skeleton.keys]
        visibility = self.instances.visibility[:, sources] * (np.array(sources) >= 0)
        joints = self.instances.joints[:, sources] * (visibility > 0)[..., None]
        instances = replace(self.instances, joints=joints, visibility=visibility)
        return PoseDataset(skeleton, instances, self.source, self.empty_images, self.category, self.left_out)

    def concat(self, other: "PoseDataset") -> "PoseDataset":
        """Returns the persons of both sets with the skeleton of this one."""
        instances = self.instances.concat(other.to_skeleton(self.skeleton).instances)
        return PoseDataset(self.skeleton, instances, f"{self.source} + {other.source}", category=self.category)
