"""What to do next after a run: the joints, images, labels and settings that cost most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from semipose.config import RunConfig
from semipose.data.crops import CropGeometry
from semipose.data.datasets import DataSplits
from semipose.metrics.base import MatchedDataset
from semipose.metrics.gain import Gain
from semipose.metrics.pixel_error import pixel_errors
from semipose.models.heads import STRIDE
from semipose.reports.heatmaps import cell_size
from semipose.structures.boxes import SMALL, BoxFacts, pose_length
from semipose.structures.instances import PoseDataset
from semipose.utils.text import plural

HARD_JOINT = 1.5
"""A joint is looked at if its error is more than this many times that of the others."""
SWAPPED = 0.05
"""Share of exchanged left/right pairs that is worth a look."""
STILL_FALLING = 0.97
"""The error still falls if the last third of the training lowers it below this fraction."""
FEW_IMAGES = 30
"""With fewer images intervals are wide."""


SuggestCall = Callable[[str, bool], str]
"""Returns how `suggest` is called for a run folder, with or without a file of boxes."""


def python_call(folder: str, with_boxes: bool) -> str:
    """Returns the call of `semipose.suggest` in Python, a `SuggestCall`."""
    boxes = ', boxes="FILE"' if with_boxes else ""
    return f'semipose.suggest({folder!r}, "VIDEO", count=20{boxes}, out="to_label")'


@dataclass(frozen=True)
class Findings:
    """What suggestions are made from.

    Attributes:
        folder: The run folder, as it was given.
        config: The configuration of the run.
        splits: The persons of the run.
        data: The evaluated persons with the predictions of the best network.
        validation: (step, pixel error) of the method's network on the validation persons during the training.
        gain: The gain from unlabeled images, if it was measured.
        boxes: How the boxes of the training were made, if that is known.
    """

    folder: str
    config: RunConfig
    splits: DataSplits
    data: MatchedDataset
    validation: Sequence[tuple[float, float]]
    gain: Gain | None
    boxes: BoxFacts | None = None


def suggestions(found: Findings, suggest_call: SuggestCall = python_call) -> list[str]:
    """Returns what to do next, in sentences; the first is about the images and has the call of `suggest`."""
    errors = pixel_errors(found.data)
    if np.isnan(errors).all():
        return []
    texts = [
        _label_more(found, errors, suggest_call),
        _hard_joint(found, errors),
        _input(found, errors),
        _swaps(found),
        _steps(found),
        _unlabeled(found),
        _few_images(found.data.truth),
    ]
    return [text for text in texts if text]


def swapped_pairs(data: MatchedDataset) -> tuple[int, int]:
    """Returns how many predicted left/right pairs fit the labels better if they are exchanged, and of how many."""
    swapped = total = 0
    for person, prediction in zip(data.truth.instances, data.matched, strict=True):
        if prediction is None or person.joints is None or person.visibility is None:
            continue
        for a, b in data.truth.skeleton.flip_pairs:
            if person.visibility[a] > 0 and person.visibility[b] > 0:
                labels, joints = person.joints[[a, b]], prediction.joints[[a, b]]
                straight = np.linalg.norm(joints - labels, axis=1).sum()
                swapped += bool(np.linalg.norm(joints[::-1] - labels, axis=1).sum() < straight / 2)
                total += 1
    return swapped, total


def _label_more(found: Findings, errors: np.ndarray, suggest_call: SuggestCall) -> str:
    sums = np.nansum(errors, axis=1)
    tenth = max(1, len(sums) // 10)
    share = np.sort(sums)[-tenth:].sum() / max(sums.sum(), 1e-9)
    call = suggest_call(found.folder, found.boxes is not None and found.boxes.kind not in ("whole", "found"))
    return (
        f"Label more images like those with the largest errors: {tenth} of {plural(len(sums), 'pose')} have "
        f"{share:.0%} of all error. `{call}` finds such frames in your videos and "
        "labels them in advance, so that you only correct them."
    )


def _hard_joint(found: Findings, errors: np.ndarray) -> str:
    known = ~np.isnan(errors).all(axis=0)
    means = np.full(errors.shape[1], np.nan)
    means[known] = np.nanmean(errors[:, known], axis=0)
    worst = int(np.nanargmax(means))
    others = np.delete(means, worst)
    if np.isnan(others).all() or means[worst] < HARD_JOINT * np.nanmean(others):
        return ""
    joint, labeled = found.data.truth.skeleton.joints[worst], found.splits.labeled.instances.visibility
    count = f"{int((labeled[:, worst] > 0).sum())} of {len(labeled)} labeled poses have it; " if len(labeled) else ""
    return (
        f"Look at {joint}: {means[worst]:.1f} px, the other joints {np.nanmean(others):.1f} px. Is it labeled at the "
        f"same place in every image? {count}label images that show it well."
    )


def _input(found: Findings, errors: np.ndarray) -> str:
    """A larger input, or boxes around the animal, where the network cannot see more."""
    size = found.config.input
    crop = CropGeometry((size.height, size.width), size.padding)
    cell = float(np.median([cell_size(crop, box) for box in found.data.truth.instances.boxes]))
    length, side = pose_length(found.data.truth), cell * max(size.height, size.width) / STRIDE
    if length < SMALL * side:
        return (
            f"The network sees the pose small: {length:.0f} px long in a crop of {side:.0f} px. Boxes around each "
            "animal or person, in the labels and for the unlabeled images (`data.boxes`), make it larger at equal cost."
        )
    if np.nanmedian(errors) > cell:
        return ""
    return (
        f"A larger input is likely to help: half of the errors are below {np.nanmedian(errors):.1f} px, less than a "
        f"cell of the heatmap ({cell:.1f} px). Try `input.height={2 * size.height} input.width={2 * size.width}`, at "
        "four times the cost."
    )


def _swaps(found: Findings) -> str:
    swapped, total = swapped_pairs(found.data)
    if not total or swapped / total < SWAPPED:
        return ""
    return (
        f"Left and right are exchanged in {swapped} of {total} pairs of joints: check that the labels keep the sides "
        "of the body, also where it is seen from behind, and label more images from such angles."
    )


def _steps(found: Findings) -> str:
    steps, errors = np.array(found.validation).reshape(-1, 2).T
    late = steps > 2 / 3 * steps.max(initial=0)
    if late.sum() < 2 or (~late).sum() < 2:
        return ""
    before, after = errors[~late].min(), errors[late].min()
    if after > STILL_FALLING * before:
        return ""
    return (
        f"Train longer: the error still falls, from {before:.1f} to {after:.1f} px in the last third of "
        f"{steps.max():.0f} steps. Try `train.steps={2 * round(steps.max())}`."
    )


def _unlabeled(found: Findings) -> str:
    if found.gain is None:
        unlabeled = found.splits.unlabeled is None and found.splits.shards is None
        return "Give unlabeled images: videos of the same setup are enough (`data.unlabeled`)." if unlabeled else ""
    if found.gain.is_harm:
        return (
            "The unlabeled images made the network worse, so the one without them is kept: use "
            "images of the same setup, label more, or train longer."
        )
    low, high = found.gain.interval
    if low <= 0 <= high:
        return "Whether the unlabeled images help is not certain: the interval of the gain includes zero."
    return ""


def _few_images(truth: PoseDataset) -> str:
    images = len(truth.instances.images)
    if images >= FEW_IMAGES:
        return ""
    return (
        f"{plural(images, 'image')} are few to measure with: label a test set of 50 or more, from videos that the "
        "training does not use."
    )
