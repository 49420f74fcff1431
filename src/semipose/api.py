"""The public functions: train, evaluate, predict, export, load; the command line calls these and nothing else."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from semipose.config import RunConfig, alteration_options, left_behind, load_config, options, parse_override
from semipose.data.coco import trainable
from semipose.data.coco_writer import write_coco
from semipose.data.crops import FreshCrops
from semipose.data.folder import apply_detections
from semipose.data.overlap import describe_seen, digests, photographs, read_seen
from semipose.data.pictured import pictured
from semipose.data.policy import Intake, Policy, without_photographs
from semipose.data.records import PersonSet
from semipose.data.sources import DataConfig, read_annotated, resolve
from semipose.data.video import SUFFIXES as VIDEO_SUFFIXES
from semipose.errors import ConfigError
from semipose.evaluation.intervals import Difference, Interval, differences, intervals
from semipose.evaluation.predictions import (
    JOINT_SCORE,
    Prediction,
    as_annotations,
    load_predictions,
    save_predictions,
    save_submission,
)
from semipose.evaluation.protocol import Protocol, Scores, score
from semipose.files import place_for
from semipose.inference.draw import draw_predictions
from semipose.inference.export import export_onnx
from semipose.inference.pose_model import PoseModel, load_pose_model, read_skeleton, require_unchanged
from semipose.inference.predictor import Predictor
from semipose.inference.video import predict_video
from semipose.methods import METHODS, VARIANTS
from semipose.run import train as train_run
from semipose.skeletons import COCO, Skeleton
from semipose.training.engine import start_fabric
from semipose.training.judge import Result
from semipose.training.progress import say, watched


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
    protocol: Protocol
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


def train(
    *arguments: str, out: Path | str | None = None, resume: bool = False, overrides: dict[str, Any] | None = None
) -> Result:
    """Trains and returns the scores of the selected weights.

    `arguments`: a configuration file and/or overrides `section.key=value`, as on the command line; `overrides`: the
    same as a dictionary, which wins. `resume` continues the run in `out` with its own configuration.
    Without a method, `trs` is trained where there are unlabeled images, else `supervised`.
    """
    files = [a for a in arguments if "=" not in a]
    if len(files) > 1:
        raise ConfigError(f"one configuration file at most, not {' and '.join(files)}; overrides are section.key=value")
    given = dict(parse_override(a) for a in arguments if "=" in a) | (overrides or {})
    if resume:
        if out is None:
            raise ConfigError("--resume needs --out with the run's folder")
        saved = Path(out) / "config.yaml"
        if not saved.is_file():
            raise ConfigError(f"{out} holds no run to resume (no config.yaml); start it without --resume")
        if files:
            raise ConfigError(f"{files[0]}: --resume goes on with the run's own configuration; leave it out")
        return train_run(load_config(saved, given), Path(out), resume=True)
    file = files[0] if files else None
    if "method" not in given:
        rest = {key: value for key, value in given.items() if not key.startswith("method.")}
        plain = load_config(file, rest)
        if "method" not in plain.model_fields_set:
            given = {**given, "method": "trs" if _has_unlabeled(plain.data) else "supervised"}
    config = load_config(file, given)
    idle = left_behind(file, given["method"]) if file and isinstance(given.get("method"), str) else []
    if idle:
        say(f"{', '.join(idle)} of {file} belong to another method than {given['method']} and do not apply")
    return train_run(config, Path(out) if out else Path("runs") / config.method.name)


def evaluate(
    what: Path | str,
    data: str,
    *,
    images: str | None = None,
    boxes: Path | str | None = None,
    flip_test: bool = False,
    device: str = "auto",
    broken: Policy = "strict",
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
    what, intake = Path(what), _intake(broken)
    truth = intake.read("data", lambda problems: _truth(data, images, problems))
    if what.suffix == ".json":
        _refuse_given(f"{what.name} holds predictions already", boxes=boxes, flip_test=flip_test, network=network)
    look = _Looking(intake, boxes, flip_test, device)
    found = look.at(what, truth, network)
    evaluation = found.judged(intake)
    if against is None:
        _refuse_given("there is no --against", against_network=against_network)
        return evaluation
    other = look.at(Path(against), truth, against_network)
    gained = differences((found.truth, found.predictions), (other.truth, other.predictions))
    return replace(evaluation, against=other.judged(intake), difference=gained)


@dataclass(frozen=True)
class _Found:
    """Predictions of `what`, the persons they are judged on, and what a protocol says of them."""

    what: Path
    truth: PersonSet
    predictions: list[Prediction]
    origin: str
    selection: str
    flip_test: bool
    decoder: str

    def judged(self, intake: Intake) -> Evaluation:
        """Scores, protocol and intervals."""
        known = read_seen(self.what)
        seen = known.among(digests(photographs(self.truth))) if known else None
        protocol = Protocol.of(
            self.truth,
            boxes=self.origin,
            flip_test=self.flip_test,
            weights_selection=self.selection,
            left_out=intake.describe(),
            seen=describe_seen(seen),
            decoder=self.decoder,
        )
        sure = intervals(self.truth, self.predictions)
        name = self.what.name if self.what.suffix == ".json" else self.selection
        return Evaluation(name, score(self.truth, self.predictions), protocol, seen, intake.content(), sure)


@dataclass(frozen=True)
class _Looking:
    """How a set is looked at."""

    intake: Intake
    boxes: Path | str | None
    flip_test: bool
    device: str

    def at(self, what: Path, truth: PersonSet, network: str | None) -> _Found:
        """What a run, weights or a results file find of the persons in `truth`."""
        intake, boxes = self.intake, self.boxes
        if what.suffix == ".json":
            truth = _over_joints(_skeleton_beside(what), truth, what)
            found = intake.read(what.name, lambda problems: load_predictions(what, truth.skeleton, problems, truth))
            return _Found(what, truth, found, f"of {what.name}", "a predictions file", False, "")
        model = load_pose_model(what, network)
        truth = _over_joints(model.skeleton, truth, what)
        persons = trainable(truth)
        if boxes:
            persons = intake.read("boxes", lambda problems: apply_detections(truth, boxes, problems=problems))
        found, failed = _look(model, persons, intake, "data", flip_test=self.flip_test, device=self.device)
        origin = str(boxes) if boxes else "ground truth"
        name = f"{what} ({model.name})"
        return _Found(what, without_photographs(truth, failed), found, origin, name, self.flip_test, model.decoder)


def load(what: Path | str, *, network: str | None = None) -> PoseModel:
    """The model of a run folder or a weights file.

    `network`: of a run folder, another network than its best, by name, or `ensemble`: the heatmaps of those that the
    method's figure is the mean of, averaged.
    """
    return load_pose_model(what, network)


def predict(
    what: Path | str,
    source: Path | str,
    *,
    images: Path | str | None = None,
    boxes: Path | str | None = None,
    out: Path | str = "predictions",
    draw: bool = False,
    flip_test: bool = False,
    device: str = "auto",
    min_score: float = 0.0,
    annotations: bool = False,
    min_joint_score: float | None = None,
    broken: Policy = "skip",
    network: str | None = None,
) -> list[Path]:
    """Joints of people in an image, a folder, a video or the images that a COCO file lists; returns the files written.

    predictions.json comes first. Of a COCO file (`images` is its image folder) the annotated boxes are looked at, or
    `boxes`, a detector's; with COCO's joints the result as its server takes it is written beside,
    `person_keypoints_NAME_semipose_results.json`. Boxes with a score below `min_score` are left out. With `annotations`
    (not of a video) annotations.json is written too: a COCO container for a labeling tool; joints below
    `min_joint_score` (.2 when not given) are left unlabeled there. `broken`: images and detections that can't be read
    are left out and counted, dropped.json lists them; or they stop it (`strict`).
    `network`: as in `load`.
    """
    model, source, out, intake = load_pose_model(what, network), Path(source), Path(out), _intake(broken)
    if draw and source.is_dir() and source.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"--out: pictures in {out} would be taken for photographs of {source}; choose another folder")
    if not annotations:
        _refuse_given("without --annotations nothing goes by it", min_joint_score=min_joint_score is not None)
    is_video = source.suffix.lower() in VIDEO_SUFFIXES
    if is_video:
        _refuse_given(f"{source.name} is a video; semipose data frames takes images out of it", annotations=annotations)
    if source.suffix.lower() != ".json":
        _refuse_given(f"{source.name} is no COCO file", images=images)
    if boxes is None:
        _refuse_given("it goes by the scores of --boxes", min_score=min_score)
    if annotations and (out / "annotations.json").exists():
        raise ConfigError(f"--out: {out} holds annotations.json already, perhaps corrected; choose another folder")
    for name in ("predictions.json", *(["annotations.json"] if annotations else [])):
        place_for(out / name, source, *([Path(boxes)] if boxes else []))
    if is_video:
        predictor = make_predictor(model, flip_test=flip_test, device=device)
        return predict_video(predictor, model, source, out, boxes=boxes, draw=draw, min_score=min_score, watch=watched)
    persons = intake.read(
        "images", lambda problems: pictured(source, model.skeleton, images, boxes, min_score, problems)
    )
    predictions, _ = _look(model, persons, intake, "images", flip_test=flip_test, device=device)
    intake.write(out)
    written = [out / "predictions.json"]
    root = source if source.is_dir() else None
    names = {p.image_id: p.image.relative_to(root).as_posix() if root else p.image.name for p in persons.persons}
    save_predictions(predictions, written[0], files=names)
    numbered = all(isinstance(p.image_id, int) for p in predictions)
    if source.suffix == ".json" and model.skeleton.joints == COCO.joints and numbered:
        written.append(out / f"person_keypoints_{source.stem.removeprefix('image_info_')}_semipose_results.json")
        save_submission(predictions, written[1])
    if annotations:
        written.append(out / "annotations.json")
        least = JOINT_SCORE if min_joint_score is None else min_joint_score
        root = write_coco(as_annotations(persons, predictions, least), written[-1])
        scores = np.concatenate([p.scores for p in predictions] or [np.zeros(0)])
        say(
            f"{written[-1]}: {(scores >= least).sum()} of {len(scores)} joints, those of a score of {least:g} or more "
            f"(highest {scores.max(initial=0):.2g}), are labeled; image names are relative to {root}"
        )
    return written + (draw_predictions(persons, predictions, model.skeleton, out) if draw else [])


def predict_persons(
    model: PoseModel, persons: PersonSet, *, flip_test: bool = False, device: str = "auto"
) -> list[Prediction]:
    """One prediction per person box of `persons`; BrokenDataError with every photograph that can't be read."""
    return _look(model, persons, _intake("strict"), "images", flip_test=flip_test, device=device)[0]


def _look(
    model: PoseModel, persons: PersonSet, intake: Intake, name: str, *, flip_test: bool, device: str
) -> tuple[list[Prediction], Collection[Path]]:
    """Predictions, and the photographs that could not be read, whose persons have none."""
    failed: dict[Path, str] = {}
    predictor = make_predictor(model, flip_test=flip_test, device=device)
    found = predictor.predict(FreshCrops(persons, model.geometry, failed), watched)
    if failed:
        intake.photographs(name)(persons.source, failed, len({p.image for p in persons.persons}))
    return [p for p, person in zip(found, persons.persons, strict=True) if person.image not in failed], failed


def _refuse_given(why: str, **given: Any) -> None:
    """Raises ConfigError for options that would do nothing here."""
    useless = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if useless:
        raise ConfigError(f"{', '.join(useless)}: {why}; leave {'it' if len(useless) == 1 else 'them'} out")


def _intake(broken: str) -> Intake:
    if broken not in get_args(Policy):
        raise ConfigError(f"--broken {broken} is unknown; known: {', '.join(get_args(Policy))}")
    return Intake(usual="strict" if broken == "strict" else "skip", remedy="--broken skip")


def make_predictor(model: PoseModel, *, flip_test: bool = False, device: str = "auto") -> Predictor:
    """The model on its device, ready to predict."""
    fabric = start_fabric(device, "32-true")
    model.to(fabric.device)
    return Predictor(model.networks, model.reads, flip_test, model.decoder, model.loss.sigma, device=fabric.device)


def export(what: Path | str, out: Path | str, *, to: str = "onnx", network: str | None = None) -> Path:
    """Writes the network (`network`: as in `load`) for other runtimes and checks the file against it."""
    if to != "onnx" or Path(out).suffix != ".onnx":
        raise ConfigError(f"export writes .onnx files alone: --to {to}, --out {out}")
    model = load_pose_model(what, network)
    place_for(Path(out))
    return export_onnx(model, Path(out))


def all_options(method: str) -> list[tuple[str, str, str, str]]:
    """Every option as (name, type, default, meaning), those of `method`, or a variant of one, included."""
    if method not in METHODS and method not in VARIANTS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join([*METHODS, *VARIANTS])}")
    own = load_config(None, {"method": method}).method
    return options(RunConfig) + options(type(own), "method.", own) + alteration_options(type(own))


def _has_unlabeled(data: DataConfig) -> bool:
    data = resolve(data)
    return data.labels is not None or data.unlabeled is not None


def _truth(data: str, images: str | None, problems: list[str]) -> PersonSet:
    if data.endswith((".yaml", ".yml")):
        section = resolve(DataConfig(train=data))
        if section.test or section.val:
            chosen = (section.test, section.test_images) if section.test else (section.val, section.val_images)
            return read_annotated(str(chosen[0]), images or chosen[1], "val", problems)
        data, images = section.train, images or section.images
    return read_annotated(data, images, "val", problems)


def _skeleton_beside(predictions: Path) -> Skeleton | None:
    """The skeleton of the run that a predictions file lies in; the file itself names no joints."""
    require_unchanged(predictions)
    weights = predictions.with_name("best.safetensors")
    known = predictions.name == "predictions.json" and weights.is_file()
    return read_skeleton(weights) if known else None


def _over_joints(skeleton: Skeleton | None, truth: PersonSet, what: Path) -> PersonSet:
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
    return truth.mapped(replace(skeleton, name=theirs.name, sigmas=sigmas))
