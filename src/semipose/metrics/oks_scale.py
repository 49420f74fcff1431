"""Whether a data set has what OKS needs: a person-sized scale, and sigmas that were measured."""

from pathlib import Path

import numpy as np

from semipose.data.images import image_size
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import evaluated
from semipose.structures.skeletons import Skeleton

SAMPLE = 50
"""Number of persons whose image size is compared with their box."""
SHARE_OF_BOX = 0.5
"""An area of at least this share of the box was made from the box; outlines of persons have less."""


def ap_caveats(truth: PoseDataset) -> tuple[str, ...]:
    """Returns the reasons for which OKS AP measures little on a data set; empty where it can be used.

    OKS divides the error by the size of the person and the sigma of the joint. For most of the evaluated persons, the
    size must not come from a box that is the whole image (every error is then small) or that was made from the labels;
    sigmas must be those of a body part.
    """
    persons = truth.instances.take(np.flatnonzero(evaluated(truth)))
    if not len(persons):
        return ()
    caveats = []
    if _mostly(persons.box_from_labels):
        caveats.append("sizes come from the labeled joints")
    sizes_from_boxes = persons.areas >= SHARE_OF_BOX * persons.boxes[:, 2] * persons.boxes[:, 3]
    at_origin = (persons.boxes[:, :2] <= 1).all(axis=1) & sizes_from_boxes
    if _mostly(at_origin):
        sample = persons.take(np.flatnonzero(at_origin)[:SAMPLE])
        if _mostly(np.array([_is_whole_image(p, b) for p, b in zip(sample.paths, sample.boxes, strict=True)])):
            caveats.append("sizes are those of whole images")
    if _sigmas_are_made_up(truth.skeleton):
        caveats.append("no joint has a known OKS sigma")
    return tuple(caveats)


def _mostly(values: np.ndarray) -> bool:
    return bool(2 * values.sum() > len(values))


def _is_whole_image(path: str, box: np.ndarray) -> bool:
    size = image_size(Path(path))
    return size is not None and bool((box[:2] + box[2:] >= np.array(size) - 2).all())


def _sigmas_are_made_up(skeleton: Skeleton) -> bool:
    return set(skeleton.sigma_sources) == {"default"}
