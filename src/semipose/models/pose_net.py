"""PoseNet: any timm backbone with one heatmap head per feature level."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from semipose.errors import ConfigError
from semipose.models.backbones import Backbone, build_backbone
from semipose.models.heads import DeconvHead
from semipose.utils.section import Section


class ModelConfig(Section):
    """The network: backbone, pretrained weights and head."""

    backbone: str = "resnet18"
    """Any timm model with `features_only`: resnet18 … resnet152, hrnet_w32, hrnet_w48, tf_efficientnet_lite0 …"""
    weights: str = "auto"
    """ImageNet weights: `auto` (an installed weights package, else the hub), a local file, or `none`."""
    stage: int = Field(-1, le=-1)
    """Backbone stage under the main head, counted from the last: -1 is the papers'; -2 halves the head's work."""
    frozen_stages: int = Field(0, ge=0)
    """First backbone stages that keep their pretrained weights; 0 in the papers, more for few labels or no GPU."""
    head_channels: int = Field(256, ge=1)
    """Channels of each deconvolution; 256 in the papers, 64 makes a light head for small backbones."""


class PoseNet(nn.Module):
    """Backbone and L heads: images (B, 3, H, W) to raw outputs (B, L, K, h, w); level 0 is z, level 1 is p (TRS eq. 8).

    Images come normalized with ImageNet's statistics; a backbone trained with others gets them converted inside.
    """

    def __init__(self, config: ModelConfig, joints: int, levels: int = 1, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = build_backbone(
            config.backbone, config.weights if pretrained else "none", config.stage, levels
        )
        if config.frozen_stages and pretrained and config.weights == "none":
            raise ConfigError("model.frozen_stages: untrained stages can't be frozen; give --weights or freeze none")
        if config.frozen_stages:
            self.backbone.freeze(config.frozen_stages)
        self.heads = nn.ModuleList(
            DeconvHead(channels, reduction, joints, config.head_channels)
            for channels, reduction in zip(self.backbone.channels, self.backbone.reductions, strict=True)
        )

    def copy_weights_from(self, other: "PoseNet", heads: bool) -> None:
        """The weights of a network with the same backbone: its own and, with `heads`, those of the levels both have."""
        self.backbone.load_state_dict(other.backbone.state_dict())
        for own, theirs in zip(self.heads, other.heads, strict=False) if heads else ():
            if [p.shape for p in own.state_dict().values()] == [p.shape for p in theirs.state_dict().values()]:
                own.load_state_dict(theirs.state_dict())

    @property
    def levels(self) -> int:
        """Number of heads, L."""
        return len(self.heads)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L K h w"]:
        """Raw outputs of every level."""
        features = self.backbone(images)
        return torch.stack([head(f) for head, f in zip(self.heads, features, strict=True)], dim=1)

    def forward_main(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K h w"]:
        """Raw output of level z alone: what teaches and what is used for inference."""
        return self.heads[0](self.backbone(images)[0])
