"""Use of the hardware by a training step: its FLOP per second against the best that this device reaches.

python bench/mfu.py [--method dual] [--backbone resnet18] [--input 256x192] [--batch 16] [--device cpu] [--json]

The references, measured in the same process and precision: a large matrix product, a large convolution, and plain
training of the same network (forward, backward, optimizer) on images in memory. The last is the upper bound of a step:
the pairs per second if only the network's passes took time. The backbone is also trained as a classifier.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
import step as steps
from clock import timed

from semipose.methods.cost import step_cost
from semipose.models.pose_net import PoseNet
from semipose.structures.skeletons import COCO


def main() -> None:
    """Measures and prints."""
    arguments = steps.parse()
    height, width = map(int, arguments.input.split("x"))
    config, device = steps.step_config(arguments.method[0], arguments), torch.device(arguments.device)
    batches = steps.make_batches(config, arguments.batch, device)
    ours, _ = steps.our_side(config, steps.new_method(config, device), batches, steps.kind_of(arguments))
    precision = config.train.precision
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32  # as a network's convolutions
    network = PoseNet(config.model, len(COCO)).to(device).to(memory_format=torch.channels_last)
    classifier = timm.create_model(arguments.backbone).to(device).to(memory_format=torch.channels_last)
    images = torch.randn(arguments.batch, 3, height, width, device=device).to(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        network(images[:1])
    flop, cost = counter.get_total_flops(), step_cost(config.method)
    side, maps = reference_sizes(device)
    convolved = 2 * maps * 256 * 256 * 9 * 32 * 32  # FLOP: 32×32 positions, 3×3, 256 channels in and out
    works = {
        "step": ours.step,
        "train": trainer(network, images, half),
        "classifier": trainer(classifier, images, half),
        "forward": forwarder(network, images, half),
        "product": product(device, side, half),
        "convolution": convolution(device, maps, half),
    }
    seconds = {name: [] for name in works}  # type: dict[str, list[float]]
    for _ in range(arguments.repeats + 1):
        for name, work in works.items():
            seconds[name].append(timed(work, device))
    typical = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    ceiling = arguments.batch / (cost.trained * typical["train"] + cost.forward * typical["forward"])
    found: dict[str, Any] = {
        "method": arguments.method[0], "backbone": arguments.backbone, "input": arguments.input,
        "batch": arguments.batch, "device": arguments.device, "precision": precision,
        "pairs_per_second": arguments.batch / typical["step"],
        "ceiling_pairs_per_second": ceiling,
        "share_of_ceiling": arguments.batch / typical["step"] / ceiling,
        "train_images_per_second": arguments.batch / typical["train"],
        "classifier_images_per_second": arguments.batch / typical["classifier"],
        "gflop_of_a_pair": cost.units * flop / 1e9,
        "step_tflops": cost.units * flop * arguments.batch / typical["step"] / 1e12,
        "product_tflops": 2 * side**3 / typical["product"] / 1e12,
        "convolution_tflops": convolved / typical["convolution"] / 1e12,
    }  # fmt: skip
    found["share_of_product"] = found["step_tflops"] / found["product_tflops"]
    print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def reference_sizes(device: torch.device) -> tuple[int, int]:
    """Returns the side of the matrices and the number of convolved feature maps; a GPU needs more work."""
    return (8192, 512) if device.type == "cuda" else (2048, 16)


def trainer(network: torch.nn.Module, images: torch.Tensor, half: torch.dtype | None) -> Callable[[], None]:
    """Returns a step of plain supervised training on images in memory."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def work() -> None:
        with torch.autocast(images.device.type, half or torch.bfloat16, enabled=half is not None):
            outputs = network(images)
        optimizer.zero_grad(set_to_none=True)
        outputs.float().square().mean().backward()
        optimizer.step()

    return work


def forwarder(network: torch.nn.Module, images: torch.Tensor, half: torch.dtype | None) -> Callable[[], None]:
    """Returns a forward pass."""

    def work() -> None:
        with torch.no_grad(), torch.autocast(images.device.type, half or torch.bfloat16, enabled=half is not None):
            network(images)

    return work


def product(device: torch.device, side: int, half: torch.dtype | None) -> Callable[[], None]:
    """Returns a product of two large matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=half or torch.float32) for _ in range(2))
    return lambda: torch.mm(a, b)  # type: ignore[return-value]


def convolution(device: torch.device, maps: int, half: torch.dtype | None) -> Callable[[], None]:
    """Returns a large 3×3 convolution."""
    kind = half or torch.float32
    images = torch.randn(maps, 256, 32, 32, device=device, dtype=kind).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device, dtype=kind).to(memory_format=torch.channels_last)
    return lambda: F.conv2d(images, weight, padding=1)  # type: ignore[return-value]


if __name__ == "__main__":
    main()
