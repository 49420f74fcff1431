"""PoseModel, the object that `semipose.load` returns: a network with everything needed to use it."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from semipose.data.crops import CropGeometry
from semipose.errors import ConfigError, DataError, WeightsError
from semipose.inference.box_finder import BoxFinder, CenterFinder, SubjectFinder
from semipose.inference.model_paths import EXPECTED, require_model_path
from semipose.inference.predictor import FrameCrops, Precision, Predictor
from semipose.inference.weights import WeightsDescription, read_description, read_weights, write_weights
from semipose.losses import HeatmapLoss, LossConfig
from semipose.metrics.calibration import NOT_CALIBRATED, Calibration
from semipose.metrics.instance_score import InstanceScore
from semipose.models.pose_net import PoseNet
from semipose.models.pretrained import find_pretrained, load_pretrained
from semipose.ops.heatmaps import Decoder
from semipose.structures.boxes import BoxFacts
from semipose.structures.categories import PERSON, Category
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.poses import Poses
from semipose.structures.skeletons import Skeleton
from semipose.utils.device import has_apple_gpu, resolve_device
from semipose.utils.files import BOX_FINDER, check_output_file, folders_of_run, from_here
from semipose.utils.text import first_line

log = logging.getLogger(__name__)

PADDING = 1.25
"""Factor by which ViTPose's boxes are enlarged."""

ENSEMBLE = "ensemble"
"""The name that selects all headline networks of a run instead of one network."""


@dataclass(frozen=True, eq=False, repr=False)
class PoseModel:
    """A network with its skeleton, the geometry of its input and the decoder of its output.

    Attributes:
        network: The network.
        name: Its name in its method.
        skeleton: The joints that it predicts.
        geometry: How a person box becomes its input.
        loss: The loss that it was trained with, which determines how outputs become heatmaps.
        decoder: How heatmaps become joints.
        ensemble_members: Further networks of the run, whose heatmaps are averaged with those of this one.
        headline_networks: Names of the networks of the run whose mean score is the method's.
        path: Absolute path of the run folder or weights file that it was loaded from.
        category: The category that it was trained on, which predictions in images without annotations have.
        instance_score: How the peaks of the joints become the score of a person.
        unlearned_joints: Joints that the training had no labels of; their scores are 0.
        precision: `auto` predicts in 16 bit on a CUDA GPU, `32-true` in 32 bit everywhere.
        boxes: How the boxes of the training were made, and their size; None if unknown.
        box_finder: Finds boxes in whole images, if the run has trained a network for that.
        calibrations: The calibrations of the networks of the run and of their ensemble, by name.
        not_calibrated: Why those that have none have none, as far as that is known.
    """

    network: PoseNet
    name: str
    skeleton: Skeleton
    geometry: CropGeometry
    loss: LossConfig
    decoder: Decoder = "dark"
    ensemble_members: tuple["PoseModel", ...] = ()
    headline_networks: tuple[str, ...] = ()
    path: Path | None = None
    category: Category = PERSON
    instance_score: InstanceScore = "rescored"
    unlearned_joints: tuple[str, ...] = ()
    precision: Precision = "auto"
    boxes: BoxFacts | None = None
    box_finder: BoxFinder | None = None
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    not_calibrated: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.geometry.input_size
        backbones = " + ".join(network.config.backbone for network in self.networks)
        joints = f"{len(self.skeleton)} joints ({self.skeleton.name})"
        return f"PoseModel({self.name}: {backbones}, {joints}, input {height}×{width}, on {self.device})"

    @property
    def networks(self) -> tuple[PoseNet, ...]:
        """The networks whose heatmaps are averaged; usually one."""
        return self.network, *(model.network for model in self.ensemble_members)

    @property
    def criterion(self) -> HeatmapLoss:
        """The loss, which converts raw outputs to heatmaps."""
        return self.loss.build()

    @property
    def calibration(self) -> Calibration | None:
        """The probability that a joint is right, as a function of its peak; None without validation labels."""
        return self.calibrations.get(self._calibrated_name)

    @property
    def _calibrated_name(self) -> str:
        return ENSEMBLE if self.ensemble_members else self.name

    def describe_scores(self) -> str:
        """Returns what the scores of joints in files and drawings are, in one line."""
        if self.calibration is None:
            unknown = "the weights keep no calibration, which a training fits to its validation labels"
            return f"{NOT_CALIBRATED}: {self.not_calibrated.get(self._calibrated_name, unknown)}"
        return "scores of joints are probabilities of being right, calibrated on validation persons of the training"

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> "PoseModel":
        """Moves all networks to `device` in place, to a GPU in channels-last layout, and returns the model.

        `auto` is the first CUDA GPU, else Apple's if the networks run there, else the CPU.

        Raises:
            ConfigError: If there is no such device.
        """
        place = resolve_device(device) if isinstance(device, str) else device
        if device == "auto" and place.type == "cpu" and has_apple_gpu():
            try:
                self.to(torch.device("mps")).predict(np.zeros((64, 64, 3), np.uint8))
                return self
            except Exception as error:  # torch raises errors of several types where it lacks an operation
                log.warning("predictions run on the CPU, because they fail on Apple's GPU: %s", first_line(error))
        for network in (*self.networks, *(self.box_finder.predictor.networks if self.box_finder else ())):
            network.to(place)
            if place.type == "cuda":
                network.to(memory_format=torch.channels_last)
        return self

    @property
    def source(self) -> str:
        """Where the model is from and its name, for messages."""
        return f"{from_here(self.path)} ({self.name})" if self.path else self.name

    def predictor(self, *, flip_test: bool = False) -> Predictor:
        """Returns the predictor of this model on the device of its network; without pairs it has no flip test."""
        if flip_test and not self.skeleton.flip_pairs:
            log.warning("no flip test: the skeleton %r has no left/right pairs", self.skeleton.name)
            flip_test = False
        return Predictor(
            self.networks,
            self.criterion,
            flip_test,
            self.decoder,
            self.loss.sigma,
            self.instance_score,
            self.unlearned_joints,
            self.calibration,
            device=self.device,
            precision=self.precision,
        )

    def predict(
        self, image: np.ndarray, boxes: Sequence[Sequence[float]] | np.ndarray | None = None, flip_test: bool = False
    ) -> Poses:
        """Returns the poses of the persons in an image.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: N boxes [x, y, width, height] in pixels; without them those that the box network finds, or the whole
                image if the model has none.
            flip_test: Whether to average heatmaps with those of the mirrored image.

        Raises:
            DataError: If the image has another shape or type, or a box is not four finite numbers with positive size.
        """
        _check_image(image)
        array = _as_boxes([(0, 0, image.shape[1], image.shape[0])] if boxes is None else boxes)
        persons = [Instance(Path(), 0, -n - 1, (x, y, w, h)) for n, (x, y, w, h) in enumerate(array.tolist())]
        dataset = PoseDataset(self.skeleton, persons, "image", category=self.category)
        if boxes is None and self.box_finder:
            dataset = self.box_finder.in_frame(image, dataset)
            array = dataset.instances.boxes
        crops = FrameCrops(image, dataset, self.geometry)
        predictions, k = self.predictor(flip_test=flip_test).predict(crops), len(self.skeleton)
        return Poses(
            np.array([p.joints for p in predictions]).reshape(-1, k, 2),
            np.array([p.confidences for p in predictions]).reshape(-1, k),
            array,
            self.skeleton.joints,
        )

    def save(self, path: str | os.PathLike[str], state: Mapping[str, Tensor] | None = None) -> None:
        """Writes a weights file with the weights of the network, or with `state` in their place.

        Its folder is created. A box network stays in the run folder: the model of the file needs boxes, or takes whole
        images.

        Raises:
            OSError: If the file cannot be written; an older file of that name is kept.
            ConfigError: If the model is an ensemble, since a file contains one network, or if `path` is a folder.
        """
        check_output_file(Path(path))
        if self.ensemble_members:
            raise ConfigError(
                f"a weights file contains one network, not the {self.name}; save each network, or export to ONNX"
            )
        description = WeightsDescription(
            network=self.name,
            model=self.network.config,
            levels=self.network.levels,
            skeleton=self.skeleton,
            input_size=self.geometry.input_size,
            padding=self.geometry.padding,
            loss=self.loss,
            decoder=self.decoder,
            headline_networks=self.headline_networks,
            category=self.category,
            instance_score=self.instance_score,
            unlearned_joints=self.unlearned_joints,
            precision=self.precision,
            boxes=self.boxes,
            calibrations=self.calibrations,
            not_calibrated=self.not_calibrated,
        )
        write_weights(Path(path), description, self.network.state_dict() if state is None else state)


def _check_image(image: object) -> None:
    """Raises DataError if `image` is not (H, W, 3) uint8, or has no pixel."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        actual = f"{image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"`image` is {actual}; give a NumPy array (H, W, 3) of uint8")
    if not image.size:
        raise DataError(f"`image` is {image.shape} and has no pixel")


def _as_boxes(boxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Returns the boxes as (N, 4) float64; raises DataError if they are not boxes."""
    try:
        array = np.array(boxes, dtype=float)
    except (TypeError, ValueError):
        array = np.full((1, 4), np.nan)
    if not array.size and array.ndim <= 2:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all() or not (array[:, 2:] > 0).all():
        raise DataError("`boxes` must be finite [x, y, width, height] with width and height above 0")
    return array


def as_pose_model(model: PoseModel | str | os.PathLike[str], network: str | None = None) -> PoseModel:
    """Returns `model`, loaded if it is a path.

    Raises:
        ConfigError: If `network` is given for a model that is loaded already.
    """
    if not isinstance(model, PoseModel):
        return load_pose_model(model, network)
    if network is not None:
        raise ConfigError("`network` selects a network of a run folder, and `model` is loaded already; leave it out")
    return model


def load_pose_model(path: str | os.PathLike[str], network: str | None = None) -> PoseModel:
    """Loads the model of a run folder or of a weights file, or a pose network of others.

    Args:
        path: A run folder (its best network), a .safetensors file, or the weights of ViTPose: their name on the hub
            (`vitpose-base-simple`) or a file in the layout of the library transformers.
        network: The name of another network of the run, or `ensemble` for all headline networks with averaged heatmaps.

    Raises:
        WeightsError: If there are no weights, or they are damaged or do not fit.
        ConfigError: If the run has no network of that name.
    """
    if (found := find_pretrained(os.fspath(path))) is not None:
        return _load_pretrained(found, os.fspath(path), network)
    path = Path(path)
    require_model_path(path)
    path = path.absolute()  # the working directory may change before the run's other files are read
    _warn_of_unfinished(path)
    if network is None:
        return _with_box_finder(_load(path / "best.safetensors" if path.is_dir() else path), path)
    first, *others = (_load(weights) for weights in _weights_files(path, network))
    if others:
        name = f"{ENSEMBLE} of {' and '.join(model.name for model in (first, *others))}"
        first = replace(first, name=name, ensemble_members=tuple(others))
    return _with_box_finder(first, path)


def _warn_of_unfinished(run: Path) -> None:
    """Warns if a path is the folder of a training that has taken fewer steps than its configuration says."""
    try:
        steps = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["train"]["steps"]
        last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, yaml.YAMLError):
        return
    if steps is not None and last < steps:
        log.warning(f"{run} is a training at step {last} of {steps}: resume it, or wait for its end")


def _with_box_finder(model: PoseModel, path: Path) -> PoseModel:
    """The model with its path, and with the box network of the run that the path belongs to, if it has one."""
    files = [folder / BOX_FINDER / "best.safetensors" for folder in folders_of_run(path)]
    file = next((file for file in files if file.is_file()), None)
    if file is None or model.boxes is None or model.boxes.kind != "found":
        return replace(model, path=path)
    return replace(model, path=path, box_finder=box_finder(_load(file), model.boxes))


def box_finder(network: PoseModel, boxes: BoxFacts) -> BoxFinder:
    """Returns the finder of boxes like those of a training, by its box network."""
    parts = network.predictor(), network.geometry, boxes
    return CenterFinder(*parts, len(network.skeleton)) if network.skeleton.interchangeable else SubjectFinder(*parts)


def _load_pretrained(file: Path, source: str, network: str | None) -> PoseModel:
    if network is not None:
        raise ConfigError(f"`network`: {source} has one network and no {network!r}; leave it out")
    pose = load_pretrained(file)
    geometry = CropGeometry(pose.input_size, padding=PADDING)
    return PoseModel(pose.network, "vitpose", pose.skeleton, geometry, LossConfig(), path=Path(source))


def weights_of(folder: Path) -> dict[str, Path]:
    """Returns the weights files of a run by network name, without temporary files."""
    paths = sorted((folder / "weights").glob("*.safetensors"))
    return {path.stem: path for path in paths if not path.name.startswith(".")}


def _load(weights: Path) -> PoseModel:
    if not weights.is_file():
        if (weights.parent / "last" / "state.pt").is_file():
            raise WeightsError(f"{weights.parent} was stopped before its first evaluation; resume the training")
        raise WeightsError(f"no weights at {weights}; {EXPECTED}")
    description, state = read_weights(weights)
    network = PoseNet(description.model, len(description.skeleton), description.levels, pretrained=False)
    expected = network.state_dict()
    unfit = sorted(state.keys() ^ expected.keys()) or [n for n in expected if state[n].shape != expected[n].shape]
    if unfit:
        raise WeightsError(
            f"{weights}: {len(unfit)} tensors do not fit the network that its metadata describes, the first is "
            f"{unfit[0]!r}; train again"
        )
    network.load_state_dict(state)
    return PoseModel(
        network.eval(),
        description.network,
        description.skeleton,
        CropGeometry(description.input_size, padding=description.padding),
        description.loss,
        description.decoder,
        headline_networks=description.headline_networks,
        category=description.category,
        instance_score=description.instance_score,
        unlearned_joints=description.unlearned_joints,
        precision=description.precision,
        boxes=description.boxes,
        calibrations=description.calibrations,
        not_calibrated=description.not_calibrated,
    )


def _weights_files(folder: Path, network: str) -> list[Path]:
    """Returns the weights files of a run's network or of its ensemble."""
    if not folder.is_dir():
        raise ConfigError(f"`network`: {folder} is not a run folder and has no network {network!r}; leave it out")
    known, members = weights_of(folder), _ensemble_names(folder)
    if network == ENSEMBLE and members:
        return [known[name] for name in members]
    if network not in known:
        names = ", ".join([*known, *([ENSEMBLE] if members else [])])
        raise ConfigError(f"`network`: {folder} has no network {network!r}; it has {names or 'none yet'}")
    return [known[network]]


def _ensemble_names(folder: Path) -> tuple[str, ...]:
    """Returns the networks of a run's ensemble; none if there is one headline network or a file is missing."""
    known = weights_of(folder)
    for path in known.values():
        with suppress(WeightsError):
            names = read_description(path).headline_networks
            return names if len(names) > 1 and known.keys() >= set(names) else ()
    return ()
