"""Choice of the images to label next: uncertain, apart in time, and different from each other and from known ones."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from semipose.data.clips import Clip, frame_of, thumbnail
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.data_errors import DataErrors
from semipose.data.images import read_image
from semipose.data.k_center import k_center
from semipose.errors import DataError
from semipose.inference.candidates import Candidates
from semipose.inference.known_images import KnownImages
from semipose.inference.predictor import Predictor, predict_dataset
from semipose.inference.uncertainty import second_opinion, uncertainty
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.utils.progress import NO_PROGRESS, Progress

POOL = 3
"""Of this many uncertain images for each one that is selected, those are taken that differ most."""
SPACING = 0.25
"""Smallest time between two of them, as a part of the time between frames at even distances."""


def select(
    predictor: Predictor,
    candidates: Candidates,
    geometry: CropGeometry,
    known: KnownImages,
    count: int,
    errors: DataErrors,
    progress: Progress = NO_PROGRESS,
) -> tuple[list[Prediction], dict[str, int]]:
    """Selects images.

    Args:
        predictor: The networks.
        candidates: The images.
        geometry: The crop of a box that is the network input.
        known: Images that are labeled or were suggested before.
        count: Number of images to select.
        errors: Decides whether an unreadable image is an error or is left out.
        progress: Shows the progress.

    Returns:
        The predictions in the selected images, the most uncertain image first, and by reason the number of images that
        were left out.

    Raises:
        DataError: If every image is known.
    """
    persons, paths = candidates.persons, candidates.persons.image_paths
    found, unreadable = predict_dataset(predictor, persons, geometry, errors, "images", progress)
    image_of = np.array([paths[p.image_id] for p in found], object)
    own = [p for p, image in zip(found, image_of, strict=True) if image not in candidates.further]
    values = _uncertainty(predictor, candidates, found, own, geometry, unreadable, progress)
    ranked = sorted(values, key=lambda image: (-values[image], str(image)))
    left_out: Counter[str] = Counter()
    pool = shortlist(ranked, count, known, left_out)
    if not pool:
        reasons = ", ".join(f"{number} {reason}" for reason, number in {**persons.left_out, **left_out}.items())
        raise DataError(f"{persons.source} has no image to suggest: {reasons or 'none can be read'}")
    features = image_features(predictor, persons, pool, geometry)
    covered = known_features(predictor, known, persons, geometry)
    chosen = [pool[n] for n in k_center(features, count, covered=covered)[0]]
    chosen += [image for image in pool if image not in chosen][: count - len(chosen)]
    order = {image: n for n, image in enumerate(image for image in ranked if image in set(chosen))}
    selected = [p for p in own if paths[p.image_id] in order]
    return sorted(selected, key=lambda p: order[paths[p.image_id]]), dict(left_out)


def shortlist(ranked: Sequence[Path], count: int, known: KnownImages, left_out: Counter[str]) -> list[Path]:
    """Returns up to three times `count` of the most uncertain images that are new, not alike, and apart in time.

    Frames of a clip are apart by a quarter of what `count` frames at even distances would be; where that leaves
    fewer than `count` images, frames that are nearer follow.

    Args:
        ranked: The images, the most uncertain one first.
        count: Number of images that will be selected.
        known: Images that are left out; the thumbnails of those returned are added.
        left_out: Counts the images left out by reason.
    """
    numbers: dict[Clip, list[int]] = defaultdict(list)
    for image in ranked:
        if frame := frame_of(image):
            numbers[frame[0]].append(frame[1])
    gaps = {clip: SPACING * (max(of) - min(of)) / count for clip, of in numbers.items()}
    taken: dict[Clip, list[int]] = defaultdict(list)
    kept: list[Path] = []
    near: list[Path] = []

    def add(image: Path) -> None:
        if reason := known.reason(image):
            left_out[reason] += 1
            return
        known.add(thumbnail(read_image(image)).gray)
        kept.append(image)
        if frame := frame_of(image):
            taken[frame[0]].append(frame[1])

    for image in ranked:
        if len(kept) == POOL * count:
            break
        frame = frame_of(image)
        if frame and any(abs(frame[1] - other) < gaps[frame[0]] for other in taken[frame[0]]):
            near.append(image)
        else:
            add(image)
    for image in near:
        if len(kept) >= count:
            break
        add(image)
    return kept


def image_features(
    predictor: Predictor, persons: PoseDataset, images: Sequence[Path], geometry: CropGeometry
) -> np.ndarray:
    """Returns the mean features of the persons in each image, (N, C)."""
    index = {image: n for n, image in enumerate(images)}
    chosen = [n for n, path in enumerate(persons.instances.paths) if Path(path) in index]
    features = predictor.features(LazyCrops(persons.subset(chosen), geometry, {}))
    rows = np.array([index[Path(persons.instances.paths[n])] for n in chosen])
    total = np.zeros((len(images), features.shape[1]))
    np.add.at(total, rows, features)
    return total / np.bincount(rows, minlength=len(images))[:, None]


def known_features(
    predictor: Predictor, known: KnownImages, persons: PoseDataset, geometry: CropGeometry
) -> np.ndarray | None:
    """Returns the features of the persons in known images, (M, C); None if there are none."""
    if not known.persons:
        return None
    unlabeled = [replace(p, joints=None, visibility=None, category_id=None) for p in known.persons]
    return predictor.features(LazyCrops(PoseDataset(persons.skeleton, unlabeled, "known"), geometry, {}))


def _uncertainty(
    predictor: Predictor,
    candidates: Candidates,
    found: Sequence[Prediction],
    own: Sequence[Prediction],
    geometry: CropGeometry,
    unreadable: set[Path],
    progress: Progress,
) -> dict[Path, float]:
    """The uncertainty of each image that can be selected."""
    persons, paths = candidates.persons, candidates.persons.image_paths
    other = second_opinion(predictor, bool(persons.skeleton.flip_pairs))
    opinions = None
    if other is not None:
        out = unreadable | candidates.further
        rest = persons.subset(n for n, path in enumerate(persons.instances.paths) if Path(path) not in out)
        opinions = other.predict(LazyCrops(rest, geometry, {}), progress)
    by_image: dict[Path, list[Prediction]] = defaultdict(list)
    for prediction in found:
        by_image[paths[prediction.image_id]].append(prediction)
    single = {image: of[0] for image, of in by_image.items() if len(of) == 1}
    around = {
        image_id: [single[near] for near in candidates.around.get(image, ()) if near in single]
        for image_id, image in paths.items()
    }
    return {paths[image_id]: value for image_id, value in uncertainty(own, opinions, around).items()}
