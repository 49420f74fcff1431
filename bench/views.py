"""Cost of hard views, as a share of a ResNet-18 forward pass on the same device, measured alternately.

python bench/views.py [--batch 256] [--height 256] [--width 192] [--device cpu] [--repeats 5] [--json]

For each augmentation: decode the teacher's heatmaps, augment, draw and apply the second affine. `ratio` is the median
over pairs.
"""

import argparse
import json
import statistics

import torch
from clock import timed

from semipose.augment.registry import AUGMENTATIONS
from semipose.augment.views import ViewSampler, ViewsConfig
from semipose.losses import LossConfig
from semipose.methods.base import MethodContext
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.structures.batches import View
from semipose.structures.skeletons import COCO


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    device = torch.device(arguments.device)
    size = (arguments.height, arguments.width)
    network = PoseNet(ModelConfig(backbone="resnet18", weights="none"), len(COCO)).to(device).eval()
    network = network.to(memory_format=torch.channels_last)
    views = ViewSampler(ViewsConfig(), COCO, size, 2.0, torch.Generator(device).manual_seed(0))
    context = MethodContext(views, LossConfig().build(), None, None)  # type: ignore[arg-type]
    images = torch.randn(arguments.batch, 3, *size, device=device).to(memory_format=torch.channels_last)
    heatmaps = torch.rand(arguments.batch, len(COCO), *views.heatmap_size, device=device)
    easy = View(
        images, torch.eye(3, device=device).repeat(len(images), 1, 1), torch.zeros(len(images), device=device) > 0
    )
    precision = torch.bfloat16 if arguments.bf16 else torch.float32

    def forward() -> None:
        with torch.no_grad(), torch.autocast(device.type, precision, enabled=arguments.bf16):
            network(images)

    lists = {"affine alone": []} | {name: [cls()] for name, cls in AUGMENTATIONS.items()}
    rows = {}
    for name, augmentations in lists.items():
        pairs = [
            (timed(lambda a=augmentations: context.hard_view(easy, heatmaps, a), device), timed(forward, device))
            for _ in range(arguments.repeats + 1)
        ][1:]
        rows[name] = {
            "milliseconds": 1000 * statistics.median(view for view, _ in pairs),
            "forward_milliseconds": 1000 * statistics.median(plain for _, plain in pairs),
            "ratio": statistics.median(view / plain for view, plain in pairs),
        }
        if not arguments.json:
            print(
                f"{name:22s} {rows[name]['milliseconds']:9.1f} ms  {100 * rows[name]['ratio']:6.1f} % of a forward pass"
            )
    if arguments.json:
        print(json.dumps({"device": str(device), "batch": arguments.batch, "size": size, "rows": rows}))


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("batch", 256), ("height", 256), ("width", 192), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="forward pass in bf16: a faster reference")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
