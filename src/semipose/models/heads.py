"""Heads that turn a backbone feature map into K heatmaps at a quarter of the input's resolution."""

import math

from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 4
"""Input pixels per heatmap cell, in every network of the field."""


class DeconvHead(nn.Module):
    """SimpleBaseline's head (Xiao et al., ECCV 2018): 4×4 stride-2 deconvolutions with BatchNorm + ReLU, 1×1 to K.

    `reduction` is the feature map's stride; log2(reduction / STRIDE) deconvolutions of `channels` bring it to stride 4
    (three for the last stage of a ResNet, none for HRNet's branch, which leaves the 1×1 convolution alone).
    256 channels are the paper's; fewer make the light head for small backbones.
    """

    def __init__(self, in_channels: int, reduction: int, joints: int, channels: int = 256) -> None:
        super().__init__()
        count = round(math.log2(reduction / STRIDE))
        if count < 0 or STRIDE * 2**count != reduction:
            raise ValueError(f"a head needs features of stride 4, 8, 16, 32 …, not {reduction}")
        layers: list[nn.Module] = []
        for _ in range(count):
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
        """Features of one stage to heatmaps."""
        return self.final(self.deconvolutions(features))
