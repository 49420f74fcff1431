"""Example images of a report: the poses of the largest and the smallest errors, and easy beside hard views."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from semipose.augment.registry import apply_augmentations
from semipose.augment.views import ViewSampler
from semipose.config import RunConfig
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import DataSplits
from semipose.data.images import read_image
from semipose.data.loader import unlabeled_batch
from semipose.inference.draw import RED, draw_errors, draw_pose, draw_rings
from semipose.inference.legend import joint_colors
from semipose.methods.base import ConsistencyConfig
from semipose.metrics.pck import torso_diagonal
from semipose.models.backbone import MEAN, STD
from semipose.reports.sheets import Sheet, SheetRow, Tile
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton

SIDE = 360
"""Longer side of a picture of a person in pixels."""
MARGIN = 0.25
"""What a picture shows around the joints on each side, as a fraction of their extent."""


def errors_by_person(truth: PoseDataset, matched: list[Prediction | None]) -> list[tuple[float, int]]:
    """Computes the error of each person that has a prediction.

    Args:
        truth: The annotated persons.
        matched: The prediction of each person, or None.

    Returns:
        Mean joint error and the person's index, the largest error first. Errors are in torso diagonals, without the
        persons that have none, or in pixels if the data set has no torsos.
    """
    errors, in_torsos = [], has_torsos(truth)
    for index, (person, prediction) in enumerate(zip(truth.instances, matched, strict=True)):
        size = torso_diagonal(person, truth.skeleton) if in_torsos else 1.0
        if prediction is None or size is None or person.joints is None or person.visibility is None:
            continue
        if (person.visibility > 0).any():
            distance = np.linalg.norm(prediction.joints - person.joints, axis=1)[person.visibility > 0]
            errors.append((float(distance.mean()) / size, index))
    return sorted(errors, reverse=True)


def has_torsos(truth: PoseDataset) -> bool:
    """Returns whether at least one person has a torso, the unit of its errors."""
    return any(torso_diagonal(person, truth.skeleton) is not None for person in truth.instances)


@dataclass(frozen=True, eq=False)
class Part:
    """The part of an image around a person, enlarged.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        corner: x and y of its upper left pixel in the whole image.
        scale: Its size relative to the whole image.
    """

    image: np.ndarray
    corner: tuple[int, int]
    scale: float

    def points(self, joints: np.ndarray) -> np.ndarray:
        """Returns the positions (..., 2) in pixels of this part, of positions in the whole image."""
        found: np.ndarray = (joints - self.corner + 0.5) * self.scale - 0.5
        return found


def part_around(person: Instance, poses: Sequence[np.ndarray], *, side: int = SIDE) -> Part:
    """Returns the part of a person's image with all joints of its poses (P, K, 2), or the whole image without poses."""
    image = read_image(person.image)
    last = np.array(image.shape[1::-1]) - 1
    joints = np.concatenate([*poses, np.zeros((0, 2))])
    low, high = (joints.min(axis=0), joints.max(axis=0)) if len(joints) else (0 * last, last)
    margin = max(8.0, MARGIN * float((high - low).max()))
    left, top = np.clip(low - margin, 0, np.maximum(last - 8, 0)).astype(int)  # joints may be outside of the image
    right, bottom = np.clip(high + margin, (left + 8, top + 8), np.maximum(last, (left + 8, top + 8))).astype(int)
    part = image[top : bottom + 1, left : right + 1]
    scale = side / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    return Part(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC), (int(left), int(top)), scale)


def draw_person(
    part: Part, joints: np.ndarray, scores: np.ndarray, skeleton: Skeleton, *, wrong: np.ndarray | None = None
) -> np.ndarray:
    """Draws a pose on the part of its image.

    Args:
        part: From `part_around`.
        joints: (K, 2) in pixels of the whole image.
        scores: (K,); joints with a negative score are not drawn.
        skeleton: Limbs and sides of the joints.
        wrong: (K,) bool, joints that get a red ring.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    points = part.points(joints)
    drawn = draw_pose(part.image, points[None], scores[None], skeleton, min_score=0.0)
    return drawn if wrong is None else draw_rings(drawn, points[wrong], RED, radius=9)


def error_sheets(truth: PoseDataset, matched: list[Prediction | None], *, each: int = 6) -> list[Sheet]:
    """Draws the labels beside the prediction for the largest errors, and for median and smallest ones.

    Args:
        truth: The annotated persons.
        matched: The prediction of each person, or None.
        each: Number of persons with the largest errors; of the others there are half as many each.
    """
    order = errors_by_person(truth, matched)
    worst, rest, half = order[:each], order[each:], max(1, each // 2)
    middle = max(0, len(order) // 2 - half // 2)
    others = [entry for entry in dict.fromkeys([*order[middle : middle + half], *order[-half:]]) if entry in rest]
    text = (
        "Left the labels, right the prediction: a line leads from each predicted joint to a ring at its label. Errors "
        "are means over the labeled joints of an image, in its pixels."
    )
    text += " The order is by the error relative to the torso." if has_torsos(truth) else ""
    columns, legend = ["labels", "prediction"], joint_colors(truth.skeleton.joints)
    sheets = []
    for title, entries in (("The largest errors", worst), ("Median and smallest errors", others)):
        if rows := [_error_row(truth, index, matched[index]) for _, index in entries]:
            sheets.append(Sheet(title, text, columns, rows, legend))
    return sheets


def _error_row(truth: PoseDataset, index: int, prediction: Prediction | None) -> SheetRow:
    person, skeleton = truth[index], truth.skeleton
    assert prediction is not None and person.joints is not None and person.visibility is not None
    known = person.visibility > 0
    distances = np.where(known, np.linalg.norm(prediction.joints - person.joints, axis=1), 0)
    part = part_around(person, [person.joints[known], prediction.joints[prediction.scores > 0]])
    labels = draw_person(part, person.joints, np.where(known, 1.0, -1.0), skeleton)
    lines = draw_errors(part.image, part.points(person.joints), part.points(prediction.joints), known)
    found = draw_pose(lines, part.points(prediction.joints)[None], prediction.scores[None], skeleton, min_score=0.0)
    worst = int(distances.argmax())
    tiles = [
        Tile(labels, f"{known.sum()} labeled joints"),
        Tile(found, f"furthest: {skeleton.joints[worst]}, {distances[worst]:.1f} px"),
    ]
    return SheetRow(f"{name_of(truth, person)}: {distances[known].mean():.1f} px", tiles)


def name_of(truth: PoseDataset, person: Instance) -> str:
    """Returns the file name of a person's image, with the annotation id if the image shows several persons."""
    alone = sum(image_id == person.image_id for image_id in truth.instances.image_ids) == 1
    return person.image.name if alone else f"{person.image.name}, id {person.annotation_id}"


def view_sheets(config: RunConfig, splits: DataSplits, count: int = 6) -> list[Sheet]:
    """Draws the easy view of `count` unlabeled persons beside the hard views of the students; none without them."""
    if not isinstance(config.method, ConsistencyConfig) or splits.unlabeled is None:
        return []
    size, skeleton = (config.input.height, config.input.width), splits.labeled.skeleton
    generator = torch.Generator().manual_seed(config.train.seed)
    views = ViewSampler(config.views, skeleton, size, config.loss.sigma, generator)
    spaced = np.unique(np.linspace(0, len(splits.unlabeled) - 1, count).round().astype(int))
    persons = splits.unlabeled.subset(spaced.tolist())
    batch = unlabeled_batch(LazyCrops(persons, CropGeometry(size, config.input.padding)), list(range(len(persons))))
    easy = views.easy(batch)
    joints = torch.rand(len(persons), len(skeleton), 2, generator=generator)
    joints = (0.25 + 0.5 * joints) * torch.tensor([size[1], size[0]])  # in the middle half of the image
    scores = torch.rand(joints.shape[:2], generator=generator)
    columns, images = ["easy view"], [_to_rgb(easy.images)]
    paths = config.method.hard_view_augmentations()
    for number, augmentations in enumerate(paths, start=1):
        augmented, _ = apply_augmentations(easy.images, joints, scores, augmentations, generator)
        hard = views.hard(augmented, views.second_affine(len(easy), augmented.device))
        columns.append("hard view" if len(paths) == 1 else f"hard view {number}")
        images.append(_to_rgb(hard.images))
    rows = [
        SheetRow(person.image.name, [Tile(image) for image in pair])
        for person, *pair in zip(persons.instances, *images, strict=True)
    ]
    text = (
        "Unlabeled images as the training sees them: joints are predicted on the easy view and learned on the hard "
        "view of the same image. Masks around joints are at random places here."
    )
    return [Sheet("Easy and hard views", text, columns, rows)]


def _to_rgb(images: torch.Tensor) -> np.ndarray:
    """Converts normalized images (B, 3, H, W) to uint8 (B, H, W, 3)."""
    colors = images.detach().permute(0, 2, 3, 1).float().numpy() * np.array(STD) + np.array(MEAN)
    return np.ascontiguousarray((np.clip(colors, 0, 1) * 255).round().astype(np.uint8))
