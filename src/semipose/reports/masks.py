"""Where masks fall, adaptive and fixed, on easy and hard persons, as in figures 3 and 4 of AKM."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from semipose.augment.masking import AdaptiveJointCutout, JointCutout
from semipose.augment.registry import Augmentation
from semipose.augment.views import eval_view
from semipose.data.crops import MEAN_COLOR, LazyCrops
from semipose.data.loader import unlabeled_batch
from semipose.inference.draw import draw_masks, draw_pose
from semipose.inference.pose_model import PoseModel
from semipose.methods.base import ConsistencyConfig
from semipose.models.heads import STRIDE
from semipose.ops.heatmaps import decode
from semipose.reports import plots
from semipose.reports.heatmaps import enlargement, picture_of_input
from semipose.reports.page import Picture
from semipose.reports.sheets import Sheet, SheetRow, Tile
from semipose.structures.instances import PoseDataset

CANDIDATES = 64
"""Number of persons among which the easiest and the hardest are searched."""


@dataclass(frozen=True, eq=False)
class MaskedPerson:
    """The masks of a person.

    Attributes:
        index: Position of the person.
        joints: (K, 2), the predicted joints around which masks fall, in input pixels.
        scores: (K,), the peaks of their heatmaps; 0 for joints that the training had no labels of, which get no masks.
        peak: The mean peak of the other joints.
        count: Number of adaptive masks.
        adaptive: (H, W) bool, the input pixels that adaptive masks cover.
        fixed: (H, W) bool, those that the fixed number of masks covers.
    """

    index: int
    joints: np.ndarray
    scores: np.ndarray
    peak: float
    count: int
    adaptive: np.ndarray
    fixed: np.ndarray


def masked_persons(
    model: PoseModel,
    persons: PoseDataset,
    adaptive: AdaptiveJointCutout,
    fixed: JointCutout,
    *,
    candidates: int = CANDIDATES,
    seed: int = 0,
) -> list[MaskedPerson]:
    """Draws the masks of persons around the joints that a model predicts, the easiest person first.

    A person with more adaptive masks is easier; among equals the one with the higher mean peak is.

    Args:
        model: The teacher.
        persons: The persons, of which `candidates` in even steps are used.
        adaptive: Masks whose number depends on the peaks.
        fixed: Masks of a fixed number.
        candidates: Largest number of persons.
        seed: Seed of both kinds of masks.
    """
    indices = np.unique(np.linspace(0, len(persons) - 1, min(candidates, len(persons))).round().astype(int)).tolist()
    batch = unlabeled_batch(LazyCrops(persons, model.geometry), indices)
    view = eval_view(batch, model.geometry.input_size)
    with torch.inference_mode():
        heatmaps = model.predictor().heatmaps(view, persons.skeleton.flip_order)
    joints, scores = decode(heatmaps, STRIDE, "quarter")
    learned = torch.tensor([joint not in model.unlearned_joints for joint in persons.skeleton.joints])
    peaks = scores[:, learned]
    white = torch.ones_like(view.images)
    covered = [
        (augmentation(white, joints[:, learned], peaks, torch.Generator().manual_seed(seed))[:, 0] == 0).numpy()
        for augmentation in (adaptive, fixed)
    ]
    counts = adaptive.num_patches(peaks).tolist()
    drawn = (scores * learned).numpy()
    columns = zip(indices, joints.numpy(), drawn, peaks.mean(dim=1).tolist(), counts, *covered, strict=True)
    return sorted((MaskedPerson(*row) for row in columns), key=lambda p: (-p.count, -p.peak))


def mask_sheet(
    model: PoseModel,
    persons: PoseDataset,
    masked: Sequence[MaskedPerson],
    fixed: JointCutout,
    *,
    title: str = "Masks on easy and hard persons",
    each: int = 3,
) -> Sheet:
    """Draws the predicted joints, the fixed and the adaptive masks of the easiest and the hardest persons.

    Reference: AKM, figures 3 and 4.

    Args:
        model: The teacher of `masked_persons`.
        persons: The persons of `masked_persons`.
        masked: The persons with their masks, the easiest first.
        fixed: The masks of a fixed number.
        title: Heading.
        each: Number of the easiest and of the hardest persons.
    """
    half = min(each, len(masked) // 2)
    hardest = masked[len(masked) - half :]
    rows = [_row(model, persons, p, fixed, "easy") for p in masked[:half]]
    rows += [_row(model, persons, p, fixed, "hard") for p in reversed(hardest)]
    text = (
        f"The easiest and the hardest of {len(masked)} persons, by the number of adaptive masks and the mean peak of "
        "the heatmaps. Masks fall around the joints that the network predicts, with replacement, so they may overlap; "
        "they are outlined in orange."
    )
    columns = ["predicted joints", "fixed number of masks", "adaptive number of masks"]
    return Sheet(title, text, columns, rows)


def _row(model: PoseModel, persons: PoseDataset, masked: MaskedPerson, fixed: JointCutout, kind: str) -> SheetRow:
    picture, factor = picture_of_input(persons, masked.index, model.geometry), enlargement(model.geometry)
    points = (masked.joints + 0.5) * factor - 0.5
    pose = draw_pose(picture, points[None], masked.scores[None], persons.skeleton, min_score=-np.inf)
    tiles = [Tile(pose, f"mean peak {masked.peak:.2f}")]
    for mask, count in ((masked.fixed, fixed.joints), (masked.adaptive, masked.count)):
        large = np.kron(mask, np.ones((factor, factor), dtype=bool))
        tiles.append(Tile(draw_masks(picture, large, MEAN_COLOR), f"{count} masks, {100 * mask.mean():.0f} % covered"))
    return SheetRow(f"{kind}: person {persons[masked.index].annotation_id}", tiles)


def mask_chart(masked: Sequence[MaskedPerson]) -> Picture:
    """Draws how many persons have each number of adaptive masks."""
    counts = Counter(person.count for person in masked)
    bars = {f"{n} masks": float(counts[n]) for n in range(min(counts), max(counts) + 1)}
    return Picture("Adaptive masks: persons by number of masks", plots.bars(bars, f"persons, of {len(masked)}"))


def masks_of(config: object) -> tuple[AdaptiveJointCutout, JointCutout] | None:
    """Returns the adaptive masks of a method's hard views, and the fixed ones, by default those of Dual's paper.

    None if the method has no adaptive masks.
    """
    if not isinstance(config, ConsistencyConfig):
        return None
    used: list[Augmentation] = [a for path in config.hard_view_augmentations() for a in path]
    adaptive = next((a for a in used if isinstance(a, AdaptiveJointCutout)), None)
    fixed = next((a for a in used if isinstance(a, JointCutout)), JointCutout())
    return None if adaptive is None else (adaptive, fixed)
