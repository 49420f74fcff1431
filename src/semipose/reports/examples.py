"""Example images of a report: persons sorted by error, heatmaps of each network, easy and hard views."""

from pathlib import Path

import numpy as np
import torch

from semipose.augment.registry import apply_augmentations
from semipose.augment.views import ViewSampler, eval_view
from semipose.config import RunConfig
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import DataSplits
from semipose.data.images import read_image
from semipose.data.loader import unlabeled_batch
from semipose.inference.draw import RED, draw_pose, draw_rings
from semipose.inference.pose_model import load_pose_model, weights_of
from semipose.methods.base import ConsistencyConfig
from semipose.metrics.pck import torso_diagonal
from semipose.models.backbones import MEAN, STD
from semipose.reports.page import Examples, Picture
from semipose.reports.plots import jpeg, overlay
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton


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


def pose_examples(truth: PoseDataset, matched: list[Prediction | None], *, each: int = 4) -> Examples:
    """Draws ground truth next to prediction for the largest, the median and the smallest errors.

    Args:
        truth: The annotated persons.
        matched: The prediction of each person, or None.
        each: Number of persons with the largest, the median and the smallest errors.
    """
    order = errors_by_person(truth, matched)
    middle = max(0, len(order) // 2 - each // 2)
    pictures, in_torsos = [], has_torsos(truth)
    for error, index in dict.fromkeys([*order[:each], *order[middle : middle + each], *order[-each:]]):
        person, prediction = truth[index], matched[index]
        assert prediction is not None and person.joints is not None and person.visibility is not None
        labeled = np.where(person.visibility > 0, 1.0, -1.0)
        poses = [(person.joints, labeled), (prediction.joints, prediction.scores)]
        drawn = [draw_person(person, joints, scores, truth.skeleton, side=240) for joints, scores in poses]
        text = f"{error:.2f} torso" if in_torsos else f"{error:.1f} px"
        pictures.append(Picture(f"person {person.annotation_id}: error {text}", jpeg(np.concatenate(drawn, axis=1))))
    text = "Each image shows ground truth (left) and prediction (right): largest, median and smallest errors."
    return Examples("Persons sorted by error", text, pictures)


def draw_person(
    person: Instance,
    joints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    *,
    wrong: np.ndarray | None = None,
    side: int = 280,
) -> np.ndarray:
    """Returns the part of the image around a person with a pose.

    Args:
        person: The person, whose box and image are used.
        joints: (K, 2) in pixels of the image.
        scores: (K,); joints with a negative score are not drawn.
        skeleton: Limbs and sides of the joints.
        wrong: (K,) bool, joints that get a red ring.
        side: Longer side of the picture in pixels.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = read_image(person.image)
    x, y, width, height = person.box
    margin = 0.15 * max(width, height)
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    part = image[top : int(y + height + margin) + 1, left : int(x + width + margin) + 1]
    scale = side / max(part.shape[:2])
    inside = joints - [left, top]
    drawn = draw_pose(part, inside[None], scores[None], skeleton, min_score=0.0, scale=scale)
    if wrong is None:
        return drawn
    return draw_rings(drawn, (inside[wrong] + 0.5) * scale - 0.5, RED, radius=9)


def heatmap_examples(folder: Path, truth: PoseDataset, count: int = 4) -> Examples:
    """Draws the maximum over all joint heatmaps, for every network and level of a run, on `count` persons."""
    pictures: list[Picture] = []
    for path in weights_of(folder).values():
        model = load_pose_model(path)
        persons = truth.subset(range(min(count, len(truth))))
        batch = unlabeled_batch(LazyCrops(persons, model.geometry), list(range(len(persons))))
        view = eval_view(batch, model.geometry.input_size)
        with torch.no_grad():
            heatmaps = model.criterion.heatmaps(model.network(view.images)).numpy()
        for image, levels in zip(_to_rgb(view.images), heatmaps, strict=True):
            for level, maps in enumerate(levels):
                name = f"{path.stem}, level {'zp'[level] if level < 2 else level}" if len(levels) > 1 else path.stem
                pictures.append(Picture(name, jpeg(overlay(image, maps))))
    return Examples(
        "Heatmaps by network", "The maximum over the heatmaps of all joints, on the same persons.", pictures
    )


def view_examples(config: RunConfig, splits: DataSplits, count: int = 6) -> Examples:
    """Draws easy views, and the students' hard views of them, for `count` unlabeled persons."""
    title, text = (
        "Easy and hard views",
        "The joints for the augmentations are drawn at random here; in a training the teacher predicts them.",
    )
    if not isinstance(config.method, ConsistencyConfig) or splits.unlabeled is None:
        return Examples(title, text, [])
    size, skeleton = (config.input.height, config.input.width), splits.labeled.skeleton
    generator = torch.Generator().manual_seed(config.train.seed)
    views = ViewSampler(config.views, skeleton, size, config.loss.sigma, generator)
    persons = splits.unlabeled.subset(range(min(count, len(splits.unlabeled))))
    batch = unlabeled_batch(LazyCrops(persons, CropGeometry(size, config.input.padding)), list(range(len(persons))))
    easy = views.easy(batch)
    joints = torch.rand(len(persons), len(skeleton), 2, generator=generator)
    joints = (0.25 + 0.5 * joints) * torch.tensor([size[1], size[0]])  # in the middle half of the image
    scores = torch.rand(joints.shape[:2], generator=generator)
    pictures = [Picture("easy", jpeg(image)) for image in _to_rgb(easy.images)]
    paths = config.method.hard_view_augmentations()
    for number, augmentations in enumerate(paths, start=1):
        images, _ = apply_augmentations(easy.images, joints, scores, augmentations, generator)
        hard = views.hard(images, views.second_affine(len(easy), images.device))
        name = "hard" if len(paths) == 1 else f"hard {number}"
        pictures += [Picture(name, jpeg(image)) for image in _to_rgb(hard.images)]
    return Examples(title, text, pictures)


def _to_rgb(images: torch.Tensor) -> np.ndarray:
    """Converts normalized images (B, 3, H, W) to uint8 (B, H, W, 3)."""
    colors = images.detach().permute(0, 2, 3, 1).float().numpy() * np.array(STD) + np.array(MEAN)
    return np.ascontiguousarray((np.clip(colors, 0, 1) * 255).round().astype(np.uint8))
