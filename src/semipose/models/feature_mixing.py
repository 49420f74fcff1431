"""A forward pass that mixes samples at a chosen place of a PoseNet: the image, before a backbone layer, in the head."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semipose.errors import ConfigError
from semipose.models.backbones import Backbone
from semipose.models.pose_net import PoseNet

Place = Literal["image", "layer1", "layer2", "layer3", "layer4", "deconvolutions", "final"]
"""The input, before layer N (in ResNet's counting), before the deconvolutions, before the final 1×1 convolution."""

HRNET_STAGES = {"stem": "act2", "stage1": "layer1"}
"""timm's feature table of HRNet names these two stages otherwise than the modules that end them."""

Mix = Callable[[Tensor], Tensor]


def mixed_forward(
    network: nn.Module, images: Float[Tensor, "B 3 H W"], mix: Mix, place: Place
) -> Float[Tensor, "B L K h w"]:
    """A PoseNet's raw outputs when `mix`, a map of (B, ...) tensors to the same shape, is applied at `place`.

    Raises ConfigError when the backbone has no such place in use.
    """
    if place == "image":
        return network(mix(images))
    assert isinstance(network, PoseNet)
    if place in ("deconvolutions", "final"):
        parts = [getattr(head, place) for head in network.heads]
        handles = [part.register_forward_pre_hook(lambda _, inputs: (mix(inputs[0]),)) for part in parts]
    else:
        before = _end_of_previous(network.backbone, int(place[-1]))
        handles = [before.register_forward_hook(lambda _, __, output: _mix_all(output, mix))]
    try:
        # Calls `forward` itself: code compiled before the hooks were there would not run them.
        features = network.backbone.forward(images)
        return torch.stack([head.forward(f) for head, f in zip(network.heads, features, strict=True)], dim=1)
    finally:
        for handle in handles:
            handle.remove()


def _mix_all(output: Any, mix: Mix) -> Any:
    """HRNet's stages pass lists of branches on."""
    return [mix(branch) for branch in output] if isinstance(output, list) else mix(output)


def _end_of_previous(backbone: Backbone, layer: int) -> nn.Module:
    """The module whose output enters layer N: the one that ends the stage of stride 2^N."""
    info: Any = backbone.features.feature_info
    ends = {entry["reduction"]: entry["module"] for entry in info.info}
    modules = dict(backbone.features.named_modules())
    found = []
    for stride in (2**layer, 2 ** (layer + 1)):  # the layer itself must be in use too
        name = ends.get(stride, "")
        found.append(modules.get(HRNET_STAGES.get(name, name)) or modules.get(name.replace(".", "_")))
    if not ends.get(2**layer) or found[0] is None or found[1] is None:
        raise ConfigError(f"method.mixup.places: the backbone has no layer{layer} in use; take image or deconvolutions")
    # A ResNet's stem ends with a pooling that timm's table does not count to it.
    return modules["maxpool"] if layer == 1 and "maxpool" in modules else found[0]
