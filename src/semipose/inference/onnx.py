"""Export to ONNX, with a check that the file computes the heatmaps of the network."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semipose.errors import ConfigError, RunError
from semipose.inference.pose_model import PoseModel
from semipose.models.backbone import MEAN, STD
from semipose.models.heads import STRIDE
from semipose.utils.extras import import_extra
from semipose.utils.files import check_output_file, replacing, write_text

TOLERANCE = 1e-3
"""Largest accepted difference between a heatmap value of the network and of the exported file."""


def export_onnx(model: PoseModel, out: str | os.PathLike[str]) -> Path:
    """Writes an ONNX file and NAME.onnx.json, a description of its input and output (see `usage`).

    The input `images` is (batch, 3, H, W), normalized with ImageNet's statistics; the output `heatmaps` is
    (batch, K, h, w), for an ensemble the mean over its networks.

    Returns:
        The path of the ONNX file.

    Raises:
        ConfigError: If the packages for the export are not installed or `out` is not a name for an .onnx file.
        RunError: If the heatmaps of the file differ from those of the network; then nothing is written.
    """
    path, device = Path(out), model.device
    if path.suffix != ".onnx":
        raise ConfigError(f"`out`: {path} does not end in .onnx")
    check_output_file(path)
    import_extra("onnxscript", "export", "the export to ONNX")
    onnxruntime = import_extra("onnxruntime", "export", "the export to ONNX")
    network = _HeatmapNet(model).eval().cpu()
    images = torch.randn(2, 3, *model.geometry.input_size, generator=torch.Generator().manual_seed(0))
    with replacing(path) as temporary:
        torch.onnx.export(
            network,
            (images,),
            str(temporary),
            input_names=["images"],
            output_names=["heatmaps"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=4096)}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        for batch in (images, images[:1]):
            (exported,) = session.run(None, {"images": batch.numpy()})
            with torch.inference_mode():
                expected = network(batch).numpy()
            largest = float(np.abs(exported - expected).max())
            if largest > TOLERANCE:
                raise RunError(
                    f"the exported file differs from the network by {largest:.2g} (limit {TOLERANCE}); it was removed"
                )
    model.to(device)
    write_text(path.with_name(f"{path.name}.json"), json.dumps(usage(model), indent=1))
    return path


class _HeatmapNet(nn.Module):
    """Maps normalized images (B, 3, H, W) to heatmaps (B, K, h, w), for an ensemble to the mean over its networks."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.registered, self.networks = nn.ModuleList(model.networks), model.networks
        self.criterion = model.criterion

    def forward(self, images: Tensor) -> Tensor:
        maps = [self.criterion.heatmaps(network.forward_main(images)) for network in self.networks]
        return torch.stack(maps).mean(dim=0) if len(maps) > 1 else maps[0]


def usage(model: PoseModel) -> dict[str, Any]:
    """Returns formulas from image pixels to network input and from heatmaps to joints, for the exported file.

    Pixel centers are integers: an image of W pixels spans [-.5, W - .5].
    """
    height, width = model.geometry.input_size
    padding = model.geometry.padding
    return {
        "pixels": "centers are integers: x spans [-0.5, W - 0.5]",
        "to_input": {
            "scale": f"s = min({width} / box_width, {height} / box_height) / {padding}",
            "x": f"({width} - 1) / 2 + s * (x - (box_x + (box_width - 1) / 2))",
            "y": f"({height} - 1) / 2 + s * (y - (box_y + (box_height - 1) / 2))",
            "resampling": "bilinear; where s < 1, averaged over areas of 1 / s pixels first (semipose cuts a crop of "
            "1.25 times this resolution in between: heatmaps are similar, not equal)",
            "outside": [round(255 * m) for m in MEAN],
        },
        "from_heatmap": f"input pixel = (cell + 0.5) * {STRIDE} - 0.5; dark: after a Gaussian blur, one Newton step on "
        "the logarithm from the highest cell; quarter: the highest cell, a quarter toward its higher neighbors",
        "score": "the heatmap's highest value",
        "joints": model.skeleton.joints,
        "unlearned_joints": model.unlearned_joints,
        "flip_pairs": model.skeleton.flip_pairs,
        "limbs": model.skeleton.limbs,
        "input": {"name": "images", "layout": "NCHW", "color": "RGB", "height": height, "width": width},
        "normalization": {"scale": 1 / 255, "mean": MEAN, "std": STD},
        "box": {"padding": padding, "aspect": width / height},
        "output": {"name": "heatmaps", "stride": STRIDE, "sigma": model.loss.sigma, "decoder": model.decoder},
    }
