"""Persons a second of a prediction, its heatmaps in 16 bit against 32 bit, alternating in one process.

python bench/predict.py [--backbone resnet50] [--input 256x192] [--batch 64] [--device cuda] [--json]

Both sides read the same JPEG crops and average each person with its mirror image. On a CPU both compute in 32 bit.
The network has random weights, whose heatmaps are flat: what rounding does to joints is in docs/research/speed.md.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import step as steps
from clock import timed
from end_to_end import open_loader, print_measured

from semipose.inference.predictor import Predictor
from semipose.models.pose_net import PoseNet
from semipose.structures.skeletons import COCO


def main() -> None:
    """Measures and prints."""
    parser = steps.make_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--persons", type=int, default=640)
    parser.set_defaults(backbone="resnet50", batch=64, crops="jpeg", workers=None, method=["supervised"])
    print_measured(parser.parse_args(), measure)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures one network; images are drawn to `folder`."""
    device, config = torch.device(arguments.device), steps.step_config("supervised", arguments)
    crops = open_loader(config, arguments, folder, uses_unlabeled=False).labeled
    torch.manual_seed(0)
    network = PoseNet(config.model, len(COCO)).to(device).to(memory_format=torch.channels_last)
    half, full = (
        Predictor(
            [network],
            config.loss.build(),
            flip_test=True,
            batch=arguments.batch,
            device=device,
            precision=precision,
        )
        for precision in ("auto", "32-true")
    )
    pairs = [
        (timed(lambda: half.predict(crops), device), timed(lambda: full.predict(crops), device))
        for _ in range(arguments.repeats + 1)
    ][1:]
    return {
        "backbone": arguments.backbone,
        "input": arguments.input,
        "batch": arguments.batch,
        "device": arguments.device,
        "in_16_bit": half.in_16_bit,
        "persons_per_second": len(crops) / statistics.median(a for a, _ in pairs),
        "persons_per_second_32_bit": len(crops) / statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratios": [round(b / a, 3) for a, b in pairs],
    }


if __name__ == "__main__":
    main()
