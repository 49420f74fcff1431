"""How the boxes of a data set were made, and how large they are in their images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from semipose.structures.instances import Instances, PoseDataset

BoxKind = Literal["whole", "given", "joints", "found"]
"""`whole`: the whole image. `given`: from a file, of annotators or a detector. `joints`: around the labeled joints with
a margin. `found`: by the box network of the run."""

WHOLE, AUTO = "whole", "auto"
"""Words in place of a file of boxes: whole images, and the boxes that the box network of a run finds."""

BOX_WORDS = {WHOLE: "whole images", AUTO: "found by the box network of the run"}
"""What the words mean, for protocols."""

GROUND_TRUTH, AROUND_LABELS = "ground truth", "around the labels"
"""The boxes of a data set in words, for protocols, if they are not whole images: as they are given, or made from its
labels."""

BOX_EACH = "`boxes=FILE`: COCO results with a box for each subject, whose image_id is the frame number in a video"
"""What images that show several subjects need."""

SMALL = 0.3
"""A pose is small in a crop if it is shorter than this fraction of its longer side."""
TOLERANCE = 1.5
"""Factor by which boxes may be smaller or larger than those of a training before they count as different."""
WORDS: dict[BoxKind, str] = {
    "whole": "the whole image",
    "given": "boxes from a file",
    "joints": "boxes around the labeled joints",
    "found": "boxes that its own box network found",
}


@dataclass(frozen=True)
class BoxFacts:
    """How most boxes of a data set were made, and their size: the longer side of the box over that of the image.

    Attributes:
        kind: How they were made.
        size: The median size.
        low: The size that 5 % of the boxes are below.
        high: The size that 5 % of the boxes are above.
        subjects: The most labeled subjects in an image; 1 where none is labeled.
    """

    kind: BoxKind
    size: float
    low: float
    high: float
    subjects: int = 1

    def describe(self) -> str:
        """Returns the facts in words."""
        return WORDS[self.kind] + ("" if self.kind == "whole" else f" ({self.size:.0%} of the image's longer side)")

    def differ_from(self, other: "BoxFacts") -> bool:
        """Returns whether the median box of `other` is unlike these boxes, so that a network of these fails there.

        Boxes from a file, around the joints and of a box network differ by their size alone.
        """
        is_between = self.low / TOLERANCE <= other.size <= self.high * TOLERANCE
        return (self.kind == "whole") != (other.kind == "whole") or not is_between


def box_facts(
    persons: Instances, sizes: Mapping[Path, Sequence[float]], kind: BoxKind | None = None
) -> BoxFacts | None:
    """Returns the facts of the usable boxes of some persons; None if there are none.

    Args:
        persons: The persons.
        sizes: Width and height of each image, first and second; persons in other images do not count.
        kind: How the boxes were made where that is known; otherwise boxes of the size of their image are whole images.
    """
    known = [size if (size := sizes.get(Path(path))) is not None else (np.nan, np.nan) for path in persons.paths]
    extents = np.array([size[:2] for size in known], dtype=float).reshape(-1, 2)
    counted = persons.usable & np.isfinite(extents).all(axis=1)
    if not counted.any():
        return None
    boxes, extents = persons.boxes[counted], extents[counted]
    shares = boxes[:, 2:].max(axis=1) / extents.max(axis=1)
    whole = (np.abs(boxes[:, :2]) <= 1).all(axis=1) & (np.abs(boxes[:, 2:] - extents) <= 1).all(axis=1)
    if kind is None:
        around_joints = persons.box_from_labels[counted]
        kind = "whole" if _mostly(whole) else "joints" if _mostly(around_joints) else "given"
    low, size, high = np.percentile(shares, (5, 50, 95)).tolist()
    labeled = Counter(path for path, known in zip(persons.paths, counted & persons.labeled, strict=True) if known)
    return BoxFacts(kind, size, low, high, max(labeled.values(), default=1))


def own_boxes(persons: Instances, sizes: Mapping[Path, Sequence[float]]) -> str:
    """Returns in words what most of the labeled persons' own boxes are, for protocols; `sizes` as in `box_facts`."""
    facts = box_facts(persons.take(np.flatnonzero(persons.labeled)), sizes)
    kind = "given" if facts is None else facts.kind
    return BOX_WORDS[WHOLE] if kind == "whole" else AROUND_LABELS if kind == "joints" else GROUND_TRUTH


def pose_length(persons: PoseDataset) -> float:
    """Returns the median diagonal in pixels of the extent of the labeled joints; nan without a pose of two joints."""
    joints = np.where(persons.instances.visibility[..., None] > 0, persons.instances.joints, np.nan)
    several = (persons.instances.visibility > 0).sum(axis=1) > 1
    extent = np.nanmax(joints[several], axis=1) - np.nanmin(joints[several], axis=1)
    return float(np.median(np.linalg.norm(extent, axis=1))) if several.any() else float("nan")


def _mostly(values: np.ndarray) -> bool:
    return 2 * int(values.sum()) > len(values)
