"""The base class of backbones, and what it asks timm."""

import inspect
import math
import re
from typing import Any

import timm
import torch
from timm.models import FeatureInfo
from timm.models._features import FeatureGetterNet
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from semipose.errors import ConfigError
from semipose.models.vitpose import SIZES, create_vitpose

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
        self.info = feature_info(features)
        self.channels: list[int] = self.info.channels()[::-1]
        self.reductions: list[int] = self.info.reduction()[::-1]
        self._frozen: list[nn.Module] = []
        self._fixed_size = _fixed_size(features)

    @classmethod
    def create(cls, name: str, stage: int, levels: int, pretrained: bool) -> nn.Module:
        """Builds the timm network with the stages for L = `levels` heads.

        Raises:
            ConfigError: If the network has too few stages.
        """
        # The probe's random weights are not used, but seeded trainings begin after the numbers that it draws.
        probe = probe_network(name, torch.get_default_device())
        reductions = feature_info(probe).reduction()
        last = len(reductions) + stage
        first = last - levels + 1
        if first < 0 or reductions[first] < MIN_REDUCTION:
            usable = sum(r >= MIN_REDUCTION for r in reductions[: max(last, 0) + 1])
            raise too_few_stages(name, usable, stage, levels)
        options = size_options(probe)
        if isinstance(probe, FeatureGetterNet):
            options["feature_cls"] = "getter"
        features: nn.Module = timm.create_model(
            name, features_only=True, pretrained=pretrained, out_indices=tuple(range(first, last + 1)), **options
        )
        _remove_unused_blocks(features)
        return features

    @property
    def model(self) -> Any:
        """The timm network inside of its wrapper."""
        return self.features.model if isinstance(self.features, FeatureGetterNet) else self.features

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the tensors of a weights file under timm's names."""
        return state

    def stage_ends(self) -> list[str]:
        """Returns the name of the last module of each stage, up to the last one in use."""
        return self.info.module_name(list(range(max(self.info.out_indices) + 1)))

    def freeze(self, stages: int) -> None:
        """Freezes the weights and BatchNorm statistics of the first `stages` stages.

        Raises:
            ConfigError: If no stage in use would be left to train.
        """
        names = self.stage_ends()
        if stages > len(names) - 1:
            raise ConfigError(f"`model.frozen_stages`: {stages} of {len(names)} stages; the last can't be frozen")
        # timm lists modules in the order of the forward pass, so everything up to the end of the stage is frozen.
        modules = [(n, m) for n, m in self.model.named_modules() if n]
        last = max(i for i, (n, _) in enumerate(modules) if _belongs_to(n, names[stages - 1]))
        inner = {n for n, _ in modules[: last + 1]}
        outer = {n for n in inner if any(m.startswith(n + ".") and m not in inner for m, _ in modules)}
        self._frozen = [m for n, m in modules[: last + 1] if n not in outer]
        for module in self._frozen:
            module.requires_grad_(False).eval()
        for parameter in self.model.parameters(recurse=False):  # position embeddings and tokens
            parameter.requires_grad_(False)

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
        self.check_size((images.shape[-2], images.shape[-1]))
        return self.features(images * self.scale + self.shift)[::-1]

    def check_size(self, size: tuple[int, int]) -> None:
        """Checks the height and width of images.

        Raises:
            ConfigError: If this network takes images of one other size only.
        """
        if self._fixed_size and size != self._fixed_size:
            height, width = self._fixed_size
            raise ConfigError(
                f"`input`: this backbone takes images of {height}×{width} only, not of {size[0]}×{size[1]}; set "
                f"input.height={height} input.width={width}"
            )

    def layers(self, name: str) -> dict[str, int]:
        """Returns the number of each parameter's layer, from the input, as timm groups those of the model `name`."""
        with torch.device("meta"):
            model: Any = create_vitpose(name) if name in SIZES else timm.create_model(name, pretrained=False)
        matcher = model.group_matcher(coarse=False)
        names = {_name_in_model(n): n for n, _ in self.named_parameters()}
        layers = group_with_matcher(((n, None) for n in names), matcher, reverse=True)
        return {names[n]: layer for n, layer in layers.items()}

    def no_weight_decay(self) -> set[str]:
        """Returns the names of position embeddings and tokens, which timm exempts from weight decay."""
        exempt = set(self.model.no_weight_decay()) if hasattr(self.model, "no_weight_decay") else set()
        return {n for n, _ in self.named_parameters() if _name_in_model(n) in exempt}

    def module_before(self, layer: int) -> nn.Module:
        """Returns the module whose output is the input of layer N as ResNet counts layers (stride 2 ** (N + 1)).

        Raises:
            ConfigError: If the backbone has no such layer in use.
        """
        modules = dict(self.model.named_modules())
        ends = {entry["reduction"]: self._end_of_stage(entry["module"], modules) for entry in self.info.info}
        before, end = ends.get(2**layer), ends.get(2 ** (layer + 1))
        if before is None or end is None:
            raise ConfigError(f"`method.mixup.places`: the backbone has no layer{layer}; use image or deconvolutions")
        # A ResNet pools between its stem and layer 1; for timm the stem ends before the pooling.
        return modules["maxpool"] if layer == 1 and "maxpool" in modules else before

    def _end_of_stage(self, stage: str, modules: dict[str, nn.Module]) -> nn.Module | None:
        return modules.get(stage) or modules.get(stage.replace(".", "_"))


def probe_network(name: str, device: torch.device | str = "meta") -> nn.Module:
    """Returns a timm network, by default without memory; one that gives (B, H, W, C) maps as a getter of others.

    Raises:
        ConfigError: If the network has no feature maps.
    """
    try:
        with torch.device(device):
            probe: Any = timm.create_model(name, features_only=True, pretrained=False)
            if getattr(probe, "output_fmt", "NCHW") != "NCHW":
                probe = timm.create_model(name, features_only=True, pretrained=False, feature_cls="getter")
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ConfigError(f"`model.backbone`: {name!r} has no feature maps: {error}") from error
    return probe


def size_options(probe: nn.Module) -> dict[str, Any]:
    """Returns the timm options with which a network takes images of any size."""
    if not isinstance(probe, FeatureGetterNet):
        return {}
    model: Any = probe.model
    if "dynamic_img_size" not in inspect.signature(type(model)).parameters:
        return {}
    options: dict[str, Any] = {"dynamic_img_size": True}
    if not math.log2(model.patch_embed.patch_size[0]).is_integer():
        options["patch_size"] = 16
    return options


def _fixed_size(features: nn.Module) -> tuple[int, int] | None:
    """Returns the height and width of the images of a network that takes no others, else None."""
    model: Any = features.model if isinstance(features, FeatureGetterNet) else features
    config: Any = getattr(model, "pretrained_cfg", {})
    if not config.get("fixed_input_size") or size_options(features):
        return None
    height, width = config["input_size"][1:]
    return height, width


def too_few_stages(name: str, usable: int, stage: int, levels: int) -> ConfigError:
    """Returns the error of a backbone whose `usable` stages are fewer than the levels."""
    return ConfigError(
        f"`model.backbone`: {name} has {usable} stage(s) of stride {MIN_REDUCTION} or more up to stage {stage}; "
        f"levels={levels} needs more; lower `method.levels` or take a later `model.stage`"
    )


def feature_info(features: nn.Module) -> FeatureInfo:
    """Returns timm's description of the stages of a network built with `features_only`."""
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
    info = feature_info(features)
    last = info.module_name(max(info.out_indices))
    if last.startswith("blocks.") and not isinstance(features, FeatureGetterNet):
        blocks: Any = features.blocks
        features.blocks = blocks[: int(last.removeprefix("blocks.")) + 1]
