"""Gain from test-time augmentation: heatmaps averaged over flips, scales, rotations and networks of a trained run.

python bench/tta.py RUN [NETWORK ...] [--views one flip 18 50] [--json]

Evaluates the ensemble of the networks of a run folder (all of weights/ when none is named) on the run's test persons,
or on its validation persons where it has no test set: how good the targets of such a teacher would be.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from semipose.config import load_config
from semipose.data.crop_cache import open_crop_cache
from semipose.data.crops import CropGeometry
from semipose.data.datasets import load_splits
from semipose.inference.pose_model import load_pose_model
from semipose.inference.predictor import Predictor
from semipose.metrics.scores import score
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.structures.batches import View

Transform = tuple[float, float, bool]
"""Scale, rotation in degrees, flipped."""

VIEWS: dict[str, list[Transform]] = {
    "one": [(1.0, 0.0, False)],
    "flip": list(itertools.product([1.0], [0.0], [False, True])),
    "18": list(itertools.product([0.9, 1.0, 1.1], [-15.0, 0.0, 15.0], [False, True])),
    "50": list(itertools.product([0.8, 0.9, 1.0, 1.1, 1.2], [-30.0, -15.0, 0.0, 15.0, 30.0], [False, True])),
}
METRICS = ("AP", "AP50", "PCK@0.2")


@dataclass(frozen=True)
class AveragingPredictor(Predictor):
    """Averages heatmaps over transformed views, mapped back to the original view, where they cover it."""

    transforms: Sequence[Transform] = ()

    def heatmaps(self, view: View, flip_order: Sequence[int]) -> Tensor:
        """Returns the mean heatmaps (B, K, h, w) of a view."""
        size, batch = (view.images.shape[-2], view.images.shape[-1]), len(view)
        total = shown = torch.zeros(())
        for scale, degrees, flip in self.transforms:
            flipped = torch.full((batch,), flip)
            matrix = geometry.similarity(size, torch.full((batch,), degrees), torch.full((batch,), scale), flipped)
            heatmaps = self._mean(geometry.warp(view.images, matrix, size))
            back = geometry.inverse(matrix)
            warped, seen = geometry.warp_heatmaps(heatmaps, back, STRIDE, flipped, list(flip_order))
            total, shown = total + warped * seen, shown + seen
        return total / shown.clamp_min(1)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--views", nargs="+", default=["one", "flip", "18"], choices=VIEWS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.run, arguments.networks, arguments.views)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, scores in found.items():
        print(f"{name:8s}" + "  ".join(f"{key} {100 * (value or 0):.1f}" for key, value in scores.items()))


def measure(run: Path, networks: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Returns the scores of the ensemble by name of the views."""
    config = load_config(run / "config.yaml")
    splits = load_splits(config.data)
    truth = splits.test or splits.validation
    if truth is None:
        sys.exit(f"{run} has neither test nor validation persons")
    crops = open_crop_cache(
        truth.trainable(), CropGeometry((config.input.height, config.input.width), config.input.padding)
    )
    chosen = networks or sorted(path.stem for path in (run / "weights").glob("*.safetensors"))
    models = [load_pose_model(run / "weights" / f"{network}.safetensors") for network in chosen]
    ensemble, first, found = [model.network for model in models], models[0], {}
    for name in names:
        predictor = AveragingPredictor(
            ensemble, first.criterion, False, first.decoder, first.loss.sigma, transforms=VIEWS[name]
        )
        scores = score(truth, predictor.predict(crops)).as_dict()
        found[name] = {key: scores[key] for key in METRICS}
    return found


if __name__ == "__main__":
    main()
