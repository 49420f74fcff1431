"""Evaluation of runs, weights files and predictions files, with intervals, and comparison of two of them."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from semipose.data.data_errors import DataErrors, ErrorPolicy, without_images
from semipose.data.datasets import DataConfig, open_data_file, read_dataset
from semipose.data.formats.coco_results import load_predictions
from semipose.data.formats.detections import apply_detections
from semipose.data.leakage import describe_leakage, digest_files, find_training_images, image_paths
from semipose.errors import ConfigError
from semipose.inference.parameters import data_errors_for, refuse_unused
from semipose.inference.pose_model import PoseModel, as_pose_model
from semipose.inference.predictor import predict_dataset
from semipose.inference.weights import read_description
from semipose.metrics.base import MatchedDataset
from semipose.metrics.bootstrap import Difference, Interval, differences, intervals
from semipose.metrics.matching import match_dataset
from semipose.metrics.scores import EvaluationProtocol, Scores, score
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton
from semipose.utils.device import resolve_device
from semipose.utils.progress import NO_PROGRESS, Progress

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The scores of a model or predictions file, and their protocol.

    Attributes:
        name: The run and its network, or the predictions file.
        scores: The scores.
        protocol: The data and the settings of the evaluation.
        leakage: Numbers of images that the training used as `labeled`, `unlabeled` and `validation` images; `of` is the
            number of all images. None if the training is unknown.
        left_out: Broken records and images that were left out, by data set.
        intervals: 95 % intervals by metric; None where a score is None.
        against: The evaluation that this one was compared with.
        difference: The scores of this evaluation minus those of `against`, by metric, paired by image.
    """

    name: str
    scores: Scores
    protocol: EvaluationProtocol
    leakage: Mapping[str, int] | None = None
    left_out: Mapping[str, Any] | None = None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    against: "Evaluation | None" = None
    difference: Mapping[str, Difference | None] | None = None

    def __repr__(self) -> str:
        compared = f", compared with {self.against.name}" if self.against else ""
        return f"Evaluation({self.name}: {self.scores!r}{compared}; {self.protocol.describe()})"

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores by public name, and all other fields, for JSON."""
        content: dict[str, Any] = {
            **self.scores.as_dict(),
            "by_joint": self.scores.by_joint,
            "protocol": self.protocol.describe(),
            "leakage": self.leakage,
            "left_out": self.left_out,
            "intervals": self.intervals,
        }
        if self.against and self.difference:
            content["against"] = self.against.as_dict()
            content["difference"] = {name: d and asdict(d) for name, d in self.difference.items()}
        return content


def evaluate(
    model: PoseModel | PathLike,
    data: PathLike,
    *,
    images: PathLike | None = None,
    boxes: PathLike | None = None,
    network: str | None = None,
    against: PoseModel | PathLike | None = None,
    against_network: str | None = None,
    flip_test: bool = False,
    device: str = "auto",
    on_error: ErrorPolicy = "strict",
    progress: Progress = NO_PROGRESS,
) -> Evaluation:
    """Evaluates a model or a predictions file on annotated persons; writes nothing.

    Args:
        model: A model, a run folder, a weights file or a file of COCO keypoint results. A model is moved to `device`.
        data: `people` (the test part of the embedded set), a COCO keypoints file or a data YAML (its `test`, or `val`).
        images: Image folder of `data`.
        boxes: A COCO detections file whose boxes replace the annotated ones.
        network: A network of the run folder, as in `load`.
        against: Another model or predictions file to evaluate on the same persons and compare with.
        against_network: A network of the run folder `against`.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_error: Whether broken records and images are errors (`strict`) or are left out (`skip`).
        progress: Shows the progress.

    Raises:
        DataError: If the data cannot be used.
        WeightsError: If the model cannot be loaded.
        ConfigError: If the joints of model and data differ, or a parameter has no effect.
    """
    data_errors = data_errors_for(on_error)
    truth = data_errors.read("data", lambda problems: _read_truth(data, images, problems))
    settings = _Settings(data_errors, boxes, flip_test, resolve_device(device), progress)
    if path := _predictions_file(model):
        refuse_unused(f"{path.name} contains predictions already", boxes=boxes, flip_test=flip_test, network=network)
    first = settings.predict(model, truth, network)
    evaluation = first.evaluate(data_errors)
    if against is None:
        refuse_unused("`against` is not given", against_network=against_network)
        return evaluation
    second = settings.predict(against, truth, against_network)
    difference = differences(first.matched, second.matched)
    return replace(evaluation, against=second.evaluate(data_errors), difference=difference)


@dataclass(frozen=True)
class _Predicted:
    """Predictions, the persons that they are evaluated on, and facts for the protocol."""

    path: Path | None
    name: str
    selection: str
    truth: PoseDataset
    predictions: list[Prediction]
    boxes: str
    flip_test: bool = False
    decoder: str = ""

    @property
    def matched(self) -> MatchedDataset:
        return match_dataset(self.truth, self.predictions)

    def evaluate(self, data_errors: DataErrors) -> Evaluation:
        training = find_training_images(self.path) if self.path else None
        leakage = training.count(digest_files(image_paths(self.truth))) if training else None
        protocol = EvaluationProtocol.of(
            self.truth,
            boxes=self.boxes,
            flip_test=self.flip_test,
            weights_selection=self.selection,
            left_out=data_errors.describe(),
            leakage=describe_leakage(leakage),
            decoder=self.decoder,
        )
        scores, by_metric = score(self.truth, self.predictions), intervals(self.truth, self.predictions)
        return Evaluation(self.name, scores, protocol, leakage, data_errors.content(), by_metric)


@dataclass(frozen=True)
class _Settings:
    """Settings for making predictions."""

    data_errors: DataErrors
    boxes: PathLike | None
    flip_test: bool
    device: torch.device
    progress: Progress

    def predict(self, model: PoseModel | PathLike, truth: PoseDataset, network: str | None) -> _Predicted:
        """Returns the predictions of a model, or those in a file."""
        if path := _predictions_file(model):
            return self._load(path, truth)
        loaded = as_pose_model(model, network).to(self.device)
        name = f"{loaded.path} ({loaded.name})" if loaded.path else loaded.name
        truth = persons = _with_joints_of(loaded.skeleton, truth, name)
        if boxes := self.boxes:
            persons = self.data_errors.read("boxes", lambda p: apply_detections(truth, os.fspath(boxes), problems=p))
        else:
            persons = persons.trainable()
        predictor = loaded.predictor(flip_test=self.flip_test)
        predictions, failed = predict_dataset(
            predictor, persons, loaded.geometry, self.data_errors, "data", self.progress
        )
        source = os.fspath(boxes) if boxes else "ground truth"
        kept = without_images(truth, failed)
        return _Predicted(loaded.path, name, name, kept, predictions, source, self.flip_test, loaded.decoder)

    def _load(self, path: Path, truth: PoseDataset) -> _Predicted:
        truth = _with_joints_of(_skeleton_of_run(path), truth, str(path))
        predictions = self.data_errors.read(path.name, lambda p: load_predictions(path, truth.skeleton, p, truth))
        return _Predicted(path, path.name, "a predictions file", truth, predictions, f"of {path.name}")


def _predictions_file(model: PoseModel | PathLike) -> Path | None:
    """Returns the path if it is a predictions file; None for a model and for the path of a model."""
    path = None if isinstance(model, PoseModel) else Path(model)
    return path if path is not None and path.suffix == ".json" else None


def _read_truth(data: PathLike, images: PathLike | None, problems: list[str]) -> PoseDataset:
    source, folder = os.fspath(data), None if images is None else os.fspath(images)
    if source.endswith((".yaml", ".yml")):
        section = open_data_file(DataConfig(train=source))
        if section.test:
            return read_dataset(section.test, folder or section.test_images, "val", problems)
        if section.val:
            return read_dataset(section.val, folder or section.val_images, "val", problems)
        source, folder = str(section.train), folder or section.images
    return read_dataset(source, folder, "val", problems)


def _skeleton_of_run(predictions: Path) -> Skeleton | None:
    """Returns the skeleton of the run that predictions.json belongs to; the file itself names no joints."""
    weights = predictions.with_name("best.safetensors")
    known = predictions.name == "predictions.json" and weights.is_file()
    return read_description(weights).skeleton if known else None


def _with_joints_of(skeleton: Skeleton | None, truth: PoseDataset, name: str) -> PoseDataset:
    """Returns the persons with the predicted joints; predicted joints that the data set lacks are not evaluated.

    Raises:
        ConfigError: If the data set has a joint that is not predicted, or different flip pairs.
    """
    if skeleton is None:
        return truth
    labeled = truth.skeleton
    missing = sorted(set(labeled.joints) - set(skeleton.joints))
    if missing:
        raise ConfigError(
            f"{name} predicts the {len(skeleton)} joints of {skeleton.name!r}, {truth.source} labels the "
            f"{len(labeled)} of {labeled.name!r} (first difference: {missing[0]}); use data of its own skeleton"
        )
    shared = {pair for pair in skeleton.named_pairs if pair <= set(labeled.joints)}
    changed = sorted(map(sorted, shared ^ labeled.named_pairs))
    if changed:
        raise ConfigError(
            f"{name} was trained with other flip pairs than {truth.source} has (first difference: "
            f"{' and '.join(changed[0])}); use data of its own skeleton"
        )
    sigmas = dict(zip(skeleton.joints, skeleton.sigmas, strict=True))
    sigmas |= dict(zip(labeled.joints, labeled.sigmas, strict=True))
    merged = replace(skeleton, name=labeled.name, sigmas=tuple(sigmas[joint] for joint in skeleton.joints))
    return truth.to_skeleton(merged)
