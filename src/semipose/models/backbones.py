"""timm backbones that return the feature maps of their last stages."""

import difflib
import math
import sys
from typing import Any

import timm
from timm.layers import resample_abs_pos_embed
from timm.models._features import FeatureGetterNet
from timm.models.hiera import Reroll
from torch import Tensor, nn

from semipose.errors import ConfigError
from semipose.models.backbone import MEAN, STD, Backbone, feature_info, probe_network, size_options, too_few_stages
from semipose.models.vitpose import SIZES, backbone_weights, create_vitpose, is_vitpose
from semipose.models.weights import fetching, load_weights


class HighResolutionBackbone(Backbone):
    """HRNet: level z is the branch of stride 4, and further levels are the coarser branches of the last stage.

    Reference: Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__(features)
        self.channels, self.reductions = self.channels[::-1], self.reductions[::-1]
        # The pose network needs the fused branches in use only; timm builds all four.
        stage4: Any = features.stage4
        stage4[-1].fuse_layers = stage4[-1].fuse_layers[: len(self.info.out_indices)]

    @classmethod
    def create(cls, name: str, stage: int, levels: int, pretrained: bool) -> nn.Module:
        """Builds the timm network with the first L = `levels` branches.

        Raises:
            ConfigError: If `stage` is not the last stage, or there are fewer branches than levels.
        """
        if stage != -1 or levels > 4:
            raise ConfigError(
                f"`model.backbone`: {name} has 4 branches in stage -1 only; stage={stage}, "
                f"levels={levels} needs more; lower `method.levels` or take stage -1"
            )
        features: nn.Module = timm.create_model(
            name,
            features_only=True,
            pretrained=pretrained,
            feature_location="",
            out_indices=tuple(range(1, 1 + levels)),
        )
        return features

    def stage_ends(self) -> list[str]:
        """Returns the name of the last module of each stage; the first stage is called layer1."""
        return ["layer1", "stage2", "stage3", "stage4"]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images (B, 3, H, W) to L feature maps (B, C, f, g), the finest first."""
        return self.features(images * self.scale + self.shift)

    def _end_of_stage(self, stage: str, modules: dict[str, nn.Module]) -> nn.Module | None:
        return modules.get({"stem": "act2", "stage1": "layer1"}.get(stage, stage))


class PlainTransformer(Backbone):
    """A transformer with one stride throughout: its four stages are quarters of its depth.

    Patches of 14 pixels become patches of 16, whose embedding is resampled, so that images of any multiple of 16 fit
    and heatmaps have a quarter of their size. Position embeddings are resampled to the image. The network's last norm
    is applied to every level.

    Reference: Li et al., ECCV 2022 (ViTDet), for plain backbones; Beyer et al., CVPR 2023 (FlexiViT), for resampling.
    """

    STAGES = 4

    @classmethod
    def create(cls, name: str, stage: int, levels: int, pretrained: bool) -> nn.Module:
        """Builds the timm network with levels at the ends of its quarters.

        Raises:
            ConfigError: If there are fewer quarters than levels.
        """
        last = cls.STAGES + stage
        if last - levels + 1 < 0:
            raise too_few_stages(name, max(0, last + 1), stage, levels)
        if name in SIZES:
            model: Any = create_vitpose(name)
        else:
            model = timm.create_model(name, pretrained=pretrained, num_classes=0, **size_options(probe_network(name)))
        if not hasattr(model, "blocks") or not hasattr(model, "norm"):
            raise ConfigError(f"`model.backbone`: {name} lacks the blocks and the norm of a plain transformer")
        if isinstance(model.norm, nn.Identity):  # networks that average their features have their last norm after it
            model.norm, model.fc_norm = model.fc_norm, nn.Identity()
        depth = len(model.blocks)
        ends = tuple(depth * (n + 1) // cls.STAGES - 1 for n in range(last - levels + 1, last + 1))
        return FeatureGetterNet(model, out_indices=ends, norm=True)

    def stage_ends(self) -> list[str]:
        """Returns the name of the last block of each quarter, up to the last one in use."""
        depth, last = len(self.info.info), max(self.info.out_indices)
        ends = [depth * (n + 1) // self.STAGES - 1 for n in range(self.STAGES)]
        return [f"blocks.{end}" for end in ends if end <= last]

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns weights of other libraries under timm's names, with embeddings resampled to this network's."""
        if is_vitpose(state):
            return backbone_weights(state)
        convert = getattr(sys.modules[type(self.model).__module__], "checkpoint_filter_fn", None)
        return convert(state, self.model) if convert else state


class HieraBackbone(Backbone):
    """Hiera for images of any size; timm's takes one size.

    Reference: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", ICML 2023.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__(features)
        for block in self.model.blocks:
            if (
                block.attn.use_mask_unit_attn
            ):  # five dimensions: no fused kernel takes them, nor does the export to ONNX
                block.attn.fused_attn = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images (B, 3, H, W), H and W multiples of 32, to L feature maps (B, C, f, g), the deepest first."""
        model = self.model
        size = [length // stride for length, stride in zip(images.shape[2:], model.patch_stride, strict=True)]
        tokens = model.patch_embed(images * self.scale + self.shift)
        if model.pos_embed_win is not None:
            model.mask_spatial_shape = [a // b for a, b in zip(size, model.mask_unit_size, strict=True)]
            tokens = model._pos_embed(tokens)
        else:
            shape = model.tokens_spatial_shape
            tokens = tokens + resample_abs_pos_embed(model.pos_embed, size, shape, num_prefix_tokens=0)
        model.unroll.size = size
        strides = [model.q_stride] * (len(model.stage_ends) - 1)
        reroll = Reroll(tuple(images.shape[2:]), model.patch_stride, strides, model.stage_ends, model.q_pool)
        ends = [model.stage_ends[i] for i in self.info.out_indices]
        tokens, maps = model.unroll(tokens), []
        for i, block in enumerate(model.blocks):
            tokens = block(tokens)
            if i in ends:
                maps.append(reroll(tokens, i).permute(0, 3, 1, 2))
        return maps[::-1]


FAMILIES: dict[str, type[Backbone]] = {
    "HighResolutionNetFeatures": HighResolutionBackbone,
    "Hiera": HieraBackbone,
}
"""Backbones that need their own class besides plain transformers, by the class of timm's network."""


def build_backbone(name: str, weights: str, stage: int, levels: int) -> Backbone:
    """Builds a backbone.

    Args:
        name: Name of a timm model, or of a transformer of ViTPose (`vitpose_base`).
        weights: `auto`, `none` or a file, as in `ModelConfig`.
        stage: Stage of level z, counted from the last stage: -1, -2, …
        levels: Number of feature maps L.

    Raises:
        ConfigError: If there is no such model or the model has too few stages.
        WeightsError: If the weights can't be fetched or do not fit.
    """
    if name not in SIZES and not timm.is_model(name):
        known = [*timm.list_models(), *SIZES]
        similar = ", ".join(difflib.get_close_matches(name, known, n=5)) or "see timm.list_models()"
        raise ConfigError(f"`model.backbone`: timm has no model {name!r}; similar: {similar}")
    family = _family(name)
    with fetching(name, weights) as fetch:
        features = family.create(name, stage, levels, fetch)
    backbone = family(features)
    if odd := [stride for stride in backbone.reductions if not math.log2(stride).is_integer()]:
        raise ConfigError(f"`model.backbone`: {name} has feature maps of stride {odd[0]}, which is no power of two")
    load_weights(features, name, weights, backbone.convert)
    pretrained = timm.get_pretrained_cfg(name) if weights != "none" and name not in SIZES else None
    mean, std = (pretrained.mean, pretrained.std) if pretrained else (MEAN, STD)
    backbone.set_normalization(mean, std)
    return backbone


def _family(name: str) -> type[Backbone]:
    if name in SIZES:
        return PlainTransformer
    probe: Any = probe_network(name)
    if isinstance(probe, FeatureGetterNet) and len(set(feature_info(probe).reduction())) == 1:
        return PlainTransformer
    return FAMILIES.get(type(probe.model if isinstance(probe, FeatureGetterNet) else probe).__name__, Backbone)
