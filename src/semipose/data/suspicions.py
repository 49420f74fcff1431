"""Labels and images that can be used but are probably wrong, such as joints outside of their image."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from semipose.data.formats.json_files import read_json
from semipose.data.formats.registry import FORMATS
from semipose.data.formats.values import is_id, is_number
from semipose.data.images import ImageSize
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset
from semipose.utils.text import plural

log = logging.getLogger(__name__)

MOST_OF = 5
"""Least number of persons from which is concluded that boxes or coordinates of a set have another meaning."""

OUTSIDE_PERCENT = 10
"""Labels may be outside of the image by this share of its size."""


@dataclass(frozen=True)
class Suspicion:
    """Something that can be used but is probably wrong, such as a joint outside of its image.

    Attributes:
        kind: What is counted, in the plural.
        line: The image or annotation and what is wrong, in one line.
        count: Number of images or persons that it concerns.
    """

    kind: str
    line: str
    count: int = 1


def suspicious_labels(
    persons: PoseDataset, sizes: Mapping[Path, ImageSize], digests: Mapping[Path, str] | None = None
) -> list[Suspicion]:
    """Finds labels and images that can be used but are probably wrong.

    Args:
        persons: The data set.
        sizes: The sizes of its images, as far as known.
        digests: Digests of the contents of its images, as far as known; without them only one file that occurs under
            two ids is a duplicate.
    """
    recorded = _recorded_sizes(Path(persons.source))
    found = [*_duplicate_images(persons, digests or {}), *_suspicious_images(persons, sizes, recorded)]
    if not len(persons):
        return found
    labels = _Labels.of(persons, sizes, recorded)
    return [*found, *labels.of_the_set(), *labels.of_persons(), *_duplicate_persons(persons)]


def describe_suspicions(found: Sequence[Suspicion]) -> str:
    """Returns the number of suspicions of each kind in one line; "" if there are none."""
    counts: Counter[str] = Counter()
    for suspicion in found:
        counts[suspicion.kind] += suspicion.count
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items())


def log_suspicions(source: str, found: Sequence[Suspicion]) -> None:
    """Logs the suspicions of a data set in one line."""
    if found:
        log.warning(
            "%s is suspicious (%s); a data check that decodes the images lists all", source, describe_suspicions(found)
        )


@dataclass(frozen=True)
class _Labels:
    """What the checks of labels share; K joints of N persons that are no crowds.

    Attributes:
        ids: (N,) annotation ids.
        images: The N file names of the images.
        names: The K names.
        boxes: (N, 4).
        own_box: (N,) whether the box was annotated and has an area.
        joints: (N, K, 2).
        at_origin: (N, K) whether a labeled joint is at (0, 0).
        labeled: (N, K) whether a joint is labeled elsewhere.
        ends: (N, 2) width and height of the image, NaN where unknown.
        shares: (N,) whether all coordinates are at most 1.
    """

    ids: np.ndarray
    images: list[str]
    names: tuple[str, ...]
    boxes: np.ndarray
    own_box: np.ndarray
    joints: np.ndarray
    at_origin: np.ndarray
    labeled: np.ndarray
    ends: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(
        cls,
        persons: PoseDataset,
        sizes: Mapping[Path, ImageSize],
        recorded: Mapping[int | str, tuple[float, float]],
    ) -> "_Labels":
        instances = persons.instances.take(np.flatnonzero(~persons.instances.is_crowd))
        known = [sizes.get(Path(path), recorded.get(image_id)) for image_id, path in instances.images]
        ends = np.array([(np.nan, np.nan) if size is None else size[:2] for size in known], float).reshape(-1, 2)
        joints = instances.joints.astype(np.float64)
        labeled = instances.visibility > 0
        at_origin = labeled & (joints == 0).all(axis=2)
        labeled = labeled & ~at_origin
        share = OUTSIDE_PERCENT / 100
        small = np.where(labeled[..., None], (joints >= -share) & (joints <= 1 + share), True).all(axis=(1, 2))
        fractional = (np.where(labeled[..., None], joints, 0) % 1 != 0).any(axis=(1, 2))
        return cls(
            ids=instances.annotation_ids,
            images=[Path(path).name for path in instances.paths],
            names=persons.skeleton.joints,
            boxes=instances.boxes,
            own_box=instances.usable & ~instances.box_from_labels,
            joints=joints,
            at_origin=at_origin,
            labeled=labeled,
            ends=ends[instances.image_index],
            shares=small & fractional,
        )

    def of_the_set(self) -> Iterator[Suspicion]:
        """Suspicions of a wrong unit or a wrong kind of box, which concern most persons."""
        if count := int(self.shares.sum()):
            yield Suspicion(
                "persons with coordinates of at most 1",
                f"{plural(count, 'person')} with coordinates of at most 1, the first: annotation "
                f"{self.ids[self.shares][0]}; labels are pixels, not shares of the image",
                count,
            )
        if self._is_percent():
            yield Suspicion(
                "persons with coordinates of at most 100",
                "no coordinate is above 100, although images are larger; labels are pixels, not percent",
                len(self.ids),
            )
        for reading, count in (("corners", self._as_corners()), ("centers", self._as_centers())):
            if count:
                second = "[x1, y1, x2, y2]" if reading == "corners" else "[center x, center y, width, height]"
                yield Suspicion(
                    f"boxes that seem to be {reading}",
                    f"the joints of {plural(count, 'person')} fit a box {second}; boxes are [x, y, width, height]",
                    count,
                )

    def of_persons(self) -> Iterator[Suspicion]:
        """Suspicions of single persons, in the order of the persons."""
        width, height = self.boxes[:, 2:].T
        low, high = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
        inside_image = np.clip(np.minimum(high, self.ends) - np.maximum(low, 0), 0, None).prod(axis=1)
        beyond = self.own_box & (inside_image < width * height / 2)
        off_image = ((self.joints < -0.5) | (self.joints > self.ends[:, None] - 0.5)).any(axis=2) & self.labeled
        off_box = self._outside(low, high, 1.0) & self.own_box[:, None] & ~self.shares[:, None]
        far = off_box & self._outside(low, high, 0.5 * np.maximum(width, height)[:, None, None])
        if self._as_centers():
            far[:], off_box[:] = False, False
        strange = far.any(axis=1) | (2 * off_box.sum(axis=1) > np.maximum(self.labeled.sum(axis=1), 1))
        for i in np.flatnonzero(beyond | strange | off_image.any(axis=1) | self.at_origin.any(axis=1)).tolist():
            where = f"annotation {self.ids[i]} ({self.images[i]})"
            box = [round(v) for v in self.boxes[i].tolist()]
            image = "" if np.isnan(self.ends[i, 0]) else f"its image of {self.ends[i, 0]:.0f}×{self.ends[i, 1]:.0f}"
            if self.at_origin[i].any():
                names = ", ".join(np.array(self.names)[self.at_origin[i]])
                line = f"{where}: {names} labeled at (0, 0); a joint without label has visibility 0"
                yield Suspicion("persons with joints at (0, 0)", line)
            if beyond[i]:
                yield Suspicion("boxes outside of their image", f"{where}: most of box {box} is outside {image}")
            if off_image[i].any():
                line = f"{where}: {self._positions(i, off_image[i])} outside {image}"
                yield Suspicion("persons with joints outside of their image", line)
            if strange[i]:
                line = f"{where}: {self._positions(i, off_box[i])} outside its box {box}"
                yield Suspicion("persons with joints outside of their box", line)

    def _positions(self, person: int, chosen: np.ndarray) -> str:
        positions = zip(self.names, self.joints[person], chosen, strict=True)
        return ", ".join(f"{name} ({x:.0f}, {y:.0f})" for name, (x, y), is_chosen in positions if is_chosen)

    def _outside(self, low: np.ndarray, high: np.ndarray, tolerance: float | np.ndarray) -> np.ndarray:
        """(N, K) whether a labeled joint is outside of the area from `low` to `high`, (N, 2) each."""
        beyond = np.maximum(low[:, None] - self.joints, self.joints - high[:, None])
        return (beyond > tolerance).any(axis=2) & self.labeled

    def _is_percent(self) -> bool:
        """Whether no joint or box in a larger image is beyond 100, but for joints a little outside of the image."""
        large = (self.ends > 100 + OUTSIDE_PERCENT).all(axis=1) & ~self.shares & self.labeled.any(axis=1)
        if large.sum() < max(MOST_OF, len(large) / 2):
            return False
        corners = (self.boxes[large, :2] + self.boxes[large, 2:]).ravel()
        values = np.concatenate([self.joints[large][self.labeled[large]].ravel(), corners])
        return bool(values.min() >= -OUTSIDE_PERCENT and 1 < values.max() <= 100 + OUTSIDE_PERCENT)

    def _as_corners(self) -> int:
        """Number of persons whose joints fit their box as corners, if nearly all do and the box would be smaller."""
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        smaller = (np.clip(high - low, 0, None).prod(axis=1) < 0.8 * high.prod(axis=1)) & self._comparable
        fits = smaller & (high > low).all(axis=1) & ~self._outside(low, high, 1.0).any(axis=1)
        return int(fits.sum()) if smaller.sum() >= MOST_OF and fits.sum() >= 0.9 * smaller.sum() else 0

    def _as_centers(self) -> int:
        """Number of persons whose joints fit their box around its center only, if most do."""
        position, size = self.boxes[:, :2], self.boxes[:, 2:]
        inside = ~self._outside(position - size / 2, position + size / 2, 1.0).any(axis=1)
        fits = self._comparable & inside & self._outside(position, position + size, 1.0).any(axis=1)
        return int(fits.sum()) if self._comparable.sum() >= MOST_OF and fits.sum() > self._comparable.sum() / 2 else 0

    @property
    def _comparable(self) -> np.ndarray:
        """(N,) whether box and joints can be compared."""
        return self.own_box & (self.labeled.sum(axis=1) > 1) & ~self.shares


def _suspicious_images(
    persons: PoseDataset,
    sizes: Mapping[Path, ImageSize],
    recorded: Mapping[int | str, tuple[float, float]],
) -> Iterator[Suspicion]:
    source = Path(persons.source)
    is_upright = any(known.is_upright and known.matches(source) for known in FORMATS.values())
    for image_id, path in persons.image_paths.items():
        if path not in sizes:
            continue
        width, height, has_orientation = sizes[path]
        if recorded.get(image_id, (width, height)) != (width, height):
            stated = "{}×{}".format(*recorded[image_id])
            yield Suspicion(
                "images of another size than recorded",
                f"image {image_id} is {width}×{height} pixels, but {stated} in its record; were joints labeled on "
                "another version?",
            )
        if has_orientation and not is_upright:
            yield Suspicion(
                "images with an EXIF orientation",
                f"image {image_id} has an EXIF orientation, which is not applied; were joints labeled on the stored "
                "pixels?",
            )


def _duplicate_images(persons: PoseDataset, digests: Mapping[Path, str]) -> Iterator[Suspicion]:
    groups: dict[str, list[str]] = defaultdict(list)
    for image_id, path in persons.image_paths.items():
        groups[digests.get(path, str(path))].append(f"{image_id} ({path.name})")
    for images in groups.values():
        if len(images) > 1:
            line = f"images {', '.join(images)} have the same content"
            yield Suspicion("images that occur again", line, len(images) - 1)


def _duplicate_persons(persons: PoseDataset) -> Iterator[Suspicion]:
    """Persons whose labeled joints are where those of another person in the same image are."""
    instances = persons.instances
    chosen = np.flatnonzero(instances.labeled & ~instances.is_crowd)
    chosen = chosen[np.argsort(instances.image_index[chosen], kind="stable")]
    found: set[int] = set()
    for distance in range(1, len(chosen)):
        first, second = chosen[:-distance], chosen[distance:]
        same = instances.image_index[first] == instances.image_index[second]
        if not same.any():
            break
        first, second = first[same], second[same]
        labeled = (instances.visibility[first] > 0) & (instances.visibility[second] > 0)
        offsets = np.abs(instances.joints[first] - instances.joints[second]).max(axis=2)
        tolerance = 1 + 0.02 * instances.boxes[first, 2:].max(axis=1)
        near = labeled.any(axis=1) & (np.where(labeled, offsets, 0).max(axis=1) <= tolerance)
        for a, b in zip(first[near].tolist(), second[near].tolist(), strict=True):
            if b not in found:
                found.add(b)
                ids = f"{instances.annotation_ids[a]} and {instances.annotation_ids[b]}"
                yield Suspicion("persons annotated again", f"annotations {ids} are the same person")


class _Record(TypedDict, total=False):
    id: Any
    width: Any
    height: Any


class _Records(TypedDict, total=False):
    images: list[_Record]


def _recorded_sizes(path: Path) -> dict[int | str, tuple[int, int]]:
    """Width and height of images by id, as a COCO file records them; empty for other files."""
    try:
        content = read_json(path, "annotation file", _Records)
    except DataError:
        return {}
    records = content.get("images") if isinstance(content, dict) else None  # other formats are lists
    if not isinstance(records, list):
        return {}
    sizes: dict[Any, list[Any]] = {
        r["id"]: [r.get("width"), r.get("height")] for r in records if isinstance(r, dict) and is_id(r.get("id"))
    }
    return {i: (w, h) for i, (w, h) in sizes.items() if is_number(w) and is_number(h) and w > 0 and h > 0}
