"""ONNX export, verified: the written file must give the network's heatmaps before it is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semipose.errors import ConfigError, RunError
from semipose.inference.pose_model import PoseModel
from semipose.models.backbones import MEAN, STD
from semipose.models.heads import STRIDE
from semipose.utils.files import replacing, write_text

TOLERANCE = 1e-3
"""Largest difference of a heatmap value between the network and the exported file."""


class _Exported(nn.Module):
    """What is exported: normalized images (B, 3, H, W) to heatmaps (B, K, h, w), of an ensemble their mean."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.networks, self.criterion = nn.ModuleList(model.networks), model.criterion

    def forward(self, images: Tensor) -> Tensor:
        maps = [self.criterion.heatmaps(network.forward_main(images)) for network in self.networks]  # type: ignore[operator]
        return torch.stack(maps).mean(dim=0) if len(maps) > 1 else maps[0]


def export_onnx(model: PoseModel, path: Path) -> Path:
    """Writes `path`: input `images` (batch, 3, H, W), normalized with ImageNet's statistics; output `heatmaps`.

    What a program needs to use it lies beside it, NAME.onnx.json (see `usage`). Raises ConfigError when the extra
    packages are missing, RunError when the file differs from the network.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ConfigError(
            f"export to ONNX needs the extra packages ({error.name}); pip install 'semipose[export]'"
        ) from None
    network = _Exported(model).eval().cpu()
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
            (found,) = session.run(None, {"images": batch.numpy()})
            with torch.inference_mode():
                expected = network(batch).numpy()
            worst = float(np.abs(found - expected).max())
            if worst > TOLERANCE:
                raise RunError(
                    f"export differs from the network by {worst:.2g} (limit {TOLERANCE}); nothing was written"
                )
    write_text(path.with_name(f"{path.name}.json"), json.dumps(usage(model), indent=1))
    return path


def usage(model: PoseModel) -> dict[str, Any]:
    """How images go into the exported network and joints come out of its heatmaps, in formulas.

    Pixel centers are integers everywhere, so that an image of W pixels spans [-.5, W - .5].
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
            "1.25 times this resolution on the way: heatmaps come out alike, not equal)",
            "outside": [round(255 * m) for m in MEAN],
        },
        "from_heatmap": f"input pixel = (cell + 0.5) * {STRIDE} - 0.5; dark: after a Gaussian blur, one Newton step on "
        "the logarithm from the highest cell; quarter: the highest cell, a quarter toward its higher neighbors",
        "score": "the heatmap's highest value",
        "joints": model.skeleton.joints,
        "flip_pairs": model.skeleton.flip_pairs,
        "limbs": model.skeleton.limbs,
        "input": {"name": "images", "layout": "NCHW", "color": "RGB", "height": height, "width": width},
        "normalization": {"scale": 1 / 255, "mean": MEAN, "std": STD},
        "box": {"padding": padding, "aspect": width / height},
        "output": {"name": "heatmaps", "stride": STRIDE, "sigma": model.loss.sigma, "decoder": model.decoder},
    }
