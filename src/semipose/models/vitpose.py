"""ViTPose's transformer, and its weights in the layout of the library transformers under the names of ours.

Reference: Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation", NeurIPS 2022, and
"ViTPose++", TPAMI 2024.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from semipose.errors import WeightsError

INPUT_SIZE = (256, 192)
"""Height and width of the images that the weights were trained on."""


@dataclass(frozen=True)
class Size:
    """Width, depth and attention heads of a transformer."""

    width: int
    depth: int
    heads: int


SIZES = {
    "vitpose_small": Size(384, 12, 12),
    "vitpose_base": Size(768, 12, 12),
    "vitpose_large": Size(1024, 24, 16),
    "vitpose_huge": Size(1280, 32, 16),
}
"""The transformers by backbone name."""

EXPERT = 0
"""The expert of ViTPose+ for people with COCO's joints."""


class _PaddedPatchEmbed(PatchEmbed):
    """Patches of a 16×16 convolution that begins two pixels outside of the image."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.proj.padding = (2, 2)


def create_vitpose(name: str) -> VisionTransformer:
    """Returns the transformer of that name with random weights; its position embeddings are resampled to the image."""
    size = SIZES[name]
    return VisionTransformer(
        img_size=INPUT_SIZE,
        patch_size=16,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        num_classes=0,
        global_pool="avg",
        class_token=False,
        fc_norm=False,
        embed_layer=_PaddedPatchEmbed,
        dynamic_img_size=True,
    )


def is_vitpose(state: Mapping[str, Tensor]) -> bool:
    """Returns whether tensors have the names of transformers' `VitPoseForPoseEstimation`."""
    return "backbone.embeddings.position_embeddings" in state and "head.conv.weight" in state


def backbone_name(state: Mapping[str, Tensor]) -> str:
    """Returns the name of the backbone whose weights these are.

    Raises:
        WeightsError: If no size of ViTPose fits.
    """
    width = state["backbone.embeddings.position_embeddings"].shape[-1]
    depth = 1 + max(int(n.split(".")[3]) for n in state if n.startswith("backbone.encoder.layer."))
    for name, size in SIZES.items():
        if (size.width, size.depth) == (width, depth):
            return name
    raise WeightsError(f"ViTPose of width {width} and depth {depth} is unknown; known: {', '.join(SIZES)}")


def backbone_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of the transformer under timm's names.

    The position embedding of the class token, which ViTPose adds to every patch, is added to the others. The
    multilayer perceptrons of ViTPose+ end in layers that are in part shared and in part of an expert; those of
    `EXPERT` are taken.
    """
    found: dict[str, Tensor] = {}
    embeddings = state["backbone.embeddings.position_embeddings"]
    found["pos_embed"] = embeddings[:, 1:] + embeddings[:, :1]
    for kind in ("weight", "bias"):
        found[f"patch_embed.proj.{kind}"] = state[f"backbone.embeddings.patch_embeddings.projection.{kind}"]
        found[f"norm.{kind}"] = state[f"backbone.layernorm.{kind}"]
    for i in range(SIZES[backbone_name(state)].depth):
        for kind in ("weight", "bias"):
            layer = _layer(state, f"backbone.encoder.layer.{i}.", kind)
            found |= {f"blocks.{i}.{name}.{kind}": tensor for name, tensor in layer.items()}
    return found


def _layer(state: Mapping[str, Tensor], prefix: str, kind: str) -> dict[str, Tensor]:
    def get(name: str) -> Tensor:
        return state[f"{prefix}{name}.{kind}"]

    fc2, expert = get("mlp.fc2"), f"{prefix}mlp.experts.{EXPERT}.{kind}"
    return {
        "attn.qkv": torch.cat([get(f"attention.attention.{part}") for part in ("query", "key", "value")]),
        "attn.proj": get("attention.output.dense"),
        "norm1": get("layernorm_before"),
        "norm2": get("layernorm_after"),
        "mlp.fc1": get("mlp.fc1"),
        "mlp.fc2": torch.cat([fc2, state[expert]]) if expert in state else fc2,
    }


def head_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of the head under the names of `SimpleHead` or `DeconvHead`."""
    found = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"head\.(conv|deconv|batchnorm)(\d?)\.(\w+)", name):
            part, number, kind = match.groups()
            place = f"deconvolutions.{3 * (int(number) - 1) + (part == 'batchnorm')}" if number else "final"
            found[f"{place}.{kind}"] = tensor
    return found
