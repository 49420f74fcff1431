"""The public functions: train, evaluate, predict, export, load; the command line calls these and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semipose.config import RunConfig, alteration_options, load_config, options, parse_override
from semipose.data.coco import read_image_list, write_coco
from semipose.data.crops import FreshCrops
from semipose.data.folder import apply_detections, read_folder, whole_images
from semipose.data.readers import read_annotations
from semipose.data.records import PersonSet
from semipose.data.sources import DataConfig, read_annotated, resolve
from semipose.errors import ConfigError, DataError
from semipose.evaluation.predictions import Prediction, load_predictions, save_predictions, save_submission
from semipose.evaluation.protocol import Protocol, Scores, score
from semipose.inference.draw import draw_predictions
from semipose.inference.export import export_onnx
from semipose.inference.pose_model import PoseModel, load_pose_model
from semipose.inference.predictor import Predictor
from semipose.inference.video import SUFFIXES as VIDEO_SUFFIXES
from semipose.inference.video import predict_video
from semipose.methods import METHODS
from semipose.run import train as train_run
from semipose.skeletons import COCO, SKELETONS
from semipose.training.engine import start_fabric
from semipose.training.judge import Result


@dataclass(frozen=True)
class Evaluation:
    """Scores and the protocol they were made under."""

    scores: Scores
    protocol: Protocol


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
        return train_run(load_config(saved, given), Path(out), resume=True)
    config = load_config(files[0] if files else None, given)
    if not files and "method" not in given and not any(key.startswith("method.") for key in given):
        config = load_config(None, {**given, "method": "trs" if _has_unlabeled(config.data) else "supervised"})
    return train_run(config, Path(out) if out else Path("runs") / config.method.name)


def evaluate(
    what: Path | str,
    data: str,
    *,
    images: str | None = None,
    boxes: Path | str | None = None,
    flip_test: bool = False,
    device: str = "auto",
) -> Evaluation:
    """Scores a run folder, a weights file or a COCO results file on annotated persons.

    `data` is `people` (its test part), a COCO keypoints file or a data YAML (its `test`, else `val`). With `boxes`
    the network looks at detected boxes instead of the annotated ones.
    """
    what = Path(what)
    truth = _truth(data, images)
    if what.suffix == ".json":
        predictions = load_predictions(what, truth.skeleton)
        origin, selection = f"of {what.name}", "a predictions file"
        flip_test = False
    else:
        model = load_pose_model(what)
        _same_joints(model, truth, what)
        persons = apply_detections(truth, boxes) if boxes else _with_boxes(truth)
        predictions = predict_persons(model, persons, flip_test=flip_test, device=device)
        origin, selection = str(boxes) if boxes else "ground truth", f"{what} ({model.name})"
    protocol = Protocol.of(truth, boxes=origin, flip_test=flip_test, weights_selection=selection)
    return Evaluation(score(truth, predictions), protocol)


def load(what: Path | str) -> PoseModel:
    """The model of a run folder or a weights file."""
    return load_pose_model(what)


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
) -> list[Path]:
    """Joints of people in an image, a folder, a video or the images that a COCO file lists; returns the files written.

    predictions.json comes first. A COCO file (`images` is its image folder) needs `boxes`; with COCO's joints the
    result as its server takes it is written beside, `person_keypoints_NAME_semipose_results.json`.
    """
    model, source, out = load_pose_model(what), Path(source), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if source.suffix.lower() in VIDEO_SUFFIXES:
        predictor = make_predictor(model, flip_test=flip_test, device=device)
        return predict_video(predictor, model, source, out, boxes=boxes, draw=draw)
    if source.suffix == ".json":
        if boxes is None:
            raise ConfigError(f"{source} lists images without people; give a detector's boxes with --boxes")
        persons = apply_detections(read_image_list(source, images, model.skeleton), boxes)
    elif source.is_dir():
        persons = read_folder(source, model.skeleton, boxes=Path(boxes) if boxes else None)
    elif source.is_file() and boxes:
        persons = apply_detections(whole_images([source], model.skeleton, str(source)), boxes)
    elif source.is_file():
        persons = whole_images([source], model.skeleton, str(source))
    else:
        raise DataError(f"{source} is not there; give an image, a folder of images or a video")
    predictions = predict_persons(model, persons, flip_test=flip_test, device=device)
    written = [out / "predictions.json"]
    save_predictions(predictions, written[0])
    if source.suffix == ".json" and model.skeleton.joints == COCO.joints:
        written.append(out / f"person_keypoints_{source.stem.removeprefix('image_info_')}_semipose_results.json")
        save_submission(predictions, written[1])
    return written + (draw_predictions(persons, predictions, model.skeleton, out) if draw else [])


def predict_persons(
    model: PoseModel, persons: PersonSet, *, flip_test: bool = False, device: str = "auto"
) -> list[Prediction]:
    """One prediction per person box of `persons`."""
    return make_predictor(model, flip_test=flip_test, device=device).predict(FreshCrops(persons, model.geometry))


def make_predictor(model: PoseModel, *, flip_test: bool = False, device: str = "auto") -> Predictor:
    """The model on its device, ready to predict."""
    fabric = start_fabric(device, "32-true")
    model.network.to(fabric.device)
    return Predictor([model.network], model.reads, flip_test, model.decoder, model.loss.sigma, device=fabric.device)


def export(what: Path | str, out: Path | str, *, to: str = "onnx") -> Path:
    """Writes the network for other runtimes and checks the file against it."""
    if to != "onnx":
        raise ConfigError(f"export format {to!r} is unknown; known: onnx")
    return export_onnx(load_pose_model(what), Path(out))


def convert(
    annotations: Path | str, out: Path | str, *, images: Path | str | None = None, skeleton: str | None = None
) -> Path:
    """Writes an annotation file of any known format as a COCO container, onto another `skeleton` if asked."""
    persons = read_annotations(Path(annotations), images)
    if skeleton is not None:
        if skeleton not in SKELETONS:
            raise ConfigError(f"unknown skeleton {skeleton!r}; known: {', '.join(SKELETONS)}")
        persons = persons.mapped(SKELETONS[skeleton])
    write_coco(persons, Path(out))
    return Path(out)


def all_options(method: str) -> list[tuple[str, str, str, str]]:
    """Every option as (name, type, default, meaning), those of `method` included."""
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    return options(RunConfig) + options(METHODS[method][0], "method.") + alteration_options()


def _has_unlabeled(data: DataConfig) -> bool:
    data = resolve(data)
    return data.labels is not None or data.unlabeled is not None


def _truth(data: str, images: str | None) -> PersonSet:
    if data.endswith((".yaml", ".yml")):
        section = resolve(DataConfig(train=data))
        if section.test or section.val:
            chosen = (section.test, section.test_images) if section.test else (section.val, section.val_images)
            return read_annotated(str(chosen[0]), images or chosen[1], "val")
        data, images = section.train, images or section.images
    return read_annotated(data, images, "val")


def _with_boxes(truth: PersonSet) -> PersonSet:
    """The persons a top-down network is run on: those the protocol counts, each with its annotated box."""
    return truth.subset(np.flatnonzero(truth.persons.trainable))


def _same_joints(model: PoseModel, truth: PersonSet, what: Path) -> None:
    if model.skeleton.joints != truth.skeleton.joints:
        theirs: Iterator[str] = (j for j in model.skeleton.joints if j not in truth.skeleton.joints)
        odd = next(theirs, "their order")
        raise ConfigError(
            f"{what} predicts the {len(model.skeleton)} joints of {model.skeleton.name!r}, {truth.source} labels the "
            f"{len(truth.skeleton)} of {truth.skeleton.name!r} (first difference: {odd}); take data of its own skeleton"
        )


def device_name() -> str:
    """What training would run on: for result tables."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
