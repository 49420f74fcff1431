"""Evaluation of runs, weights files and predictions files, with intervals, and comparison of two of them."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from semipose.data.account import DataAccount, unlabeled_by_reason
from semipose.data.data_config import DataConfig, open_data_file
from semipose.data.data_errors import DataErrors, ErrorPolicy, without_images
from semipose.data.datasets import read_dataset, with_given_skeleton
from semipose.data.formats.categories import ALL, CategoryChoice
from semipose.data.formats.coco_results import load_predictions
from semipose.data.formats.detections import NO_BOX, apply_detections
from semipose.data.formats.table_results import TABLE_SUFFIXES, load_table_predictions
from semipose.data.formats.whole_frames import require_one_subject, with_whole_images
from semipose.data.images import ImageSize, read_image_sizes
from semipose.data.leakage import describe_leakage, digest_files, find_training_images, image_paths
from semipose.data.suspicions import log_suspicions, suspicious_labels
from semipose.errors import ConfigError, DataError, WeightsError
from semipose.inference.boxes import box_finder_for, is_box_file, warn_of_other_boxes
from semipose.inference.parameters import data_errors_for, refuse_unused
from semipose.inference.pose_model import PoseModel, as_pose_model
from semipose.inference.predictor import predict_dataset
from semipose.inference.weights import WeightsDescription, read_description
from semipose.metrics.base import MatchedDataset
from semipose.metrics.bootstrap import Difference, Interval, differences, intervals
from semipose.metrics.instance_score import DESCRIPTIONS, InstanceScore
from semipose.metrics.matching import match_dataset
from semipose.metrics.scores import EvaluationProtocol, Scores, score
from semipose.structures.boxes import AROUND_LABELS, AUTO, BOX_EACH, BOX_WORDS, GROUND_TRUTH, box_facts, own_boxes
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import SigmaSource, Skeleton
from semipose.utils.device import resolve_device
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)
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
        data: What the data set holds, how much of it was scored, and what was left out.
        intervals: 95 % intervals by metric; None where a score is None.
        against: The evaluation that this one was compared with.
        difference: By metric, how much higher the scores of this evaluation are, paired by image, on the joints that
            both predict; of errors on the persons that have a prediction in both.
    """

    name: str
    scores: Scores
    protocol: EvaluationProtocol
    leakage: Mapping[str, int] | None = None
    left_out: Mapping[str, Any] | None = None
    data: DataAccount | None = None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    against: "Evaluation | None" = None
    difference: Mapping[str, Difference | None] | None = None

    def __repr__(self) -> str:
        compared = f", compared with {self.against.name}" if self.against else ""
        return f"Evaluation({self.name}: {self.scores!r}{compared}; {self.protocol.describe()})"

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores by their public names and everything else, ready for JSON.

        `pixel_error` holds mean, median, rmse, p90 and by_joint.
        """
        content: dict[str, Any] = {
            **self.scores.as_dict(),
            "by_joint": self.scores.by_joint,
            "pixel_error": self.scores.pixel_error,
            "notes": list(self.scores.notes),
            "protocol": self.protocol.describe(),
            "leakage": self.leakage,
            "left_out": self.left_out,
            "data": self.data and self.data.as_dict(),
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
    category: str | None = None,
    boxes: PathLike | None = None,
    box_category: int | str | None = None,
    network: str | None = None,
    against: PoseModel | PathLike | None = None,
    against_network: str | None = None,
    flip_test: bool = False,
    instance_score: InstanceScore | None = None,
    device: str = "auto",
    on_error: ErrorPolicy = "strict",
    progress: Progress = NO_PROGRESS,
) -> Evaluation:
    """Evaluates a model or a predictions file on annotated persons; writes nothing.

    Args:
        model: A model, which is moved to `device`, a run folder, a weights file, or a file of predictions: COCO
            keypoint results, or a table of DeepLabCut or Lightning Pose (csv, h5) whose rows are images.
        data: `gym` or `people` (their test part), a COCO keypoints file or a data YAML (its `test`, or `val`).
        images: Image folder of `data`.
        category: Name of the category that is evaluated where `data` has several, or `all`; that of the model if not
            given.
        boxes: A COCO detections file whose boxes replace the annotated ones, `whole` for whole images, or `auto` for
            those that the box network of the run finds. If not given, `auto` if the run has a box
            network, else the annotated boxes.
        box_category: Id or name of the detector's category; that of the network or data set, or people, if not given.
        network: A network of the run folder, as in `load`.
        against: Another model or predictions file to evaluate on the same persons and compare with.
        against_network: A network of the run folder `against`.
        flip_test: Whether to average heatmaps with those of the mirrored image.
        instance_score: The score of a person, by which AP ranks: `rescored` (the mean of the peaks above .2, then
            OKS-NMS) or `mean`. That of the run if not given; other predictions then keep the score in their file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_error: Whether broken records and images are errors (`strict`) or are left out (`skip`).
        progress: Shows the progress.

    Raises:
        DataError: If the data cannot be used.
        WeightsError: If the model cannot be loaded.
        ConfigError: If the joints of model and data differ, or a parameter has no effect.
    """
    data_errors = data_errors_for(on_error)
    resolve_device(device)
    if instance_score not in (None, *DESCRIPTIONS):
        raise ConfigError(f"`instance_score`: {instance_score!r} is unknown; known: {', '.join(DESCRIPTIONS)}")
    choice = CategoryChoice(category or _category_of(model))
    truth = data_errors.read("data", lambda problems: _read_truth(data, images, problems, choice))
    if category not in (None, ALL, truth.category.name):
        raise ConfigError(f"`category`: {truth.source} has no {category!r} but {truth.category.name!r}")
    sizes = read_image_sizes(image_paths(truth))
    log_suspicions(truth.source, suspicious_labels(truth, sizes))
    settings = _Settings(data_errors, boxes, box_category, sizes, flip_test, instance_score, device, progress)
    if path := _predictions_file(model):
        refuse_unused(f"{path.name} contains predictions already", boxes=boxes, flip_test=flip_test, network=network)
    if not is_box_file(boxes):
        refuse_unused("`boxes` is no file", box_category=box_category)
    if against is None:
        refuse_unused("`against` is not given", against_network=against_network)
    elif path := _predictions_file(against):
        refuse_unused(f"{path.name} contains predictions already", against_network=against_network)
    first = settings.predict(model, truth, network)
    evaluation = first.evaluate()
    assert evaluation.data is not None
    log.info(evaluation.data.describe())
    if against is None:
        return evaluation
    second = settings.predict(against, truth, against_network)
    either = {*first.unlearned_joints, *second.unlearned_joints}
    difference = differences(first.matched(either), second.matched(either))
    return replace(evaluation, against=second.evaluate(), difference=difference)


@dataclass(frozen=True)
class _Predicted:
    """Predictions, the persons that they are evaluated on, and facts for the protocol."""

    path: Path | None
    name: str
    selection: str
    truth: PoseDataset
    predictions: list[Prediction]
    data_errors: DataErrors
    boxes: str
    flip_test: bool | None = None
    decoder: str = ""
    instance_score: InstanceScore | None = None
    unlearned_joints: tuple[str, ...] = ()
    in_16_bit: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)

    def matched(self, unlearned: Collection[str]) -> MatchedDataset:
        return match_dataset(self.truth.without_joints(unlearned), self.predictions, self.instance_score)

    def evaluate(self) -> Evaluation:
        training = find_training_images(self.path) if self.path else None
        leakage = training.count(digest_files(image_paths(self.truth))) if training else None
        protocol = EvaluationProtocol.of(
            self.truth,
            boxes=self.boxes,
            flip_test=self.flip_test,
            weights_selection=self.selection,
            left_out=self.data_errors.describe(),
            leakage=describe_leakage(leakage),
            decoder=self.decoder,
            instance_score="that of the file" if self.instance_score is None else DESCRIPTIONS[self.instance_score],
            unlearned_joints=self.unlearned_joints,
            in_16_bit=self.in_16_bit,
        )
        given = (self.truth, self.predictions, self.instance_score)
        scores, around = score(*given), intervals(*given)
        missed = scores.counts["no_prediction"]
        used = {"scored": scores.counts["persons"]} | ({"of them missed (no prediction)": missed} if missed else {})
        left_out = {**unlabeled_by_reason(self.truth), **self.left_out}
        account = DataAccount.of(self.truth, used, left_out).with_errors(self.data_errors, "data")
        if self.boxes not in (GROUND_TRUTH, AROUND_LABELS):
            account = replace(account, boxes_from_labels=0)
        return Evaluation(self.name, scores, protocol, leakage, self.data_errors.content(), account, around)


@dataclass(frozen=True)
class _Settings:
    """Settings for making predictions; `data_errors` are those of the persons."""

    data_errors: DataErrors
    boxes: PathLike | None
    box_category: int | str | None
    sizes: Mapping[Path, ImageSize]
    flip_test: bool
    instance_score: InstanceScore | None
    device: str
    progress: Progress

    def predict(self, model: PoseModel | PathLike, truth: PoseDataset, network: str | None) -> _Predicted:
        """Returns the predictions of a model, or those in a file."""
        if path := _predictions_file(model):
            return self._load(path, truth)
        errors = deepcopy(self.data_errors)
        loaded = as_pose_model(model, network).to(self.device)
        name = loaded.source
        kind = self.instance_score or loaded.instance_score
        truth = persons = _with_joints_of(loaded.skeleton, truth, name).without_joints(loaded.unlearned_joints)
        finder = box_finder_for(loaded, self.boxes)
        boxes = self.boxes if finder is None else AUTO
        if boxes is not None and is_box_file(boxes):
            persons = errors.read(
                "boxes",
                lambda problems: apply_detections(truth, boxes, problems=problems, box_category=self.box_category),
            )
        else:
            labeled = (persons if boxes is None else with_whole_images(persons, self.sizes)).trainable()
            persons = persons if finder and finder.several else labeled
        if finder is None:
            warn_of_other_boxes(loaded, box_facts(persons.instances, self.sizes), f"{truth.source}, {name}")
        else:
            if not finder.several:
                require_one_subject(persons, AUTO, f"train on labels that show several, or give {BOX_EACH}")
            persons = finder.in_images(persons, self.progress)
        predictor = loaded.predictor(flip_test=self.flip_test)
        predictions, failed = predict_dataset(predictor, persons, loaded.geometry, errors, "data", self.progress)
        given = None if boxes is None else os.fspath(boxes)
        source = own_boxes(truth.instances, self.sizes) if given is None else BOX_WORDS.get(given, given)
        kept = without_images(truth, failed)
        left_out = {reason: count for reason, count in persons.left_out.items() if reason != NO_BOX}
        if broken := len(errors.records.get("boxes", ())):
            left_out["broken boxes"] = broken
        return _Predicted(
            loaded.path,
            name,
            name,
            kept,
            predictions,
            errors,
            source,
            predictor.flip_test,
            loaded.decoder,
            kind,
            loaded.unlearned_joints,
            predictor.in_16_bit,
            left_out,
        )

    def _load(self, path: Path, truth: PoseDataset) -> _Predicted:
        run = _description_of_run(path)
        own = _with_joints_of(run.skeleton if run else None, truth, str(path))
        left_out, errors = Counter[str](), deepcopy(self.data_errors)
        if path.suffix.lower() in TABLE_SUFFIXES:
            found, unlearned = errors.read(path.name, lambda p: load_table_predictions(path, own, p, left_out))
        else:
            found = errors.read(path.name, lambda p: load_predictions(path, own.skeleton, p, own, left_out))
            unlearned = run.unlearned_joints if run else _unlearned(found, own.skeleton)
        truth = own.without_joints(unlearned)
        kept = _of_category(found, truth, path)
        left_out["predictions of another category"] = len(found) - len(kept)
        left_out["broken predictions"] = len(errors.records.get(path.name, ()))
        return _Predicted(
            path,
            path.name,
            "a predictions file",
            truth,
            kept,
            errors,
            f"of {path.name}",
            instance_score=self.instance_score or (run.instance_score if run else None),
            unlearned_joints=unlearned,
            left_out=left_out,
        )


def _unlearned(predictions: list[Prediction], skeleton: Skeleton) -> tuple[str, ...]:
    """The joints that the network of a file has not learned: `predict` writes 0 as their score for every person.

    Files of other programs, which have no `crop_area`, may mean something else by it.
    """
    if not predictions or any(p.crop_area is None for p in predictions):
        return ()
    scored = {joint for p in predictions for joint, score in zip(skeleton.joints, p.scores, strict=True) if score}
    return tuple(joint for joint in skeleton.joints if joint not in scored) if scored else ()


def _of_category(predictions: list[Prediction], truth: PoseDataset, path: Path) -> list[Prediction]:
    """The predictions of the persons' category; COCO's evaluation does not compare the others with them either."""
    category = truth.category
    kept = [p for p in predictions if p.category_id in [part.id for part in category.parts]]
    if predictions and not kept:
        raise DataError(
            f"{path}: no prediction (the first: category_id {predictions[0].category_id!r}) has the category of "
            f"the data, {category.name!r}, which is {category.id!r} in {truth.source}; write that as category_id"
        )
    if len(kept) < len(predictions):
        count, of = len(predictions) - len(kept), len(predictions)
        log.warning("%s: %d of %d predictions are not of category %r; left out", path, count, of, category.id)
    return kept


def _predictions_file(model: PoseModel | PathLike) -> Path | None:
    """Returns the path if it is a predictions file; None for a model and for the path of a model."""
    path = None if isinstance(model, PoseModel) else Path(model)
    return path if path is not None and path.suffix.lower() in (".json", *TABLE_SUFFIXES) else None


def _read_truth(data: PathLike, images: PathLike | None, problems: list[str], category: CategoryChoice) -> PoseDataset:
    source, folder = os.fspath(data), None if images is None else os.fspath(images)
    if not source.endswith((".yaml", ".yml")):
        return read_dataset(source, folder, "val", problems, category)
    section = open_data_file(DataConfig(train=source))
    parts = (section.test, section.test_images), (section.val, section.val_images), (section.train, section.images)
    source, own_folder = next((str(file), found) for file, found in parts if file)
    choice = CategoryChoice(category.name or section.category)
    return with_given_skeleton(read_dataset(source, folder or own_folder, "val", problems, choice), section)


def _description_of_run(predictions: Path) -> WeightsDescription | None:
    """The description of the run whose predictions.json this is; the file itself names no joints."""
    weights = predictions.with_name("best.safetensors")
    known = predictions.name == "predictions.json" and weights.is_file()
    return read_description(weights) if known else None


def _category_of(model: PoseModel | PathLike) -> str | None:
    """The name of the category that a model or the run of a predictions file was trained on, if it is known."""
    if isinstance(model, PoseModel):
        return model.category.name
    path = Path(model)
    weights = path / "best.safetensors" if path.is_dir() else path.with_name("best.safetensors")
    weights = path if path.suffix == ".safetensors" else weights
    with suppress(WeightsError):
        return read_description(weights).category.name
    return None


def _with_joints_of(skeleton: Skeleton | None, truth: PoseDataset, name: str) -> PoseDataset:
    """Returns the persons with the predicted joints; predicted joints that the data set lacks are not evaluated.

    Sigmas are those of the data set, except for those that the training was given and the data set only guesses.

    Raises:
        ConfigError: If the data set has a joint that is not predicted.
    """
    if skeleton is None:
        return truth
    theirs = truth.skeleton
    missing = [joint for joint, key in zip(theirs.joints, theirs.keys, strict=True) if key not in skeleton.keys]
    if missing:
        raise ConfigError(
            f"{name} predicts the {len(skeleton)} joints of {skeleton.name!r}, {truth.source} labels the "
            f"{len(theirs)} of {theirs.name!r} (first difference: {missing[0]}); use data of its own skeleton"
        )
    sigmas = list(skeleton.sigmas)
    given: list[SigmaSource] = ["given"] * len(skeleton)
    sources = list(skeleton.sigma_sources) or given
    for i, key in enumerate(skeleton.keys):
        j = theirs.keys.index(key) if key in theirs.keys else None
        if j is not None and not (sources[i] == "given" and "given" not in theirs.sigma_sources[j : j + 1]):
            sigmas[i] = theirs.sigmas[j]
            sources[i] = theirs.sigma_sources[j] if theirs.sigma_sources else "given"
    return truth.to_skeleton(replace(skeleton, name=theirs.name, sigmas=tuple(sigmas), sigma_sources=tuple(sources)))
