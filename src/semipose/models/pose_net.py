"""PoseNet: a timm backbone with one heatmap head per feature level."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from semipose.errors import ConfigError
from semipose.models.backbone import Backbone
from semipose.models.backbones import build_backbone
from semipose.models.heads import HEADS
from semipose.utils.section import Section


class ModelConfig(Section):
    """The network."""

    backbone: str = "resnet18"
    """Any timm model with feature maps (resnet18, hrnet_w32, convnext_tiny, vit_small_patch14_dinov2 …), or
    vitpose_small, vitpose_base, vitpose_large, vitpose_huge."""
    weights: str = "auto"
    """Pretrained weights: `auto` (from an installed package, else from the hub), a local file, a name of ViTPose's
    weights on the hub (`vitpose-plus-base`), or `none`."""
    stage: int = Field(-1, le=-1)
    """Backbone stage of the main head, counted from the last; -1 in the papers, -2 halves the cost of the head. The
    stages of a plain transformer are quarters of its depth."""
    frozen_stages: int = Field(0, ge=0)
    """Number of backbone stages, from the first, that stay frozen; 0 in the papers, more for few labels."""
    head: Literal["deconvolution", "simple"] = "deconvolution"
    """`deconvolution`, as in the papers, or ViTPose's `simple` head: enlarged features and one convolution."""
    head_channels: int = Field(256, ge=1)
    """Channels of each deconvolution; 256 in the papers, 64 for a light head on a small backbone."""


class PoseNet(nn.Module):
    """A backbone with L heads.

    Input images are normalized with ImageNet's mean and standard deviation. If the backbone's weights expect other
    values, the network converts the images.

    Args:
        config: Backbone, weights and head.
        joints: Number of joints K.
        levels: Number of levels L. In the notation of TRS, eq. 8, level 0 is z and level 1 is p.
        pretrained: Whether to load pretrained weights; false for a network whose weights are loaded later.

    Raises:
        ConfigError: If the backbone does not exist or has too few stages.
        WeightsError: If the pretrained weights do not fit.
    """

    def __init__(self, config: ModelConfig, joints: int, levels: int = 1, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = build_backbone(
            config.backbone, config.weights if pretrained else "none", config.stage, levels
        )
        if config.frozen_stages:
            self.backbone.freeze(config.frozen_stages)
        self.heads = nn.ModuleList(
            HEADS[config.head](channels, reduction, joints, config.head_channels)
            for channels, reduction in zip(self.backbone.channels, self.backbone.reductions, strict=True)
        )

    def copy_weights_from(self, other: "PoseNet", joints: Sequence[tuple[int, int]]) -> None:
        """Copies the backbone weights of `other`, and of heads that are built alike those of shared joints.

        Args:
            other: A network with the same backbone.
            joints: The joints that both networks have: the index in this network and in `other`. Without any, the
                heads stay as they are.

        Raises:
            ConfigError: If `other` lacks stages or levels of this network.
        """
        weights, own_names = other.backbone.state_dict(), self.backbone.state_dict().keys()
        if missing := own_names - weights.keys():
            raise ConfigError(
                f"`train.start`: the network at the start has model.stage={other.config.stage} and {other.levels} "
                f"levels, which lack {len(missing)} tensors of model.stage={self.config.stage} with {self.levels} "
                f"levels, such as {min(missing)!r}; set `model.stage` and `method.levels` to those of the start"
            )
        self.backbone.load_state_dict({name: weights[name] for name in own_names})
        for head, source in zip(self.heads, other.heads, strict=False) if joints else ():
            own, given = head.state_dict(), source.state_dict()
            if _shapes_without_joints(own) != _shapes_without_joints(given):
                continue
            rows, others = (torch.tensor(indices) for indices in zip(*joints, strict=True))
            for name in ("final.weight", "final.bias"):
                given[name] = own[name].clone().index_copy_(0, rows, given[name][others])
            head.load_state_dict(given)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Returns the function from a parameter's name to the number of its layer, as timm's models do; heads are last.

        Args:
            coarse: Not used; timm calls it with False.
        """
        layers = self.backbone.layers(self.config.backbone)
        last = 1 + max(layers.values())
        return lambda name: layers.get(name.removeprefix("backbone."), last)

    def no_weight_decay(self) -> set[str]:
        """Returns the names of parameters without weight decay besides norms and biases, as timm's models do."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    @property
    def levels(self) -> int:
        """Number of levels L."""
        return len(self.heads)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L K h w"]:
        """Returns the raw outputs of all levels."""
        features = self.backbone(images)
        return torch.stack([head(f) for head, f in zip(self.heads, features, strict=True)], dim=1)

    def forward_main(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K h w"]:
        """Returns the raw outputs of level z, which teachers and inference use."""
        return self.heads[0](self.backbone(images)[0])


def _shapes_without_joints(head: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Returns the shapes of a head's tensors, without the number of heatmaps."""
    return {name: tensor.shape[name.startswith("final.") :] for name, tensor in head.items()}
