"""Scores of runs, weights and predictions files, how sure they are, and which of two is better."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from semipose.data.data_errors import DataErrors, ErrorPolicy, without_images
from semipose.data.datasets import DataConfig, open_data_file, read_dataset
from semipose.data.formats.coco_results import load_predictions
from semipose.data.formats.detections import apply_detections
from semipose.data.leakage import describe_leakage, digest_files, find_training_images, image_paths
from semipose.errors import ConfigError
from semipose.inference.pose_model import load_pose_model, read_skeleton, require_unchanged
from semipose.inference.predict_dataset import data_errors_for, predict_dataset, refuse_given
from semipose.metrics.bootstrap import Difference, Interval, differences, intervals
from semipose.metrics.scores import EvaluationProtocol, Scores, score
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton


@dataclass(frozen=True)
class Evaluation:
    """Scores of `name` (a run and its network, or a file) and the protocol they were made under.

    `seen`: how many of the photographs the training saw `labeled`, `unlabeled` and as `validation`, and `of` how many;
    None where no run folder tells. `left_out`: broken records and photographs, by set. `intervals`: where AP, PCK@0.2
    and PCKh@0.5 lie in 95 % of resampled test sets; None where a figure is. `against`: the same of what was compared
    with, `difference` how much higher the figures of the first are, paired by image.
    """

    name: str
    scores: Scores
    protocol: EvaluationProtocol
    seen: Mapping[str, int] | None = None
    left_out: Mapping[str, Any] | None = None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    against: "Evaluation | None" = None
    difference: Mapping[str, Difference | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For --json: scores by their public names, then everything else."""
        found: dict[str, Any] = {
            **self.scores.as_dict(),
            "by_joint": self.scores.by_joint,
            "protocol": self.protocol.describe(),
            "seen": self.seen,
            "left_out": self.left_out,
            "intervals": self.intervals,
        }
        if self.against and self.difference:
            found["against"] = self.against.as_dict()
            found["difference"] = {name: d and asdict(d) for name, d in self.difference.items()}
        return found


def evaluate(
    what: Path | str,
    data: str,
    *,
    images: str | None = None,
    boxes: Path | str | None = None,
    flip_test: bool = False,
    device: str = "auto",
    broken: ErrorPolicy = "strict",
    network: str | None = None,
    against: Path | str | None = None,
    against_network: str | None = None,
) -> Evaluation:
    """Scores a run folder, a weights file or a COCO results file on annotated persons.

    `data` is `people` (its test part), a COCO keypoints file or a data YAML (its `test`, else `val`). With `boxes`
    the network looks at detected boxes instead of the annotated ones. `broken`: records and photographs that can't be
    read stop the evaluation, all of them listed, or are left out of predictions and truth. `network`: as in `load`.
    `against`: another run, weights or results, judged in the same way on the same persons and compared;
    `against_network` is its network.
    """
    what, data_errors = Path(what), data_errors_for(broken)
    truth = data_errors.read("data", lambda problems: _truth(data, images, problems))
    if what.suffix == ".json":
        refuse_given(f"{what.name} holds predictions already", boxes=boxes, flip_test=flip_test, network=network)
    look = _Looking(data_errors, boxes, flip_test, device)
    found = look.at(what, truth, network)
    evaluation = found.judged(data_errors)
    if against is None:
        refuse_given("there is no --against", against_network=against_network)
        return evaluation
    other = look.at(Path(against), truth, against_network)
    gained = differences((found.truth, found.predictions), (other.truth, other.predictions))
    return replace(evaluation, against=other.judged(data_errors), difference=gained)


@dataclass(frozen=True)
class _Found:
    """Predictions of `what`, the persons they are judged on, and what a protocol says of them."""

    what: Path
    truth: PoseDataset
    predictions: list[Prediction]
    origin: str
    selection: str
    flip_test: bool
    decoder: str

    def judged(self, data_errors: DataErrors) -> Evaluation:
        """Scores, protocol and intervals."""
        known = find_training_images(self.what)
        seen = known.count(digest_files(image_paths(self.truth))) if known else None
        protocol = EvaluationProtocol.of(
            self.truth,
            boxes=self.origin,
            flip_test=self.flip_test,
            weights_selection=self.selection,
            left_out=data_errors.describe(),
            seen=describe_leakage(seen),
            decoder=self.decoder,
        )
        sure = intervals(self.truth, self.predictions)
        name = self.what.name if self.what.suffix == ".json" else self.selection
        return Evaluation(name, score(self.truth, self.predictions), protocol, seen, data_errors.content(), sure)


@dataclass(frozen=True)
class _Looking:
    """How a set is looked at."""

    data_errors: DataErrors
    boxes: Path | str | None
    flip_test: bool
    device: str

    def at(self, what: Path, truth: PoseDataset, network: str | None) -> _Found:
        """What a run, weights or a results file find of the persons in `truth`."""
        data_errors, boxes = self.data_errors, self.boxes
        if what.suffix == ".json":
            truth = _over_joints(_skeleton_beside(what), truth, what)
            found = data_errors.read(
                what.name, lambda problems: load_predictions(what, truth.skeleton, problems, truth)
            )
            return _Found(what, truth, found, f"of {what.name}", "a predictions file", False, "")
        model = load_pose_model(what, network)
        truth = _over_joints(model.skeleton, truth, what)
        persons = truth.trainable()
        if boxes:
            persons = data_errors.read("boxes", lambda problems: apply_detections(truth, boxes, problems=problems))
        found, failed = predict_dataset(
            model, persons, data_errors, "data", flip_test=self.flip_test, device=self.device
        )
        origin = str(boxes) if boxes else "ground truth"
        name = f"{what} ({model.name})"
        return _Found(what, without_images(truth, failed), found, origin, name, self.flip_test, model.decoder)


def _truth(data: str, images: str | None, problems: list[str]) -> PoseDataset:
    if data.endswith((".yaml", ".yml")):
        section = open_data_file(DataConfig(train=data))
        if section.test or section.val:
            chosen = (section.test, section.test_images) if section.test else (section.val, section.val_images)
            return read_dataset(str(chosen[0]), images or chosen[1], "val", problems)
        data, images = section.train or data, images or section.images
    return read_dataset(data, images, "val", problems)


def _skeleton_beside(predictions: Path) -> Skeleton | None:
    """The skeleton of the run that a predictions file lies in; the file itself names no joints."""
    require_unchanged(predictions)
    weights = predictions.with_name("best.safetensors")
    known = predictions.name == "predictions.json" and weights.is_file()
    return read_skeleton(weights) if known else None


def _over_joints(skeleton: Skeleton | None, truth: PoseDataset, what: Path) -> PoseDataset:
    """The persons over the joints of what predicts them, which may be more (a union): those are not judged.

    Raises ConfigError where the set has a joint that is not predicted, or other pairs.
    """
    if skeleton is None:
        return truth
    theirs = truth.skeleton
    odd = sorted(set(theirs.joints) - set(skeleton.joints))
    if odd:
        raise ConfigError(
            f"{what} predicts the {len(skeleton)} joints of {skeleton.name!r}, {truth.source} labels the "
            f"{len(theirs)} of {theirs.name!r} (first difference: {odd[0]}); take data of its own skeleton"
        )
    shared = {pair for pair in skeleton.named_pairs if pair <= set(theirs.joints)}
    changed = sorted(map(sorted, shared ^ theirs.named_pairs))
    if changed:
        raise ConfigError(
            f"{what} was trained with other flip pairs than {truth.source} has (first difference: "
            f"{' and '.join(changed[0])}); take data of its own skeleton"
        )
    own = dict(zip(skeleton.joints, skeleton.sigmas, strict=True)) | dict(
        zip(theirs.joints, theirs.sigmas, strict=True)
    )
    sigmas = tuple(own[joint] for joint in skeleton.joints)
    return truth.to_skeleton(replace(skeleton, name=theirs.name, sigmas=sigmas))
