"""Forward passes that mix samples in the input, before a layer of the backbone, or in the head."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semipose.models.pose_net import PoseNet

Place = Literal["image", "layer1", "layer2", "layer3", "layer4", "deconvolutions", "final"]
"""The input image, or the input of layer N (as ResNet counts layers), of the deconvolutions, or of the final 1×1
convolution."""

Mix = Callable[[Tensor], Tensor]
"""A function from a (B, ...) tensor to a tensor of the same shape."""


def mixed_forward(
    network: nn.Module, images: Float[Tensor, "B 3 H W"], mix: Mix, place: Place
) -> Float[Tensor, "B L K h w"]:
    """Returns the raw outputs of a PoseNet with `mix` applied to the features at `place`.

    Raises:
        ConfigError: If the backbone has no such place in use.

    Reference: Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", ICML 2019.
    """
    if place == "image":
        return network(mix(images))
    assert isinstance(network, PoseNet)
    handles = []
    if place == "final":
        finals = [head.get_submodule("final") for head in network.heads]
        handles = [final.register_forward_pre_hook(lambda _, inputs: (mix(inputs[0]),)) for final in finals]
    elif place != "deconvolutions":
        before = network.backbone.module_before(int(place[-1]))
        handles = [before.register_forward_hook(lambda _, __, output: _mix_features(output, mix))]
    try:
        # Calls `forward` directly: code that was compiled before the hooks existed would not run them.
        features = network.backbone.forward(images)
        if place == "deconvolutions":
            features = [mix(level) for level in features]
        return torch.stack([head.forward(f) for head, f in zip(network.heads, features, strict=True)], dim=1)
    finally:
        for handle in handles:
            handle.remove()


def _mix_features(output: Tensor | list[Tensor], mix: Mix) -> Tensor | list[Tensor]:
    """Mixes a feature map, or each of the branches that an HRNet stage returns as a list."""
    return [mix(branch) for branch in output] if isinstance(output, list) else mix(output)
