"""The public functions: train, evaluate, predict, export, load; the commands of those names call these."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from semipose.config import RunConfig, augmentation_options, left_behind, load_config, options, parse_override
from semipose.data.data_errors import ErrorPolicy
from semipose.data.datasets import DataConfig, open_data_file
from semipose.data.formats.coco_results import save_predictions, save_submission
from semipose.data.formats.coco_writer import write_coco
from semipose.data.prediction_images import prediction_dataset
from semipose.data.video import SUFFIXES as VIDEO_SUFFIXES
from semipose.errors import ConfigError
from semipose.inference.draw import draw_predictions
from semipose.inference.evaluation import Evaluation, evaluate
from semipose.inference.onnx import export_onnx
from semipose.inference.pose_model import PoseModel, load_pose_model
from semipose.inference.predict_dataset import data_errors_for, make_predictor, predict_dataset, refuse_given
from semipose.inference.suggest import most_doubtful
from semipose.inference.video import predict_video
from semipose.methods import METHODS, VARIANTS
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import JOINT_SCORE, Prediction, as_annotations
from semipose.structures.skeletons import COCO
from semipose.trainer import train as train_run
from semipose.training.evaluator import TrainResult
from semipose.utils.files import place_for
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)


__all__ = [
    "Evaluation",
    "TrainResult",
    "all_options",
    "evaluate",
    "export",
    "load",
    "predict",
    "predict_persons",
    "train",
]


def train(
    *arguments: str,
    out: Path | str | None = None,
    resume: bool = False,
    overrides: dict[str, Any] | None = None,
    progress: Progress = NO_PROGRESS,
) -> TrainResult:
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
        return train_run(load_config(saved, given), Path(out), resume=True, progress=progress)
    file = files[0] if files else None
    if "method" not in given:
        rest = {key: value for key, value in given.items() if not key.startswith("method.")}
        plain = load_config(file, rest)
        if "method" not in plain.model_fields_set:
            given = {**given, "method": "trs" if _has_unlabeled(plain.data) else "supervised"}
    config = load_config(file, given)
    idle = left_behind(file, given["method"]) if file and isinstance(given.get("method"), str) else []
    if idle:
        log.info(f"{', '.join(idle)} of {file} belong to another method than {given['method']} and do not apply")
    return train_run(config, Path(out) if out else Path("runs") / config.method.name, progress=progress)


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
    doubtful: int | None = None,
    broken: ErrorPolicy = "skip",
    network: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> list[Path]:
    """Joints of people in an image, a folder, a video or the images that a COCO file lists; returns the files written.

    predictions.json comes first. Of a COCO file (`images` is its image folder) the annotated boxes are looked at, or
    `boxes`, a detector's; with COCO's joints the result as its server takes it is written beside,
    `person_keypoints_NAME_semipose_results.json`. Boxes with a score below `min_score` are left out. With `annotations`
    (not of a video) annotations.json is written too: a COCO container for a labeling tool; joints below
    `min_joint_score` (.2 when not given) are left unlabeled there, and with `doubtful` it holds that many images alone,
    those with the lowest joint scores first. `broken`: images and detections that can't be read are left out and
    counted, dropped.json lists them; or they stop it (`strict`).
    `network`: as in `load`.
    """
    model, source, out, data_errors = load_pose_model(what, network), Path(source), Path(out), data_errors_for(broken)
    if not annotations:
        given = {"min_joint_score": min_joint_score is not None, "doubtful": doubtful}
        refuse_given("without --annotations nothing goes by it", **given)
    _refuse_idle(source, boxes=boxes, annotations=annotations, images=images, min_score=min_score)
    _refuse_places(source, out, boxes, draw=draw, annotations=annotations)
    if _is_video(source):
        predictor = make_predictor(model, flip_test=flip_test, device=device)
        return predict_video(
            predictor, model, source, out, boxes=boxes, draw=draw, min_score=min_score, progress=progress
        )
    persons = data_errors.read(
        "images", lambda problems: prediction_dataset(source, model.skeleton, images, boxes, min_score, problems)
    )
    predictions, _ = predict_dataset(
        model, persons, data_errors, "images", flip_test=flip_test, device=device, progress=progress
    )
    data_errors.write(out)
    written = [out / "predictions.json"]
    root = source if source.is_dir() else None
    names = {p.image_id: p.image.relative_to(root).as_posix() if root else p.image.name for p in persons.instances}
    save_predictions(predictions, written[0], files=names)
    numbered = all(isinstance(p.image_id, int) for p in predictions)
    if source.suffix == ".json" and model.skeleton.joints == COCO.joints and numbered:
        written.append(out / f"person_keypoints_{source.stem.removeprefix('image_info_')}_semipose_results.json")
        save_submission(predictions, written[1])
    if annotations:
        written.append(out / "annotations.json")
        _write_labels(persons, predictions, written[-1], min_joint_score, doubtful)
    return written + (draw_predictions(persons, predictions, model.skeleton, out) if draw else [])


def _is_video(source: Path) -> bool:
    return source.suffix.lower() in VIDEO_SUFFIXES


def _refuse_idle(source: Path, *, boxes: Any, annotations: bool, images: Any, min_score: float) -> None:
    """Raises ConfigError for options that nothing goes by with this source."""
    if _is_video(source):
        refuse_given(f"{source.name} is a video; semipose data frames takes images out of it", annotations=annotations)
    if source.suffix.lower() != ".json":
        refuse_given(f"{source.name} is no COCO file", images=images)
    if boxes is None:
        refuse_given("it goes by the scores of --boxes", min_score=min_score)


def _refuse_places(source: Path, out: Path, boxes: Path | str | None, *, draw: bool, annotations: bool) -> None:
    """Raises ConfigError where a file to be written would take the place of one that is there, or fall among photos."""
    if draw and source.is_dir() and source.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"--out: pictures in {out} would be taken for photographs of {source}; choose another folder")
    if annotations and (out / "annotations.json").exists():
        raise ConfigError(f"--out: {out} holds annotations.json already, perhaps corrected; choose another folder")
    for name in ("predictions.json", *(["annotations.json"] if annotations else [])):
        place_for(out / name, source, *([Path(boxes)] if boxes else []))


def _write_labels(
    persons: PoseDataset, predictions: list[Prediction], path: Path, least: float | None, doubtful: int | None
) -> None:
    """Predictions as a container to correct, of all images or the `doubtful` ones; says how many joints it labels."""
    least = JOINT_SCORE if least is None else least
    if doubtful is not None:
        predictions = most_doubtful(predictions, doubtful)
        persons = PoseDataset(persons.skeleton, persons.instances, persons.source)  # without images that show nobody
    root = write_coco(as_annotations(persons, predictions, least), path)
    scores = np.concatenate([p.scores for p in predictions] or [np.zeros(0)])
    log.info(
        f"{path}: {(scores >= least).sum()} of {len(scores)} joints, those of a score of {least:g} or more (highest "
        f"{scores.max(initial=0):.2g}), are labeled; image names are relative to {root}"
    )


def predict_persons(
    model: PoseModel, persons: PoseDataset, *, flip_test: bool = False, device: str = "auto"
) -> list[Prediction]:
    """One prediction per person box of `persons`; BrokenDataError with every photograph that can't be read."""
    return predict_dataset(model, persons, data_errors_for("strict"), "images", flip_test=flip_test, device=device)[0]


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
    return options(RunConfig) + options(type(own), "method.", own) + augmentation_options(type(own))


def _has_unlabeled(data: DataConfig) -> bool:
    data = open_data_file(data)
    return data.labels is not None or data.unlabeled is not None
