"""timm backbones that return the feature maps of their last stages."""

import difflib
import re
from typing import Any

import timm
import torch
from timm.models import FeatureInfo
from timm.models._features import FeatureGetterNet
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from semipose.errors import ConfigError
from semipose.models.weights import create_features, load_weights

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Normalization of every network's input (RGB, of values in [0, 1]), from ImageNet."""

MIN_REDUCTION = 4
"""Smallest stride of a stage with a head, which is the stride of the heatmaps."""


class Backbone(nn.Module):
    """A timm network whose output is the feature maps of its last L stages, the deepest (level z) first.

    Args:
        features: A timm network built with `features_only`, whose `out_indices` are the L stages.

    Attributes:
        info: timm's description of the stages.
        channels: Channels of each feature map.
        reductions: Stride of each feature map.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.info = _feature_info(features)
        self.channels: list[int] = self.info.channels()[::-1]
        self.reductions: list[int] = self.info.reduction()[::-1]
        self._frozen: list[nn.Module] = []

    @staticmethod
    def feature_options(name: str, stage: int, levels: int) -> dict[str, Any]:
        """Returns the timm options that select the stages for L = `levels` heads.

        Raises:
            ConfigError: If the network has too few stages.
        """
        reductions = _feature_info(timm.create_model(name, features_only=True, pretrained=False)).reduction()
        last = len(reductions) + stage
        first = last - levels + 1
        if first < 0 or reductions[first] < MIN_REDUCTION:
            usable = sum(r >= MIN_REDUCTION for r in reductions[: max(last, 0) + 1])
            raise ConfigError(
                f"`model.backbone`: {name} has {usable} stage(s) of stride {MIN_REDUCTION} or more up to stage "
                f"{stage}; levels={levels} needs more"
            )
        return {"out_indices": tuple(range(first, last + 1))}

    def freeze(self, stages: int) -> None:
        """Freezes the weights and BatchNorm statistics of the first `stages` stages.

        Raises:
            ConfigError: If no stage in use would be left to train.
        """
        names = self.info.module_name(list(range(max(self.info.out_indices) + 1)))
        if stages > len(names) - 1:
            raise ConfigError(f"`model.frozen_stages`: {stages} of {len(names)} stages; the last can't be frozen")
        # timm lists modules in the order of the forward pass, so everything up to the end of the stage is frozen.
        modules = [(n, m) for n, m in self.features.named_modules() if n]
        last = max(i for i, (n, _) in enumerate(modules) if _belongs_to(n, names[stages - 1]))
        inner = {n for n, _ in modules[: last + 1]}
        outer = {n for n in inner if any(m.startswith(n + ".") and m not in inner for m, _ in modules)}
        self._frozen = [m for n, m in modules[: last + 1] if n not in outer]
        for module in self._frozen:
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Sets the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Sets the normalization that the weights expect; `forward` converts images from ImageNet's to it."""
        mean_in, std_in, mean_out, std_out = (torch.tensor(v) for v in (MEAN, STD, mean, std))
        self.register_buffer("scale", (std_in / std_out).view(1, 3, 1, 1))
        self.register_buffer("shift", ((mean_in - mean_out) / std_out).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images (B, 3, H, W) to L feature maps (B, C, f, g), the deepest first."""
        return self.features(images * self.scale + self.shift)[::-1]

    def layers(self, name: str) -> dict[str, int]:
        """Returns the number of each parameter's layer, from the input, as timm groups those of the model `name`."""
        with torch.device("meta"):
            model: Any = timm.create_model(name, pretrained=False)
        matcher = model.group_matcher(coarse=False)
        names = {_name_in_model(n): n for n, _ in self.named_parameters()}
        layers = group_with_matcher(((n, None) for n in names), matcher, reverse=True)
        return {names[n]: layer for n, layer in layers.items()}

    def no_weight_decay(self) -> set[str]:
        """Returns the names of position embeddings and tokens, which timm exempts from weight decay."""
        model: Any = self.features.model if isinstance(self.features, FeatureGetterNet) else self.features
        exempt = set(model.no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
        return {n for n, _ in self.named_parameters() if _name_in_model(n) in exempt}

    def module_before(self, layer: int) -> nn.Module:
        """Returns the module whose output is the input of layer N as ResNet counts layers (stride 2 ** (N + 1)).

        Raises:
            ConfigError: If the backbone has no such layer in use.
        """
        modules = dict(self.features.named_modules())
        ends = {entry["reduction"]: self._end_of_stage(entry["module"], modules) for entry in self.info.info}
        before, end = ends.get(2**layer), ends.get(2 ** (layer + 1))
        if before is None or end is None:
            raise ConfigError(f"`method.mixup.places`: the backbone has no layer{layer}; use image or deconvolutions")
        # A ResNet pools between its stem and layer 1; for timm the stem ends before the pooling.
        return modules["maxpool"] if layer == 1 and "maxpool" in modules else before

    def _end_of_stage(self, stage: str, modules: dict[str, nn.Module]) -> nn.Module | None:
        return modules.get(stage) or modules.get(stage.replace(".", "_"))


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

    @staticmethod
    def feature_options(name: str, stage: int, levels: int) -> dict[str, Any]:
        """Returns the timm options that select the first L = `levels` branches.

        Raises:
            ConfigError: If `stage` is not the last stage, or there are fewer branches than levels.
        """
        if stage != -1 or levels > 4:
            raise ConfigError(
                f"`model.backbone`: {name} has 4 branches in stage -1 only; stage={stage}, levels={levels} needs more"
            )
        return {"feature_location": "", "out_indices": tuple(range(1, 1 + levels))}

    def freeze(self, stages: int) -> None:
        """Raises ConfigError, because the stages of an HRNet exchange features at all resolutions."""
        raise ConfigError(f"`model.frozen_stages`: {stages}, but HRNet can't be frozen in part; use 0")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images (B, 3, H, W) to L feature maps (B, C, f, g), the finest first."""
        return self.features(images * self.scale + self.shift)

    def _end_of_stage(self, stage: str, modules: dict[str, nn.Module]) -> nn.Module | None:
        return modules.get({"stem": "act2", "stage1": "layer1"}.get(stage, stage))


FAMILIES: dict[str, type[Backbone]] = {"hrnet": HighResolutionBackbone}
"""Backbones that need their own class, by the first word of timm's model name."""


def build_backbone(name: str, weights: str, stage: int, levels: int) -> Backbone:
    """Builds a backbone.

    Args:
        name: Name of a timm model.
        weights: `auto`, `none` or a file, as in `ModelConfig`.
        stage: Stage of level z, counted from the last stage: -1, -2, …
        levels: Number of feature maps L.

    Raises:
        ConfigError: If timm has no such model or the model has too few stages.
        WeightsError: If the weights can't be fetched or do not fit.
    """
    if not timm.is_model(name):
        similar = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=5)) or "see timm.list_models()"
        raise ConfigError(f"`model.backbone`: timm has no model {name!r}; similar: {similar}")
    family = FAMILIES.get(name.split("_")[0], Backbone)
    features = create_features(name, weights, family.feature_options(name, stage, levels))
    _remove_unused_blocks(features)
    backbone = family(features)
    load_weights(features, name, weights)
    pretrained = timm.get_pretrained_cfg(name) if weights != "none" else None
    mean, std = (pretrained.mean, pretrained.std) if pretrained else (MEAN, STD)
    backbone.set_normalization(mean, std)
    return backbone


def _feature_info(features: nn.Module) -> FeatureInfo:
    info = features.feature_info
    assert isinstance(info, FeatureInfo)
    return info


def _name_in_model(name: str) -> str:
    """Returns the name in timm's model of a parameter of a backbone; some wrappers write `stages.0` as `stages_0`."""
    return re.sub(r"^([a-z_]+)_(\d+)\.", r"\1.\2.", name.removeprefix("features.").removeprefix("model."))


def _belongs_to(module: str, stage: str) -> bool:
    """Returns whether a module is part of a stage; some timm wrappers write `stages.0` as `stages_0`."""
    return any(module == s or module.startswith(s + ".") for s in (stage, stage.replace(".", "_")))


def _remove_unused_blocks(features: nn.Module) -> None:
    """Removes the blocks after the last stage in use, which timm's EfficientNets and MobileNets keep and run."""
    info = _feature_info(features)
    last = info.module_name(max(info.out_indices))
    if last.startswith("blocks.") and not isinstance(features, FeatureGetterNet):
        blocks: Any = features.blocks
        features.blocks = blocks[: int(last.removeprefix("blocks.")) + 1]
