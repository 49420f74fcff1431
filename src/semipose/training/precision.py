"""Which arithmetic pays on this device: by capability on a GPU, by a short measurement on a CPU."""

import hashlib
import statistics
import time
from contextlib import suppress

import torch

from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.utils.cache import cache_dir
from semipose.utils.files import write_text

PAYS = 1.15
"""bf16 must be this many times as fast as fp32 to be taken on a CPU."""


def gpu_precision() -> str:
    """bf16 on GPUs that compute in it (emulated it would be slower than fp32), else fp32."""
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def choose_precision(model: ModelConfig, joints: int, device: torch.device, size: tuple[int, int]) -> str:
    """`bf16-mixed` or `32-true` for networks of this kind at an input of (H, W).

    On a CPU whose oneDNN knows bf16, forward and backward passes of both kinds alternate for a second or two; the
    global random state is left as it was. What was found is kept in the cache folder, so that the same training is the
    same arithmetic the next time, however busy the machine was.
    """
    if device.type == "cuda":
        return gpu_precision()
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "32-true"
    threads = torch.get_num_threads()
    what = f"{model.model_dump_json(exclude={'weights'})} {joints} {size} {threads} threads torch {torch.__version__}"
    remembered = cache_dir() / "precision" / hashlib.sha256(what.encode()).hexdigest()[:16]
    with suppress(OSError):
        known = remembered.read_text()
        if known in ("bf16-mixed", "32-true"):
            return known
    found = _measured(model, joints, size)
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_text(remembered, found)
    return found


def _measured(model: ModelConfig, joints: int, size: tuple[int, int]) -> str:
    with torch.random.fork_rng(devices=[]):
        network = PoseNet(model, joints, pretrained=False).to(memory_format=torch.channels_last)
        images = torch.randn(8, 3, *size).to(memory_format=torch.channels_last)
        pairs = [(_seconds(network, images, False), _seconds(network, images, True)) for _ in range(4)][1:]
    return "bf16-mixed" if statistics.median(full / half for full, half in pairs) >= PAYS else "32-true"


def _seconds(network: PoseNet, images: torch.Tensor, half: bool) -> float:
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        network(images).float().square().mean().backward()
    return time.perf_counter() - started
