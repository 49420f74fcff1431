"""PoseModel: a network with everything needed to use it, as a pair of files: NAME.safetensors and NAME.json."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from semipose.data.crops import CropGeometry
from semipose.errors import ConfigError, DataError, WeightsError
from semipose.inference.predictor import FrameCrops, Predictor
from semipose.losses import HeatmapLoss, LossConfig
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.ops.heatmaps import Decoder
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import Skeleton
from semipose.utils.files import SUMS, replacing, unchanged, write_text

FORMAT = 1
ENSEMBLE = "ensemble"
"""In place of a network's name: all that the method's figure is the mean of."""
Built = TypeVar("Built")


@dataclass(frozen=True)
class PoseModel:
    """A network, its skeleton, how its input is cut and how its output is read.

    `beside`: networks of the same run whose heatmaps are averaged with this one's (an ensemble). `reported`: the
    networks of its run that its method's figure is the mean of.
    """

    network: nn.Module
    name: str
    model: ModelConfig
    levels: int
    skeleton: Skeleton
    geometry: CropGeometry
    loss: LossConfig
    decoder: Decoder = "dark"
    ensemble_members: tuple["PoseModel", ...] = ()
    headline_networks: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> "PoseModel":
        """Moves all its networks, in place; returns itself."""
        for network in self.networks:
            network.to(device)
        return self

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks whose heatmaps are averaged; mostly one."""
        return self.network, *(model.network for model in self.ensemble_members)

    @property
    def criterion(self) -> HeatmapLoss:
        """Turns raw outputs into heatmaps."""
        return self.loss.build()

    def predict(
        self, image: np.ndarray, boxes: Sequence[Sequence[float]] | None = None, *, flip_test: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, K, 2) in pixels of `image` and their scores (N, K) for N `boxes` [x, y, width, height].

        `image` (H, W, 3) uint8 RGB; without boxes the whole image is one person. Runs where the network is.
        Raises DataError for an image of another kind or a box without an area.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            what = f"{image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
            raise DataError(f"predict needs an image (H, W, 3) of uint8 as a NumPy array, not {what}")
        places = np.array([(0, 0, image.shape[1], image.shape[0])] if boxes is None else boxes, dtype=float)
        if places.size and (places.ndim != 2 or places.shape[1] != 4 or not np.isfinite(places).all()):
            raise DataError("predict needs a list of boxes [x, y, width, height]")
        if places.size and not (places[:, 2:] > 0).all():
            raise DataError("predict needs boxes [x, y, width, height] with an area")
        device = next(self.network.parameters()).device
        predictor = Predictor(self.networks, self.criterion, flip_test, self.decoder, self.loss.sigma, device=device)
        people = (Instance(Path(), 0, -n - 1, tuple(map(float, box))) for n, box in enumerate(places))  # type: ignore[arg-type]
        found = predictor.predict(FrameCrops(image, PoseDataset(self.skeleton, people, "image"), self.geometry))
        k = len(self.skeleton)
        return np.array([p.joints for p in found]).reshape(-1, k, 2), np.array([p.scores for p in found]).reshape(-1, k)

    def save(self, path: Path, state: dict[str, Tensor] | None = None, sums: Path | None = None) -> None:
        """Writes `path` (.safetensors) and the description beside it (.json), each by renaming.

        `state` is written in place of the network's own weights; `sums` is the folder whose SHA256SUMS knows both.
        Raises OSError; what was there stays then. ConfigError for an ensemble: a file holds one network.
        """
        if self.ensemble_members:
            raise ConfigError(f"the {self.name} is no single network; save each, or export it as one file")
        own = self.network.state_dict() if state is None else state
        tensors = {n: t.detach().cpu().contiguous() for n, t in own.items()}
        with replacing(path, sums) as temporary:
            temporary.write_bytes(save(tensors))  # save_file would leave it readable by its owner alone
        description = {
            "format": FORMAT,
            "network": self.name,
            "model": self.model.model_dump(),
            "levels": self.levels,
            "skeleton": {
                "name": self.skeleton.name,
                "joints": self.skeleton.joints,
                "flip_pairs": self.skeleton.flip_pairs,
                "sigmas": self.skeleton.sigmas,
                "limbs": self.skeleton.limbs,
            },
            "input_size": self.geometry.input_size,
            "padding": self.geometry.padding,
            "loss": self.loss.model_dump(),
            "decoder": self.decoder,
            "headline_networks": self.headline_networks,
        }
        write_text(description_path(path), json.dumps(description, indent=1), sums)


def description_path(weights: Path) -> Path:
    """best.safetensors is described by model.json, any other NAME.safetensors by NAME.json."""
    return weights.with_name("model.json") if weights.stem == "best" else weights.with_suffix(".json")


def load_pose_model(path: Path | str, network: str | None = None) -> PoseModel:
    """The model of a run folder (its best) or of one .safetensors file; WeightsError says what is missing or unfit.

    `network` takes another of the run's networks by its name, or `ensemble`: those whose mean is the method's figure,
    their heatmaps averaged. ConfigError where the run has none of that name.
    Files of a run are what its SHA256SUMS says; a weights file elsewhere, with its description, needs none.
    """
    path = Path(path)
    if network is not None:
        return _together([_load(weights) for weights in _named(path, network)])
    return _load(path / "best.safetensors" if path.is_dir() else path)


def _load(weights: Path) -> PoseModel:
    if not weights.is_file() and (weights.parent / "last" / "state.pt").is_file():
        raise WeightsError(f"{weights.parent} was stopped before its first evaluation; continue it with --resume")
    if not weights.is_file():
        raise WeightsError(f"no weights at {weights}; give a run folder or a .safetensors file written by semipose")
    require_unchanged(weights)
    model = _described(weights, _build)
    _fill(model.network, weights)
    return model


def _named(folder: Path, network: str) -> list[Path]:
    """Weights files of a run's network or of its ensemble."""
    if not folder.exists():
        raise WeightsError(f"no run folder {folder}; check the path")
    if not folder.is_dir():
        raise ConfigError(f"--network {network} names a network of a run folder, and {folder} is none; leave it out")
    known = weights_of(folder)
    together = _reported(folder, known)
    if network == ENSEMBLE and all(name in known for name in together) and len(together) > 1:
        return [known[name] for name in together]
    if network not in known:
        names = [*known, *([ENSEMBLE] if len(together) > 1 else [])]
        raise ConfigError(f"--network {network} is no network of {folder}; it has {', '.join(names) or 'none yet'}")
    return [known[network]]


def weights_of(folder: Path) -> dict[str, Path]:
    """The weights files of a run by the name of their network, without what is being written."""
    found = sorted((folder / "weights").glob("*.safetensors"))
    return {path.stem: path for path in found if not path.name.startswith(".")}


def _reported(folder: Path, known: dict[str, Path]) -> list[str]:
    """Networks that make up the figure of a run's method, from their descriptions; of older runs from its scores."""
    for path in [*map(description_path, known.values()), folder / "scores.json"]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return list(json.loads(path.read_text())["headline_networks"])
    return []


def _together(models: list[PoseModel]) -> PoseModel:
    first, *others = models
    if not others:
        return first
    return replace(first, name=f"{ENSEMBLE} of {' and '.join(m.name for m in models)}", ensemble_members=tuple(others))


def read_skeleton(weights: Path) -> Skeleton:
    """The skeleton of a weights file, from its description."""
    return _described(weights, lambda content: _skeleton(content["skeleton"]))


def _described(weights: Path, build: Callable[[dict[str, Any]], Built]) -> Built:
    """What `build` makes of the description beside a weights file; WeightsError where it is missing or unfit."""
    description = description_path(weights)
    if not description.is_file():
        raise WeightsError(f"{weights} has no description {description.name} beside it; keep the two files together")
    require_unchanged(description)
    try:
        content = json.loads(description.read_text())
        if content["format"] > FORMAT:
            raise WeightsError(
                f"{description} has format {content['format']}, this semipose reads {FORMAT}: upgrade it"
            )
        return build(content)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{description} is no model description ({error}); write it anew with semipose train"
        ) from None


def require_unchanged(path: Path) -> None:
    """WeightsError when a file is not the one its run wrote."""
    if unchanged(path) is False:
        raise WeightsError(
            f"{path} is not what its run wrote: its SHA-256 differs from {SUMS}; take another copy, or remove its line "
            "there if you changed it on purpose"
        )


def _skeleton(content: dict[str, Any]) -> Skeleton:
    pairs = tuple((int(a), int(b)) for a, b in content["flip_pairs"])
    limbs = tuple((int(a), int(b)) for a, b in content["limbs"])
    return Skeleton(content["name"], tuple(content["joints"]), pairs, tuple(content["sigmas"]), limbs)


def _build(content: dict[str, Any]) -> PoseModel:
    skeleton = _skeleton(content["skeleton"])
    config = ModelConfig(**content["model"])
    height, width = content["input_size"]
    network = PoseNet(config, len(skeleton), content["levels"], pretrained=False)
    return PoseModel(
        network.eval(),
        content["network"],
        config,
        content["levels"],
        skeleton,
        CropGeometry((height, width), padding=content["padding"]),
        LossConfig(**content["loss"]),
        content["decoder"],
        headline_networks=tuple(content.get("headline_networks", ())),
    )


def _fill(network: nn.Module, path: Path) -> None:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is broken ({str(error)[:80]}); take another copy") from None
    own = network.state_dict()
    unfit = [n for n in own if n not in state or state[n].shape != own[n].shape] + [n for n in state if n not in own]
    if unfit:
        raise WeightsError(
            f"{path} does not fit its description: {unfit[0]!r} and {len(unfit) - 1} more tensors differ; "
            "is the .json beside it of another run?"
        )
    with torch.no_grad():
        network.load_state_dict(state)
