"""Evaluation during a training on the validation set, and of the kept weights on the test set at its end."""

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file
from torch import Tensor

from semipose.data.crop_cache import CropCache, Encoding, open_crop_cache
from semipose.data.crops import CropGeometry, Crops, crops_of_rank
from semipose.data.data_errors import without_images
from semipose.data.datasets import DataSplits
from semipose.data.formats.coco_results import save_predictions
from semipose.data.leakage import TrainingImages, describe_leakage
from semipose.errors import RunError
from semipose.inference.pose_model import PoseModel
from semipose.inference.predictor import Predictor
from semipose.losses import LossConfig
from semipose.metrics.bootstrap import MIN_IMAGES, intervals
from semipose.metrics.calibration import NOT_CALIBRATED
from semipose.metrics.gain import Gain, explain_harm, measure_gain
from semipose.metrics.instance_score import DESCRIPTIONS
from semipose.metrics.oks_scale import ap_caveats
from semipose.metrics.registry import value_text
from semipose.metrics.scores import EvaluationProtocol, score
from semipose.models.pose_net import PoseNet
from semipose.structures.boxes import AUTO, BOX_WORDS, BoxFacts, own_boxes
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, evaluated_images
from semipose.training.calibration import calibrate_weights
from semipose.training.checkpoint import TrainingState
from semipose.training.config import EvaluationConfig
from semipose.training.distributed import all_gather, barrier, is_main_process, rank, world_size
from semipose.training.engine import Engine
from semipose.training.loggers import MetricsLog
from semipose.training.result import NetworkScores, TrainResult
from semipose.utils.files import replacing, write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

log = logging.getLogger(__name__)

SetName = Literal["validation", "test"]

TIE_BREAKER = 1e-6
"""Weight of PCK in the validation score, so that PCK decides between equal APs, such as zeros at the beginning."""


@dataclass(frozen=True)
class Validation:
    """The result of an evaluation on the validation set.

    Attributes:
        score: What selects the best weights: `selection_score` of the headline networks.
        best_network: The network with the highest score.
    """

    score: float
    best_network: str


class Evaluator:
    """Evaluates the networks of a method and keeps the best weights.

    Args:
        engine: The engine of the training.
        splits: The data, with validation and test sets.
        geometry: The geometry of the crops.
        loss: Converts outputs to heatmaps.
        out: The run folder.
        select: Whether to keep the best weights on the validation set, or the last.
        evaluation: Options of all evaluations.
        boxes: How the boxes of the labeled persons were made, which weights files state.
        encoding: The encoding of cached crops.
        progress: Reports the caching of crops.

    Attributes:
        crops: The crops of each set.
        unlearned_joints: Joints that no labeled person has; they are not evaluated.
    """

    def __init__(
        self,
        engine: Engine,
        splits: DataSplits,
        geometry: CropGeometry,
        loss: LossConfig,
        out: Path,
        *,
        select: Literal["best", "last"],
        evaluation: EvaluationConfig,
        boxes: BoxFacts | None = None,
        encoding: Encoding = "auto",
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.engine, self.splits, self.geometry, self.loss, self.out = engine, splits, geometry, loss, out
        self.select, self.evaluation, self.boxes = select, evaluation, boxes
        self._flip_test = evaluation.flip_test and bool(splits.labeled.skeleton.flip_pairs)
        self.unlearned_joints = splits.unlearned_joints
        self.crops: dict[SetName, CropCache] = {}
        self._truth: dict[SetName, PoseDataset] = {}
        sets: list[tuple[SetName, PoseDataset | None, str]] = [
            ("validation", splits.validation, splits.validation_set),
            ("test", splits.test, "test"),
        ]
        for which, persons, name in sets:
            if persons is not None:  # cropped before the training, so that unreadable images are reported before it
                on_unreadable = splits.data_errors.on_unreadable(name)
                crops = open_crop_cache(
                    persons.trainable(), geometry, encoding=encoding, on_unreadable=on_unreadable, progress=progress
                )
                truth = without_images(persons, crops.failed).without_joints(self.unlearned_joints)
                self.crops[which], self._truth[which] = crops, truth
        self.ap_caveats = ap_caveats(self._truth["validation"]) if "validation" in self._truth else ()
        self._unsaved: tuple[str, dict[str, dict[str, Tensor]]] | None = None
        self._in_16_bit = False

    @property
    def headline_networks(self) -> tuple[str, ...]:
        """The networks whose mean score is the score of the method."""
        return tuple(self.engine.method.headline_networks)

    def image_digests(self, which: SetName) -> dict[Path, str]:
        """Returns the images of a set with their digests; empty if there is no such set."""
        return self.crops[which].image_digests if which in self.crops else {}

    @property
    def passes(self) -> int:
        """The number of forward passes of one image in an evaluation on the validation set."""
        networks = len(self.engine.method.eval_networks()) * (2 if self._flip_test else 1)
        return networks * len(self.crops["validation"]) if "validation" in self.crops else 0

    def persons(self, which: SetName) -> PoseDataset | None:
        """Returns the evaluated persons of a set."""
        return self._truth.get(which)

    def validate(self, step: int, metrics: MetricsLog) -> Validation | None:
        """Evaluates all networks on the validation set and logs their scores; None if there is no such set."""
        if "validation" not in self._truth:
            return None
        scores = self._scores(self._predict_all("validation"), "validation")
        for name, values in scores.items():
            metrics.write(step, f"validation/{name}", values)
        log.info(f"step {step}: validation " + "  ".join(f"{n} {_short(values)}" for n, values in scores.items()))
        headline = "mean" if len(self.headline_networks) > 1 else self.headline_networks[0]
        selected_by = {name: selection_score(found, self.ap_caveats) for name, found in scores.items()}
        method = self.engine.method
        candidates = [name for name in method.eval_networks() if name != method.baseline_network]
        return Validation(selected_by[headline], max(candidates, key=selected_by.__getitem__))

    def select_network(self, name: str, state: TrainingState) -> None:
        """Makes the kept weights of a network best.safetensors."""
        state.best_network = name
        if is_main_process():
            with replacing(self.out / "best.safetensors") as temporary:
                shutil.copyfile(self.out / "weights" / f"{name}.safetensors", temporary)

    def keep_weights(self, best_network: str) -> None:
        """Keeps the current weights of all networks, in memory until `write_weights` has written them.

        Args:
            best_network: The network for best.safetensors.
        """
        networks = self.engine.method.eval_networks()
        weights = {
            name: {key: tensor.detach().to("cpu", copy=True) for key, tensor in network.state_dict().items()}
            for name, network in networks.items()
        }
        self._unsaved = best_network, weights
        with suppress(OSError):
            self.write_weights()

    def write_weights(self) -> None:
        """Writes the kept weights to weights/NAME.safetensors and best.safetensors, unless this is done already.

        Raises:
            OSError: If the files can't be written; the weights then stay in memory.
        """
        if self._unsaved is None:
            return
        best_network, weights = self._unsaved
        (self.out / "weights").mkdir(exist_ok=True)
        for name, network in self.engine.method.eval_networks().items():
            model = self._pose_model(name, network)
            model.save(self.out / "weights" / f"{name}.safetensors", weights[name])
            if name == best_network:
                model.save(self.out / "best.safetensors", weights[name])
        self._unsaved = None

    def test(
        self, state: TrainingState, images: TrainingImages, *, baseline: str | None, why_not: str = ""
    ) -> TrainResult:
        """Evaluates the kept weights on the test set, or else the validation set, and writes predictions and scores.

        Args:
            state: The state at the end of the training.
            images: The images of the training; the protocol reports how many of them are test images.
            baseline: What the gain from unlabeled images is over, in words; None if they had no part in the training.
            why_not: Why they had none, if there are some.
        """
        which: SetName = "test" if "test" in self._truth else "validation"
        truth = self._truth.get(which)
        if truth is None:
            no_scores = "no scores: there are no validation or test persons"
            log.info(f"{NOT_CALIBRATED}: no validation labels")
            no_gain = "there are no validation or test persons; give data.val or data.validation" if baseline else ""
            return TrainResult(
                *(self.out, {}, self.headline_networks, no_scores, state.seconds),
                unlabeled_not_used=why_not,
                gain_not_measured=no_gain,
            )
        self._load_kept_weights()
        predictions = self._predict_all(which)
        gain, deciding = (None, None) if baseline is None else self._gain(which, predictions, baseline)
        harm = self._keep_labels_alone(deciding, state) if deciding is not None and deciding.is_harm else ""
        protocol = self._protocol(which, truth, images)
        validated = predictions
        if which == "test" and "validation" in self._truth:
            validated = self._predict_all("validation")
        result = TrainResult(
            self.out,
            self._scores(predictions, which),
            self.headline_networks,
            protocol.describe(),
            state.seconds,
            gain=gain,
            boxes=protocol.boxes,
            unlabeled_not_used=why_not,
            gain_not_measured=self._why_no_gain(which) if baseline is not None and gain is None else "",
            harm=harm,
        )
        if not is_main_process():
            return result
        best, kind = predictions[state.best_network], self.evaluation.instance_score
        save_predictions(best, self.out / "predictions.json")
        found, pixel_error = intervals(truth, best, kind), score(truth, best, kind).pixel_error
        result = replace(result, best=state.best_network, intervals=found, pixel_error=pixel_error)
        calibration = calibrate_weights(self.out, self._truth.get("validation"), validated, state.best_network)
        of_run = {"split": self.splits.split.hash, "step": state.step, "calibration": calibration.as_dict()}
        write_text(self.out / "scores.json", json.dumps({**result.as_dict(), **of_run}, indent=1))
        return result

    def _gain(
        self, which: SetName, predictions: dict[str, list[Prediction]], baseline: str
    ) -> tuple[Gain | None, Gain | None]:
        """Returns the gain from unlabeled images on a set, and that on the validation set, each None if unknown.

        The latter decides which network is kept, so that the choice does not depend on the test set.
        """
        method = self.engine.method
        alone, ours = method.baseline_network, self.headline_networks[0]
        if alone is None:
            return None, None
        gain = measure_gain(self._truth[which], predictions[ours], predictions[alone], which, baseline)
        deciding = gain if which == "validation" else None
        if which == "test" and "validation" in self._truth:
            networks = method.eval_networks()
            first, second = (self._predict("validation", [networks[name]]) for name in (ours, alone))
            deciding = measure_gain(self._truth["validation"], first, second, "validation", baseline)
        return gain, deciding

    def _keep_labels_alone(self, harm: Gain, state: TrainingState) -> str:
        """Makes the labels-alone network best.safetensors, and returns in words that unlabeled images did harm."""
        alone = str(self.engine.method.baseline_network)
        self.select_network(alone, state)
        reason = explain_harm(len(self.splits.labeled), state.monitor.confidence or 1.0)
        text = f"they did harm on validation persons, so best.safetensors is {alone}; {reason}"
        log.warning(f"{harm.describe()}: {text}")
        return text

    def _why_no_gain(self, which: SetName) -> str:
        """Returns why the gain is not measured; empty for a method that never measures it."""
        if self.engine.method.baseline_network is None:
            return ""
        found = plural(evaluated_images(self._truth[which]), f"labeled {which} image")
        own = which == "validation" and self.splits.validation_set == "train"
        option = "data.test" if which == "test" else "data.val"
        remedy = "give others as data.val, or raise data.validation" if own else f"give more as {option}"
        return f"{found} of {MIN_IMAGES} that are needed; {remedy}"

    def _load_kept_weights(self) -> None:
        try:
            self.write_weights()
        except OSError as error:
            raise RunError(f"{self.out} can't be written ({error.strerror}); free some space and resume") from None
        barrier()
        for name, network in self.engine.method.eval_networks().items():
            network.load_state_dict(load_file(self.out / "weights" / f"{name}.safetensors"))

    def _protocol(self, which: SetName, truth: PoseDataset, images: TrainingImages) -> EvaluationProtocol:
        if self.select == "last" or self.splits.validation is None:
            selection = "last weights"
        else:
            selection = "lowest pixel error" if self.ap_caveats else "best weights"
            selection += " on validation" + (" (the same persons)" if which == "validation" else "")
        is_found = self.boxes is not None and self.boxes.kind == "found" and not self.splits.several
        return EvaluationProtocol.of(
            truth,
            boxes=BOX_WORDS[AUTO] if is_found else own_boxes(truth.instances, self.crops[which].image_sizes),
            flip_test=self._flip_test,
            decoder=self.evaluation.decoder,
            instance_score=DESCRIPTIONS[self.evaluation.instance_score],
            unlearned_joints=self.unlearned_joints,
            in_16_bit=self._in_16_bit,
            weights_selection=selection,
            left_out=self.splits.data_errors.describe(),
            leakage=describe_leakage(images.count(self.image_digests(which).values())) if which == "test" else "",
        )

    def _predict_all(self, which: SetName) -> dict[str, list[Prediction]]:
        """Returns the predictions of each network and, if there are several headline networks, of their ensemble."""
        networks = self.engine.method.eval_networks()
        predictions = {name: self._predict(which, [network]) for name, network in networks.items()}
        if len(self.headline_networks) > 1:
            predictions["ensemble"] = self._predict(which, [networks[name] for name in self.headline_networks])
        return predictions

    def _predict(self, which: SetName, networks: list[PoseNet]) -> list[Prediction]:
        return self.predict(self.crops[which], networks)

    def predict(self, crops: Crops, networks: list[PoseNet]) -> list[Prediction]:
        """Returns one prediction per person of `crops`; the persons are divided among the processes."""
        predictor = Predictor(
            networks,
            self.loss.build(),
            flip_test=self._flip_test,
            decoder=self.evaluation.decoder,
            sigma=self.loss.sigma,
            instance_score=self.evaluation.instance_score,
            unlearned_joints=self.unlearned_joints,
            device=self.engine.device,
            precision=self.evaluation.precision,
        )
        with self.engine.inference():
            parts = all_gather(predictor.predict(crops_of_rank(crops, rank(), world_size())))
        self._in_16_bit = predictor.in_16_bit
        return [p for turn in zip_longest(*parts) for p in turn if p is not None]

    def _scores(self, predictions: dict[str, list[Prediction]], which: SetName) -> dict[str, NetworkScores]:
        """Returns the scores by network, with mean and ensemble if there are several headline networks."""
        truth, kind = self._truth[which], self.evaluation.instance_score
        scores = {name: score(truth, values, kind).as_dict() for name, values in predictions.items()}
        if "ensemble" in scores:
            ensemble = scores.pop("ensemble")
            scores |= {"mean": _mean([scores[name] for name in self.headline_networks]), "ensemble": ensemble}
        return scores

    def _pose_model(self, name: str, network: PoseNet) -> PoseModel:
        return PoseModel(
            network,
            name,
            self.splits.labeled.skeleton,
            self.geometry,
            self.loss,
            self.evaluation.decoder,
            headline_networks=self.headline_networks,
            category=self.splits.labeled.category,
            instance_score=self.evaluation.instance_score,
            unlearned_joints=self.unlearned_joints,
            precision=self.evaluation.precision,
            boxes=self.boxes,
        )


def selection_score(scores: NetworkScores, caveats: Sequence[str] = ()) -> float:
    """Returns what selects the best weights, of which the highest is the best.

    It is AP, else the first PCK; PCK decides between equal APs. Where AP measures little, it is the
    negative pixel error.

    Args:
        scores: The scores of one network.
        caveats: Why AP measures little on the validation set, from `ap_caveats`.
    """
    error = scores.get("pixel_error")
    if caveats and error is not None:
        return -error
    known = [value for key in ("AP", "PCK@0.2", "PCKh@0.5") if (value := scores.get(key)) is not None]
    return sum(value * share for value, share in zip(known, (1, TIE_BREAKER), strict=False))


def _mean(rows: Sequence[NetworkScores]) -> NetworkScores:
    def mean(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return {key: mean([row[key] for row in rows]) for key in rows[0]}


def _short(scores: NetworkScores) -> str:
    shown = ("AP", "PCK@0.2", "pixel_error")
    return " ".join(f"{k} {value_text(k, v)}" for k, v in scores.items() if v is not None and k in shown)
