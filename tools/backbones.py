"""The table of backbones in docs/reference/backbones.md: parameters, step time, memory and the licence of the weights.

python -m tools.backbones           prints the table
python -m tools.backbones --write   writes it into the page, and docs/reference/backbones.json

Everything is computed: parameters from the network, licences from timm, the time of a step (forward and backward) as a
multiple of ResNet-18's, which alternates with it in one process, and the memory from the tensors that autograd keeps.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch

from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.models.vitpose import SIZES
from semipose.models.weights import DEFAULT_WEIGHTS, LICENCE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "backbones.md"
MARK = "<!-- written by python -m tools.backbones --write -->"
REFERENCE = "resnet18"
"""The backbone whose step is the unit of time."""
INPUT = (256, 192)
JOINTS = 17
STATE_BYTES = 16
"""Bytes of a parameter: weight, gradient and two moments of Adam."""

BACKBONES = (
    REFERENCE, "resnet50", "hrnet_w32", "tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium", "convnextv2_atto", "convnextv2_tiny", "convnext_tiny.dinov3_lvd1689m",
    "swin_tiny_patch4_window7_224", "hiera_tiny_224", "vit_small_patch14_dinov2", "vit_base_patch14_dinov2",
    "vit_small_patch16_dinov3", "vit_base_patch16_dinov3", "vit_base_patch16_224.mae", "eva02_small_patch14_224",
    "vit_base_patch16_sapiens2", *SIZES,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    backbone: str
    head: str
    parameters: int
    step: float
    """Duration of a step as a multiple of that of ResNet-18."""
    activations: int
    """Bytes per image that autograd keeps for the backward pass."""
    weights: str
    licence: str


def make(backbone: str, device: str) -> PoseNet:
    """Returns the network with the paper's head: three deconvolutions, or ViTPose's own."""
    head = "simple" if backbone in SIZES else "deconvolution"
    with torch.device(device):
        return PoseNet(ModelConfig(backbone=backbone, weights="none", head=head), JOINTS)


def measure(backbone: str, device: torch.device, batch: int, repeats: int, input_size: tuple[int, int] = INPUT) -> Row:
    """Returns the line of a backbone."""
    network, reference = make(backbone, "cpu").to(device), make(REFERENCE, "cpu").to(device)
    parameters = sum(p.numel() for p in network.parameters())
    images = torch.randn(batch, 3, *input_size, device=device)
    activations = kept_bytes(network, images) // batch
    one_step(reference, images)
    pairs = [(one_step(network, images), one_step(reference, images)) for _ in range(repeats)]
    step = statistics.median(a / b for a, b in pairs)
    weights, licence = weights_of(backbone)
    return Row(backbone, network.config.head, parameters, step, activations, weights, licence)


def one_step(network: PoseNet, images: torch.Tensor) -> float:
    """Returns the seconds of a forward and a backward pass."""
    synchronize = torch.cuda.synchronize if images.is_cuda else lambda: None
    synchronize()
    start = time.perf_counter()
    network(images).sum().backward()
    synchronize()
    return time.perf_counter() - start


def kept_bytes(network: PoseNet, images: torch.Tensor) -> int:
    """Returns the bytes of the tensors, besides parameters, that autograd keeps for the backward pass."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a saved output that kept its graph would keep itself alive

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = network(images)  # keeps the storages alive: one that is released would lend its address to another
    del maps
    return sum(kept.values())


def weights_of(backbone: str) -> tuple[str, str]:
    """Returns the name of the weights that `auto` takes and their licence, as timm states it."""
    if backbone in SIZES:
        return DEFAULT_WEIGHTS[backbone], LICENCE
    config = timm.get_pretrained_cfg(backbone)
    return config.tag or "default", config.license or "not stated"


def table(rows: list[Row], batch: int) -> list[str]:
    """Returns the lines of the table; the memory is that of a training with Adam and a batch of `batch`."""
    lines = [
        f"| backbone | head | parameters | step | memory of a batch of {batch} | weights of `auto` | their licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = (STATE_BYTES * row.parameters + batch * row.activations) / 2**30
        lines.append(
            f"| `{row.backbone}` | {row.head} | {row.parameters / 1e6:.1f} M | {row.step:.1f} | {memory:.1f} GiB | "
            f"{row.weights} | {row.licence} |"
        )
    return lines


def with_table(text: str, rows: list[Row], batch: int, conditions: str) -> str:
    """Returns the page with a new table and the conditions of its measurement between the two marks."""
    before, _, rest = text.partition(MARK)
    _, _, after = rest.partition(MARK)
    content = [MARK, "", *table(rows, batch), "", f"Measured with {conditions}.", "", MARK]
    return before + "\n".join(content) + after


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=2, help="images of a measured step")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rows = [measure(name, device, arguments.batch, arguments.repeats) for name in BACKBONES]
    if not arguments.write:
        print("\n".join(table(rows, 32)))
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    height, width = INPUT
    conditions = (
        f"{arguments.batch} images of {height}×{width} in fp32 a step, median of {arguments.repeats}, on {name}, "
        f"torch {torch.__version__}, timm {timm.__version__}, {today}, commit {commit.strip()}"
    )
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), rows, 32, conditions), encoding="utf-8")
    details = {"conditions": conditions, "rows": [asdict(row) for row in rows]}
    PAGE.with_suffix(".json").write_text(json.dumps(details, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
