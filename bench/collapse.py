"""The known collapse of consistency training, provoked on purpose, and the same training with the defaults.

python bench/collapse.py --out docs/research/collapse.json [--steps 400] [--seed 0]

Both trainings use `single` with heatmap MSE on the rendered people (100 labels). The naive one requires equal outputs
on two equally easy views (no augmentation, the second affine alone) with a weight of 100, which a heatmap that is
background everywhere satisfies. Every 20 steps the mean peak value of the heatmaps on 64 labeled and on 64 unlabeled
persons is recorded: a collapsed network has no peaks on unlabeled persons.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from semipose.augment.views import eval_view
from semipose.build import make_method
from semipose.config import load_config
from semipose.data.crop_cache import open_crop_cache
from semipose.data.crops import CropGeometry
from semipose.data.datasets import load_splits
from semipose.data.loader import PairedLoader, unlabeled_batch
from semipose.methods.base import Method, StepInfo
from semipose.ops.heatmaps import peaks

SHARED: dict[str, Any] = {
    "data.train": "people",
    "data.labels": 100,
    "data.include_labeled": False,
    "input.height": 96,
    "input.width": 96,
    "model.backbone": "tf_efficientnet_lite0",
    "model.stage": -2,
    "model.head_channels": 64,
    "loss.sigma": 1.5,
    "method": "single",
}
NAIVE = {"method.augmentations": [], "method.unlabeled_weight": 100.0}


def main() -> None:
    """Trains both and writes the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    curves = {name: curve(changed, arguments) for name, changed in (("naive", NAIVE), ("defaults", {}))}
    arguments.out.write_text(json.dumps({"steps": arguments.steps, "seed": arguments.seed, "curves": curves}, indent=1))


def curve(changed: dict[str, Any], arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Returns mean peak values over a training."""
    config = load_config(None, {**SHARED, **changed})
    splits = load_splits(config.data)
    assert splits.unlabeled is not None
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    labeled, unlabeled = open_crop_cache(splits.labeled, geometry), open_crop_cache(splits.unlabeled, geometry)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    method = make_method(config, splits.labeled.skeleton, generator).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(method.parameters(), lr=config.train.lr)
    loader = PairedLoader(labeled, unlabeled, batch=32, unlabeled_batch=32, seed=arguments.seed)
    images = {
        name: eval_view(unlabeled_batch(crops, list(range(64))), geometry.input_size).images
        for name, crops in (("labeled", labeled), ("unlabeled", unlabeled))
    }
    found = []
    for step, (one, other) in enumerate(loader.steps(0, arguments.steps)):
        if step % 20 == 0:
            found.append({"step": step, **mean_peaks(method, images)})
            print(found[-1], flush=True)
        losses = method.losses(one, other, StepInfo(step, arguments.steps))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    return [*found, {"step": arguments.steps, **mean_peaks(method, images)}]


@torch.no_grad()
def mean_peaks(method: Method, images: dict[str, torch.Tensor]) -> dict[str, float]:
    """Returns the mean over persons and joints of the heatmaps' maximum, by set, in evaluation mode."""
    method.eval()
    network = method.eval_networks()["f"]
    found = {name: peaks(network.forward_main(views))[1].mean().item() for name, views in images.items()}
    method.train()
    return found


if __name__ == "__main__":
    main()
