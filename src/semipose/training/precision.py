"""Choice of the precision of a training: by capability on a GPU, by a short measurement on a CPU."""

import hashlib
import statistics
import time
from contextlib import suppress

import torch

from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.utils.cache import cache_dir
from semipose.utils.files import write_text

AUTOCAST_DTYPES: dict[str, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
"""The data type of autocast by precision; None = no autocast."""
MIN_SPEEDUP = 1.15
"""Smallest speedup over fp32 for which a CPU computes in bf16."""


def gpu_precision() -> str:
    """Returns `bf16-mixed` for GPUs with bf16 (emulation would be slower than fp32), else `32-true`."""
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def cpu_supports_bf16() -> bool:
    """Returns whether this CPU has bf16 convolutions; PyTorch has no public function for this."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cpu_precision(model: ModelConfig, joints: int, input_size: tuple[int, int]) -> str:
    """Returns the faster of `bf16-mixed` and `32-true` on this CPU.

    Forward and backward passes of both alternate for a second or two. The result is kept in the cache folder, so that a
    repeated training uses the same precision even if the machine is busy. The global random state does not change.

    Args:
        model: The network to measure.
        joints: Its number of joints.
        input_size: (H, W) in pixels.
    """
    if not cpu_supports_bf16():
        return "32-true"
    network = f"{model.model_dump_json(exclude={'weights'})} {joints} {input_size}"
    key = f"{network} {torch.get_num_threads()} threads torch {torch.__version__}"
    cached = cache_dir() / "precision" / hashlib.sha256(key.encode()).hexdigest()[:16]
    with suppress(OSError):
        known = cached.read_text(encoding="utf-8")
        if known in ("bf16-mixed", "32-true"):
            return known
    measured = "bf16-mixed" if bf16_speedup(model, joints, input_size) >= MIN_SPEEDUP else "32-true"
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_text(cached, measured)
    return measured


def bf16_speedup(model: ModelConfig, joints: int, input_size: tuple[int, int]) -> float:
    """Returns the speedup of bf16 passes over fp32 passes on this CPU, as the median of three."""
    with torch.random.fork_rng(devices=[]):
        network = PoseNet(model, joints, pretrained=False).to(memory_format=torch.channels_last)
        images = torch.randn(8, 3, *input_size).to(memory_format=torch.channels_last)
        pairs = [(_seconds(network, images, False), _seconds(network, images, True)) for _ in range(4)][1:]
    return statistics.median(full / half for full, half in pairs)


def _seconds(network: PoseNet, images: torch.Tensor, half: bool) -> float:
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss: torch.Tensor = network(images).float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - started
