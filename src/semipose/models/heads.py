"""Heads that turn a feature map into K heatmaps at a quarter of the input's resolution."""

import math

from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 4
"""Input pixels per heatmap cell."""


class SimpleHead(nn.Module):
    """ReLU, bilinear enlargement to stride 4, and a 3×3 convolution to K heatmaps.

    Args:
        in_channels: Channels of the feature map.
        reduction: Stride of the feature map: 4, 8, 16 or 32.
        joints: Number of heatmaps K.
        channels: Not used; the head has no channels of its own.

    Reference: Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation", NeurIPS 2022.
    """

    def __init__(self, in_channels: int, reduction: int, joints: int, channels: int = 256) -> None:
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.ReLU(), nn.Upsample(scale_factor=2 ** _doublings(reduction), mode="bilinear", align_corners=False)
        )
        self.final = nn.Conv2d(in_channels, joints, kernel_size=3, padding=1)
        nn.init.normal_(self.final.weight, std=0.001)
        nn.init.zeros_(self.final.bias)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "B C f g"]) -> Float[Tensor, "B K h w"]:
        """Maps the features of one stage to raw heatmaps."""
        return self.final(self.enlarge(features))


class DeconvHead(nn.Module):
    """4×4 deconvolutions of stride 2 with BatchNorm and ReLU up to stride 4, then a 1×1 convolution to K heatmaps.

    The last stage of a ResNet needs three deconvolutions, the finest branch of an HRNet none.

    Args:
        in_channels: Channels of the feature map.
        reduction: Stride of the feature map: 4, 8, 16 or 32.
        joints: Number of heatmaps K.
        channels: Channels of each deconvolution, 256 in the paper; fewer make a light head for small backbones.

    Reference: Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018.
    """

    def __init__(self, in_channels: int, reduction: int, joints: int, channels: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_doublings(reduction)):
            layers += [
                nn.ConvTranspose2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        self.deconvolutions = nn.Sequential(*layers)
        self.final = nn.Conv2d(in_channels, joints, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(self.final.bias)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "B C f g"]) -> Float[Tensor, "B K h w"]:
        """Maps the features of one stage to raw heatmaps."""
        return self.final(self.deconvolutions(features))


HEADS: dict[str, type[DeconvHead] | type[SimpleHead]] = {"deconvolution": DeconvHead, "simple": SimpleHead}
"""Heads by name."""


def _doublings(reduction: int) -> int:
    """Returns how often a feature map of that stride doubles up to stride 4."""
    count = round(math.log2(reduction / STRIDE))
    if count < 0 or STRIDE * 2**count != reduction:
        raise ValueError(f"`reduction` must be 4, 8, 16, 32 …, not {reduction}")
    return count
