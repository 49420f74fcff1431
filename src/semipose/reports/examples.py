"""Pictures of a report: persons sorted by error, heatmaps of each network, hard views."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semipose.augment.views import eval_view
from semipose.config import RunConfig
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import DataSplits
from semipose.data.images import read_image
from semipose.data.loader import unlabeled_batch
from semipose.inference.draw import draw_pose
from semipose.inference.pose_model import load_pose_model, weights_of
from semipose.methods.base import ConsistencyConfig
from semipose.metrics.pck import torso_diagonal
from semipose.models.backbones import MEAN, STD
from semipose.reports import plots
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.trainer import make_method


@dataclass(frozen=True)
class Tile:
    """One picture as a data address."""

    title: str
    image: str


@dataclass(frozen=True)
class Gallery:
    """Pictures under a title."""

    title: str
    text: str
    tiles: list[Tile]


def errors_by_person(truth: PoseDataset, matched: list[Prediction | None]) -> list[tuple[float, int]]:
    """(mean joint error in torso diagonals, position), the largest error first; persons without a torso stay out."""
    found = []
    for i, (person, prediction) in enumerate(zip(truth.instances, matched, strict=True)):
        size = torso_diagonal(person, truth.skeleton)
        if prediction is None or size is None or person.joints is None or person.visibility is None:
            continue
        distance = np.linalg.norm(prediction.joints - person.joints, axis=1)[person.visibility > 0]
        found.append((float(distance.mean()) / size, i))
    return sorted(found, reverse=True)


def example_gallery(
    truth: PoseDataset,
    matched: list[Prediction | None],
    *,
    title: str = "Instances sorted by error",
    order: list[tuple[float, int]] | None = None,
    each: int = 4,
) -> Gallery:
    """Ground truth beside prediction for the worst, the middle and the best persons of `order`."""
    order = order if order is not None else errors_by_person(truth, matched)
    middle = max(0, len(order) // 2 - each // 2)
    chosen = dict.fromkeys([*order[:each], *order[middle : middle + each], *order[-each:]])
    own = {i: error for error, i in errors_by_person(truth, matched)}
    tiles = []
    for _, i in chosen:
        prediction = matched[i]
        if prediction is not None:
            label = f"person {truth[i].annotation_id}: error {own.get(i, float('nan')):.2f} torso"
            tiles.append(Tile(label, plots.picture(_pair(truth, truth[i], prediction))))
    return Gallery(title, "Each picture: ground truth left, prediction right; worst, middle and best.", tiles)


def _pair(truth: PoseDataset, person: Instance, prediction: Prediction, side: int = 190) -> np.ndarray:
    """The person's surroundings twice, with the true and the predicted joints."""
    image = read_image(person.image)
    x, y, width, height = person.box
    margin = 0.15 * max(width, height)
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    part = image[top : int(y + height + margin) + 1, left : int(x + width + margin) + 1]
    assert person.joints is not None and person.visibility is not None
    scale = side / max(part.shape[:2])
    shown = [
        draw_pose(part, joints[None] - [left, top], scores[None], truth.skeleton, min_score=0.0, scale=scale)
        for joints, scores in (
            (person.joints, np.where(person.visibility > 0, 1.0, -1.0)),
            (prediction.joints, prediction.scores),
        )
    ]
    return np.concatenate(shown, axis=1)


def heatmap_gallery(folder: Path, truth: PoseDataset, count: int = 4) -> Gallery:
    """For some persons the highest joint heatmap of every network and level: teachers beside reviewers, z beside p."""
    tiles: list[Tile] = []
    for path in weights_of(folder).values():
        model = load_pose_model(path)
        persons = truth.subset(range(min(count, len(truth))))
        batch = unlabeled_batch(LazyCrops(persons, model.geometry), list(range(len(persons))))
        view = eval_view(batch, model.geometry.input_size)
        with torch.no_grad():
            maps = model.criterion.heatmaps(model.network(view.images)).numpy()
        for image, levels in zip(_colors(view.images), maps, strict=True):
            for level, own in enumerate(levels):
                name = f"{path.stem}, level {'zp'[level] if level < 2 else level}" if len(levels) > 1 else path.stem
                tiles.append(Tile(name, plots.picture(plots.heat(image, own))))
    return Gallery("Heatmaps by network", "The highest of all joints' heatmaps over the same persons.", tiles)


def hard_view_gallery(config: RunConfig, splits: DataSplits, count: int = 6) -> Gallery:
    """What students see: easy views, and the hard views made of them around joints drawn at random."""
    if not isinstance(config.method, ConsistencyConfig) or splits.unlabeled is None:
        return Gallery("", "", [])
    plain = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none", "frozen_stages": 0})})
    method: Any = make_method(plain, splits.labeled.skeleton, torch.Generator().manual_seed(config.train.seed))
    size = (config.input.height, config.input.width)
    persons = splits.unlabeled.subset(range(min(count, len(splits.unlabeled))))
    crops = LazyCrops(persons, CropGeometry(size, config.input.padding))
    context = method.context
    easy = context.views.easy(unlabeled_batch(crops, list(range(len(persons)))))
    maps = torch.rand(len(persons), len(splits.labeled.skeleton), *context.views.heatmap_size)
    maps = maps * torch.linspace(0, 1, maps.shape[-1]).sub(0.5).abs().mul(-2).add(1)  # joints rather in the middle
    paths = config.method.hard_view_augmentations()
    tiles = [Tile("easy", plots.picture(image)) for image in _colors(easy.images)]
    for number, path in enumerate(paths, start=1):
        hard = context.hard_view(easy, maps, path)
        name = "hard" if len(paths) == 1 else f"hard, path {number}"
        tiles += [Tile(name, plots.picture(image)) for image in _colors(hard.images)]
    return Gallery("Easy and hard views", "Joints for the masks are drawn at random here, not predicted.", tiles)


def _colors(images: torch.Tensor) -> np.ndarray:
    """Normalized images (B, 3, H, W) as uint8 (B, H, W, 3)."""
    colors = images.detach().permute(0, 2, 3, 1).float().numpy() * np.array(STD) + np.array(MEAN)
    return np.ascontiguousarray((np.clip(colors, 0, 1) * 255).round().astype(np.uint8))
