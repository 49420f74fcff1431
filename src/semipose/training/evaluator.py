"""Judges a training: scores its candidates on validation while it runs, and on the test split once, at the end."""

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from semipose.data.crop_cache import CropCache, Encoding, open_crop_cache
from semipose.data.crops import CropGeometry, crops_of_rank
from semipose.data.data_errors import without_images
from semipose.data.datasets import DataSplits
from semipose.data.formats.coco_results import save_predictions
from semipose.data.leakage import TrainingImages, describe_leakage
from semipose.errors import RunError
from semipose.inference.pose_model import PoseModel, description_path, require_unchanged
from semipose.inference.predictor import Predictor
from semipose.losses import LossConfig
from semipose.metrics.bootstrap import Interval, intervals
from semipose.metrics.scores import EvaluationProtocol, score
from semipose.models.pose_net import PoseNet
from semipose.ops.heatmaps import Decoder
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.training.engine import Engine
from semipose.training.loggers import MetricsLog
from semipose.utils.files import write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.section import Section

logger = logging.getLogger(__name__)


class EvaluationConfig(Section):
    """How candidates are scored during and after a training."""

    flip_test: bool = False
    """Average heatmaps with those of the mirror image; off in the papers' tables."""
    decoder: Decoder = "dark"
    """How joints are read off heatmaps, here and wherever the network is used later: `dark` (DARK, sub-cell), or
    `quarter` (arg-max with a quarter offset), as the papers' code does."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run found: scores of the selected weights by candidate, and where everything lies.

    `reported` names the candidates whose mean is the method's figure; `scores` also holds "mean" and, for several
    networks, "ensemble". Empty when there was nothing to score on. `best` names the network of best.safetensors, which
    `evaluate`, `predict` and `export` take of the folder, and `intervals` where its AP, PCK@0.2 and PCKh@0.5 lie in
    95 % of resampled test sets; None and empty without scores and in processes that write nothing.
    """

    folder: Path
    scores: dict[str, dict[str, float | None]]
    headline_networks: tuple[str, ...]
    protocol: str
    seconds: float
    best: str | None = None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)


class Evaluator:
    """Scores candidates: on the validation split while training, on the test split once, at the end.

    `select` says whether the best weights on validation are kept or the last; `evaluation` holds every time; `encoding` is
    how crops are kept.
    """

    def __init__(
        self,
        engine: Engine,
        splits: DataSplits,
        geometry: CropGeometry,
        loss: LossConfig,
        out: Path,
        *,
        select: str,
        evaluation: EvaluationConfig,
        encoding: Encoding = "auto",
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.engine, self.splits, self.geometry, self.loss, self.out = engine, splits, geometry, loss, out
        self.select, self.evaluation, self.encoding = select, evaluation, encoding
        self.progress = progress
        self._latest: str = engine.method.headline_networks[0]
        self._crops: dict[str, CropCache] = {}
        self._truth: dict[str, PoseDataset] = {}
        self._open("validation", splits.validation, splits.validation_set)
        self._open("test", splits.test, "test")
        self._kept: dict[str, dict[str, Tensor]] | None = None
        self._kept_best = self._latest
        self._intervals: dict[str, Interval | None] = {}

    def _open(self, which: str, persons: PoseDataset | None, name: str) -> None:
        """Before the training, so that broken photographs are told then; what is left out is not judged on either."""
        if persons is None:
            return
        broken = self.splits.data_errors.on_unreadable(name)
        chosen = persons.trainable()
        self._crops[which] = open_crop_cache(
            chosen, self.geometry, encoding=self.encoding, on_unreadable=broken, progress=self.progress
        )
        self._truth[which] = without_images(persons, self._crops[which].failed)

    def image_digests(self, which: str) -> dict[Path, str]:
        """The photographs of the validation or test set with their digests; empty where there is no such set."""
        return self._crops[which].image_digests if which in self._crops else {}

    def persons(self, which: str) -> PoseDataset | None:
        """The persons of the validation or test set that are judged on."""
        return self._truth.get(which)

    def validate(self, step: int, log: MetricsLog) -> float | None:
        """Scores all candidates on the validation split; the figure that picks the best (AP, else PCK)."""
        if self.splits.validation is None:
            return None
        scores = self._score("validation")
        leading = self._leading(scores)
        self._latest = max(self._candidates(), key=lambda name: _figure(scores[name]))
        if self.engine.is_main:
            for name, values in scores.items():
                log.write(step, f"validation/{name}", values)
            logger.info(f"step {step}: validation " + "  ".join(f"{n} {_short(v)}" for n, v in scores.items()))
        return leading

    def keep(self, current: bool) -> None:
        """Keeps the weights: every candidate by name, the one that leads on validation as best.

        With `current` those of this moment; they are held in memory until they could be written. Raises OSError when
        weights of an earlier moment still can't be written; those of this moment only wait.
        """
        if current:
            self._kept = {
                name: {n: t.detach().to("cpu", copy=True) for n, t in network.state_dict().items()}
                for name, network in self._candidates().items()
            }
            self._kept_best = self._latest
        with suppress(OSError) if current else nullcontext():
            self._write_kept()

    def _write_kept(self) -> None:
        if self._kept is None:
            return
        folder = self.out / "weights"
        folder.mkdir(exist_ok=True)
        for name, network in self._candidates().items():
            model = self._pose_model(name, network)
            model.save(folder / f"{name}.safetensors", self._kept[name], self.out)
            if name == self._kept_best:
                model.save(self.out / "best.safetensors", self._kept[name], self.out)
        self._kept = None

    def conclude(self, step: int, seconds: float, seen: TrainingImages) -> TrainResult:
        """Scores the kept weights on the test split (else on validation) and writes predictions and scores.

        `step` is the training's last. The protocol says how many of the test photographs the training has `seen`.
        """
        which = "test" if self.splits.test else "validation"
        headline_networks = tuple(self.engine.method.headline_networks)
        truth = self._truth.get(which)
        if truth is None:
            return TrainResult(
                self.out, {}, headline_networks, "nothing to score on: no validation or test persons", seconds
            )
        self._write_last_kept()
        self.engine.barrier()
        for name, network in self._candidates().items():
            weights = self.out / "weights" / f"{name}.safetensors"
            require_unchanged(weights)
            network.load_state_dict(load_file(weights))
        scores = self._score(which, save=True)
        selection = self._selection(which)
        counts = seen.count(self.image_digests(which).values())
        protocol = EvaluationProtocol.of(
            truth,
            boxes="ground truth",
            flip_test=self.evaluation.flip_test,
            decoder=self.evaluation.decoder,
            weights_selection=selection,
            left_out=self.splits.data_errors.describe(),
            seen=describe_leakage(counts) if which == "test" else "",
        ).describe()
        content = {
            "scores": scores,
            "headline_networks": headline_networks,
            "protocol": protocol,
            "split": self.splits.split.hash,
            "seconds": seconds,
            "step": step,
        }
        if not self.engine.is_main:
            return TrainResult(self.out, scores, headline_networks, protocol, seconds)
        best, sure = self._best_name(), self._intervals
        write_text(
            self.out / "scores.json", json.dumps({**content, "best": best, "intervals": sure}, indent=1), self.out
        )
        return TrainResult(self.out, scores, headline_networks, protocol, seconds, best, sure)

    def _write_last_kept(self) -> None:
        try:
            self._write_kept()
        except OSError as error:
            raise RunError(
                f"{self.out} can't be written ({error.strerror}); make room and run again with --resume"
            ) from None

    def _best_name(self) -> str:
        """The network that best.safetensors holds, as written: a resumed run that is done kept it long ago."""
        description = json.loads(description_path(self.out / "best.safetensors").read_text())
        return str(description["network"])

    def _selection(self, which: str) -> str:
        if self.select == "last" or self.splits.validation is None:
            return "last weights"
        return "best weights on validation" + (" (the same persons)" if which == "validation" else "")

    def _candidates(self) -> dict[str, nn.Module]:
        return self.engine.method.eval_networks()

    def _score(self, which: str, save: bool = False) -> dict[str, dict[str, float | None]]:
        """Scores by candidate, then the mean of the reported ones and their ensemble."""
        candidates, headline_networks = self._candidates(), tuple(self.engine.method.headline_networks)
        truth = self._truth[which]
        scores = {}
        for name, network in candidates.items():
            predictions = self._predict(which, [network])
            scores[name] = score(truth, predictions).as_dict()
            if save and self.engine.is_main and name == self._best_name():
                save_predictions(predictions, self.out / "predictions.json")
                self._intervals = intervals(truth, predictions)
        if len(headline_networks) > 1:
            scores["mean"] = _mean([scores[name] for name in headline_networks])
            together = self._predict(which, [candidates[name] for name in headline_networks])
            scores["ensemble"] = score(truth, together).as_dict()
        return scores

    def _leading(self, scores: dict[str, dict[str, float | None]]) -> float:
        headline_networks = self.engine.method.headline_networks
        return _figure(scores["mean"] if len(headline_networks) > 1 else scores[headline_networks[0]])

    def _predict(self, which: str, networks: list[nn.Module]) -> list[Prediction]:
        """One prediction a person; every process looks at its share of them and learns what the others found."""
        engine = self.engine
        share = crops_of_rank(self._crops[which], engine.rank, engine.world)
        predictor = Predictor(
            networks,
            self.loss.build(),
            flip_test=self.evaluation.flip_test,
            decoder=self.evaluation.decoder,
            sigma=self.loss.sigma,
            device=engine.device,
        )
        with engine.looking():
            parts = engine.gather(predictor.predict(share))
        return [p for turn in zip_longest(*parts) for p in turn if p is not None]

    def _pose_model(self, name: str, network: nn.Module) -> PoseModel:
        assert isinstance(network, PoseNet)
        skeleton = self.splits.labeled.skeleton
        return PoseModel(
            network,
            name,
            network.config,
            network.levels,
            skeleton,
            self.geometry,
            self.loss,
            self.evaluation.decoder,
            headline_networks=tuple(self.engine.method.headline_networks),
        )


TIE = 1e-6
"""Share of PCK that tells equal APs apart."""


def _figure(scores: dict[str, float | None]) -> float:
    """AP, else the first PCK; PCK decides between equal APs, such as the zeros of a training's beginning."""
    known = [value for key in ("AP", "PCK@0.2", "PCKh@0.5") if (value := scores.get(key)) is not None]
    return sum(value * share for value, share in zip(known, (1, TIE), strict=False))


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    def mean(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return {key: mean([row[key] for row in rows]) for key in rows[0]}


def _short(scores: dict[str, float | None]) -> str:
    shown = [
        f"{key} {100 * value:.1f}" for key, value in scores.items() if value is not None and key in ("AP", "PCK@0.2")
    ]
    return " ".join(shown)
