"""Builds data, method and engine from a RunConfig and starts the loop: the one place where all parts meet."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from semipose.config import RunConfig
from semipose.data.crops import CropGeometry, Crops, open_crops
from semipose.data.loaders import PairedLoader
from semipose.data.sources import Sources, load_sources
from semipose.errors import ConfigError
from semipose.evaluation.predictions import Prediction, save_predictions
from semipose.evaluation.protocol import Protocol, Scores, score
from semipose.inference.pose_model import PoseModel
from semipose.inference.predictor import Predictor
from semipose.methods import build_method
from semipose.methods.base import Workbench
from semipose.models.pose_net import PoseNet
from semipose.skeletons import Skeleton
from semipose.training.checkpoint import TrainingState, load_checkpoint
from semipose.training.engine import Engine, make_engine, start_fabric
from semipose.training.loop import Training
from semipose.training.progress import MetricsLog, say, watched
from semipose.views.sampling import ViewSampler


@dataclass(frozen=True)
class Result:
    """What a finished run found: scores of the selected weights by candidate, and where everything lies.

    `reported` names the candidates whose mean is the method's figure; `scores` also holds "mean" and, for several
    networks, "ensemble". Empty when there was nothing to score on.
    """

    folder: Path
    scores: dict[str, dict[str, float | None]]
    reported: tuple[str, ...]
    protocol: str
    seconds: float


def train(config: RunConfig, out: Path, *, resume: bool = False) -> Result:
    """Trains as `config` says and leaves the run folder `out` behind.

    Raises ConfigError when `out` holds another run and `resume` is false; training.loop.Interrupted after saving
    when a signal asked for the end.
    """
    sources = load_sources(config.data)
    if config.method.name != "supervised" and sources.unlabeled is None:  # type: ignore[attr-defined]
        say("no unlabeled images: this run learns from labels alone; give --unlabeled or --labels")
    _claim(out, resume)
    fabric = start_fabric(config.train.device, config.train.precision)
    fabric.seed_everything(config.train.seed, workers=False, verbose=False)
    generator = torch.Generator(fabric.device).manual_seed(config.train.seed)
    method = make_method(config, sources.labeled.skeleton, generator)
    if config.train.channels_last:
        method = method.to(memory_format=torch.channels_last)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.train.lr, weight_decay=config.train.weight_decay)
    engine = make_engine(fabric, method, optimizer)
    state = TrainingState(_identity(config, sources))
    if resume:
        state = load_checkpoint(out / "last" / "state.pt", state.identity, engine.method, engine.optimizer, generator)
    else:
        config.save(out / "config.yaml")
        sources.split.save(out / "split.json")
    geometry = CropGeometry((config.input.height, config.input.width), config.input.padding)
    judge = Judge(config, engine, geometry, sources, out)
    log = MetricsLog(out, state.log_bytes)
    training = Training(
        engine=engine,
        loader=_loader(config, sources, geometry, engine),
        config=config.train,
        state=state,
        generator=generator,
        folder=out,
        log=log,
        evaluate=lambda step: judge.validate(step, log),
        keep_best=judge.keep,
        name=config.method.name,  # type: ignore[attr-defined]
    )
    _announce(config, sources, training)
    try:
        training.run()
    finally:
        log.close()
    return judge.conclude(state.seconds)


def make_method(config: RunConfig, skeleton: Skeleton, generator: torch.Generator) -> nn.Module:
    """The configured method with new networks for `skeleton`."""
    size = (config.input.height, config.input.width)

    def network(backbone: str | None, levels: int) -> PoseNet:
        changed = {} if backbone is None else {"backbone": backbone, "weights": _weights_for(config, backbone)}
        return PoseNet(config.model.model_copy(update=changed), len(skeleton), levels)

    views = ViewSampler(config.views, skeleton, size, config.loss.sigma, generator)
    return build_method(config.method, Workbench(views, config.loss.build(), network))


def _weights_for(config: RunConfig, backbone: str) -> str:
    """A weights file belongs to the main backbone; another backbone takes its own automatic weights, or none."""
    if backbone == config.model.backbone:
        return config.model.weights
    return "none" if config.model.weights == "none" else "auto"


def _claim(out: Path, resume: bool) -> None:
    if not resume and (out / "last" / "state.pt").exists():
        raise ConfigError(f"{out} already holds a run; continue it with --resume or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run folder {out} can't be made ({error.strerror}); choose another --out") from None


def _identity(config: RunConfig, sources: Sources) -> dict[str, str]:
    return {
        "method": config.method.name,  # type: ignore[attr-defined]
        "backbone": config.model.backbone,
        "skeleton": " ".join(sources.labeled.skeleton.joints),
        "split": sources.split.hash,
    }


def _loader(config: RunConfig, sources: Sources, geometry: CropGeometry, engine: Engine) -> PairedLoader:
    unlabeled = open_crops(sources.unlabeled, geometry, on_error="skip", watch=watched) if sources.unlabeled else None
    return PairedLoader(
        open_crops(sources.labeled, geometry, watch=watched),
        unlabeled,
        batch=config.train.batch,
        unlabeled_batch=config.train.unlabeled_batch,
        seed=config.train.seed,
        rank=engine.fabric.global_rank,
        world=engine.fabric.world_size,
    )


def _announce(config: RunConfig, sources: Sources, training: Training) -> None:
    unlabeled = len(sources.unlabeled) if sources.unlabeled else 0
    held = f", {len(sources.validation)} for validation" if sources.validation else ""
    say(
        f"{training.name}: {len(sources.labeled)} labeled and {unlabeled} unlabeled people{held}; "
        f"{config.model.backbone}, {config.input.height}×{config.input.width}, {training.steps} steps "
        f"({training.loader.steps_per_epoch} an epoch), {training.engine.device}, split {sources.split.hash}"
    )


class Judge:
    """Scores candidates: on the validation split while training, on the test split once, at the end."""

    def __init__(self, config: RunConfig, engine: Engine, geometry: CropGeometry, sources: Sources, out: Path) -> None:
        self.config, self.engine, self.geometry, self.sources, self.out = config, engine, geometry, sources, out
        self._latest: str = engine.method.reported[0]  # type: ignore[assignment, index]
        self._crops: dict[str, Crops] = {}

    def validate(self, step: int, log: MetricsLog) -> float | None:
        """Scores all candidates on the validation split; the figure that picks the best (AP, else PCK)."""
        if self.sources.validation is None:
            return None
        scores = self._score("validation")
        leading = self._leading(scores)
        self._latest = max(self._candidates(), key=lambda name: _figure(scores[name]))
        if self.engine.is_main:
            for name, values in scores.items():
                log.write(step, f"validation/{name}", values)
            say(f"step {step}: validation " + "  ".join(f"{n} {_short(v)}" for n, v in scores.items()))
        return leading

    def keep(self) -> None:
        """Keeps the current weights: every candidate by name, the one that leads on validation as best."""
        folder = self.out / "weights"
        folder.mkdir(exist_ok=True)
        for name, network in self._candidates().items():
            self._pose_model(name, network).save(folder / f"{name}.safetensors")
        self._pose_model(self._latest, self._candidates()[self._latest]).save(self.out / "best.safetensors")

    def conclude(self, seconds: float) -> Result:
        """Scores the kept weights on the test split (else on validation) and writes predictions and scores."""
        from safetensors.torch import load_file

        which = "test" if self.sources.test else "validation"
        reported = tuple(self.engine.method.reported)  # type: ignore[arg-type]
        truth = self.sources.test or self.sources.validation
        if truth is None:
            return Result(self.out, {}, reported, "nothing to score on: no validation or test persons", seconds)
        for name, network in self._candidates().items():
            network.load_state_dict(load_file(self.out / "weights" / f"{name}.safetensors"))
        scores = self._score(which, save=True)
        protocol = Protocol(
            boxes="ground truth",
            flip_test=self.config.evaluation_flip_test,
            sigmas=truth.skeleton.name,
            n_persons=len(truth),
            n_images=len({p.image_id for p in truth.persons}),
            source=truth.source,
            weights_selection=self._selection(which),
        ).describe()
        content = {"scores": scores, "reported": reported, "protocol": protocol, "split": self.sources.split.hash}
        if self.engine.is_main:
            (self.out / "scores.json").write_text(json.dumps(content, indent=1))
        return Result(self.out, scores, reported, protocol, seconds)

    def _selection(self, which: str) -> str:
        if self.config.train.select == "last" or self.sources.validation is None:
            return "last weights"
        return "best weights on validation" + (" (the same persons)" if which == "validation" else "")

    def _candidates(self) -> dict[str, nn.Module]:
        return self.engine.method.candidates()  # type: ignore[operator]

    def _score(self, which: str, save: bool = False) -> dict[str, dict[str, float | None]]:
        """Scores by candidate, then the mean of the reported ones and their ensemble."""
        candidates, reported = self._candidates(), tuple(self.engine.method.reported)  # type: ignore[arg-type]
        truth = getattr(self.sources, which)
        scores = {}
        for name, network in candidates.items():
            predictions = self._predict(which, [network])
            scores[name] = score(truth, predictions).as_dict()
            if save and name == self._latest and self.engine.is_main:
                save_predictions(predictions, self.out / "predictions.json")
        if len(reported) > 1:
            scores["mean"] = _mean([scores[name] for name in reported])
            together = self._predict(which, [candidates[name] for name in reported])
            scores["ensemble"] = score(truth, together).as_dict()
        return scores

    def _leading(self, scores: dict[str, dict[str, float | None]]) -> float:
        reported = self.engine.method.reported  # type: ignore[union-attr]
        return _figure(scores["mean"] if len(reported) > 1 else scores[reported[0]])  # type: ignore[arg-type, index]

    def _predict(self, which: str, networks: list[nn.Module]) -> list[Prediction]:
        if which not in self._crops:
            self._crops[which] = open_crops(getattr(self.sources, which), self.geometry, watch=watched)
        predictor = Predictor(
            networks,
            self.config.loss.build(),
            flip_test=self.config.evaluation_flip_test,
            device=self.engine.device,
        )
        with self.engine.autocast():
            return predictor.predict(self._crops[which])

    def _pose_model(self, name: str, network: nn.Module) -> PoseModel:
        assert isinstance(network, PoseNet)
        skeleton = self.sources.labeled.skeleton
        return PoseModel(network, name, network.config, network.levels, skeleton, self.geometry, self.config.loss)


def _figure(scores: dict[str, float | None]) -> float:
    """AP where there is one, else the first PCK."""
    for key in ("AP", "PCK@0.2", "PCKh@0.5"):
        value = scores.get(key)
        if value is not None:
            return value
    return 0.0


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    def mean(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return {key: mean([row[key] for row in rows]) for key in rows[0]}


def _short(scores: dict[str, float | None]) -> str:
    shown = [f"{key} {100 * value:.1f}" for key, value in scores.items() if value is not None and key in ("AP", "PCK@0.2")]
    return " ".join(shown)


__all__ = ["Judge", "Result", "Scores", "make_method", "train"]
