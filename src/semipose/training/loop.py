"""The training loop, readable in one go: load, step, follow, log, evaluate, save."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from semipose.data.loader import PairedLoader
from semipose.errors import RunError
from semipose.methods.base import StepInfo
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from semipose.training.engine import Engine
from semipose.training.loggers import MetricsLog
from semipose.utils.progress import NO_PROGRESS, Progress, ProgressBar
from semipose.utils.section import Section

log = logging.getLogger(__name__)


class TrainConfig(Section):
    """Budget, optimizer, schedule, evaluation and where it runs."""

    epochs: float = Field(100, gt=0)
    """Passes over the unlabeled set (over the labeled set where there is none); the papers' 100."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps instead of epochs."""
    batch: int = Field(32, ge=1)
    """Labeled samples per step and process."""
    unlabeled_batch: int = Field(32, ge=1)
    """Unlabeled samples per step and process."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate of Adam."""
    drops: tuple[float, ...] = (0.7, 0.9)
    """Moments, as shares of the training, at which the rate is multiplied by `drop_factor`; the papers' 70 and 90."""
    drop_factor: float = Field(0.1, gt=0, le=1)
    """Factor of each drop."""
    warm_up: int = Field(0, ge=0)
    """Steps over which the rate rises linearly from zero; 0 in the papers."""
    weight_decay: float = Field(0.0, ge=0)
    """Adam's L2 penalty."""
    average: float = Field(0.0, ge=0, lt=1)
    """Momentum of a moving average kept of every network that learns, judged and written beside it as NAME_average; .99
    to .999 make small trainings steadier. Nothing learns from it; 0 = none, as in the papers."""
    start: str | None = None
    """A run folder or weights file of semipose from which every network of its backbone starts; of one with other
    joints the backbone alone is taken."""
    workers: int | None = Field(None, ge=1)
    """Threads that read batches ahead of their use; by the number of cores when not given."""
    clip: float | None = Field(None, gt=0)
    """Largest gradient norm; longer gradients are shortened to it."""
    evaluate_every: float | None = Field(None, gt=0)
    """Epochs between evaluations on the validation split; ten evaluations over the training when not given."""
    select: Literal["best", "last"] = "best"
    """Weights kept: the best on the validation split, or the last."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(20, ge=1)
    """Steps between lines in metrics.jsonl."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Arithmetic: auto is bf16 on GPUs that have it, and on CPUs where a short measurement finds it faster."""
    channels_last: bool = True
    """Memory layout of images and weights; faster on most hardware, the same figures up to rounding."""
    compile: bool = False
    """torch.compile the networks: faster steps after a minute or two of compiling; needs a C++ compiler."""
    cuda_graphs: bool = False
    """Compiled networks run as CUDA graphs (torch.compile's `reduce-overhead`): a GPU then does not wait for Python
    between small operations; takes more memory, needs `compile` and one GPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    devices: int = Field(1, ge=0)
    """Processes on each machine, one a GPU; 0 = one for every GPU there is. Each takes batches of its own, so the joint
    batch grows with them; see docs/scaling.md. torchrun decides where it is used."""
    nodes: int = Field(1, ge=1)
    """Machines that train together; MASTER_ADDR, MASTER_PORT and NODE_RANK say which is which, or torchrun does."""
    sync_batch_norm: bool = False
    """BatchNorm takes its statistics over the batches of all processes instead of each over its own."""
    seed: int = Field(0, ge=0)
    """Seed of weights, order and augmentation."""

    @model_validator(mode="after")
    def _graphs_are_compiled(self) -> "TrainConfig":
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs are made of compiled networks; set compile to true")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole training."""
        return self.steps or max(1, round(self.epochs * steps_per_epoch))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step: warm-up, then drops."""
        rate = self.lr * self.drop_factor ** sum(step >= drop * steps for drop in self.drops)
        return rate * min(1.0, (step + 1) / self.warm_up) if self.warm_up else rate


def phase(step: int, steps: int, schedule_restarts: tuple[float, ...]) -> tuple[int, int]:
    """Step within the phase of the training that `step` belongs to, and the phase's length.

    `restarts` are the shares of the training at which a new phase begins; the learning-rate schedule runs once a phase.
    """
    bounds = [0, *(math.ceil(share * steps) for share in schedule_restarts), steps]
    begin = max(b for b in bounds[:-1] if b <= step)
    return step - begin, min(b for b in bounds[1:] if b > begin) - begin


TAKEN = "taken"
"""Name under which steps that were taken are counted beside the loss terms."""
MOST_RETURNS = 2
"""Times a training goes back to its last checkpoint before it gives up."""


class _DivergedError(Exception):
    """At least half of the last steps had a loss or gradient that is not finite."""

    def __init__(self, step: int, failed: int, count: int) -> None:
        super().__init__(f"step {step}: loss or gradient not finite in {failed} of the last {count} steps")


class InterruptedTrainingError(Exception):
    """A signal asked for the end; the state is saved. `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number


@dataclass
class Training:
    """A training in info. `evaluate(step, steps)` scores the candidates and returns the figure that picks the best.

    `keep_best(True)` takes the current weights as the best, `keep_best(False)` writes what is not written yet; OSError.
    """

    engine: Engine
    loader: PairedLoader
    config: TrainConfig
    state: TrainingState
    generator: torch.Generator
    folder: Path
    log: MetricsLog
    evaluate: Callable[[int, int], float | None]
    keep_best: Callable[[bool], None]
    name: str = "training"
    progress: Progress = NO_PROGRESS
    _meter: dict[str, torch.Tensor] = field(default_factory=dict)
    _count: int = 0
    _retry_at: int | None = None

    def __post_init__(self) -> None:
        self._take_up_line()
        # Not when the training goes back: the scale that was found since then stays.
        if self.engine.scaler and self.state.extra.get("scaler"):
            self.engine.scaler.load_state_dict(self.state.extra["scaler"])

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.config.total_steps(self.loader.steps_per_epoch)

    def run(self) -> None:
        """From the state's step to the end.

        Raises InterruptedTrainingError after saving when a signal arrives, RunError when the training diverges again
        and again.
        """
        self.engine.method.train()
        self._clock = time.perf_counter() - self.state.seconds
        if self.state.step == 0:
            self.save()
        with _signals() as asked, self.progress.start(self.name, self.steps, self.state.step) as bar:
            while self.state.step < self.steps:
                try:
                    self._go_on(asked, bar)
                except _DivergedError as error:
                    self._roll_back(error)

    def _go_on(self, asked: list[int], bar: ProgressBar) -> None:
        config, state, steps, per_epoch = self.config, self.state, self.steps, self.loader.steps_per_epoch
        evaluate_every = max(1, round(config.evaluate_every * per_epoch if config.evaluate_every else steps / 10))
        for labeled, unlabeled in self.loader.steps(state.step, steps):
            self._step(labeled, unlabeled)
            state.seconds = time.perf_counter() - self._clock
            if state.step % config.log_every == 0 or state.step == steps:
                bar.update(state.step, self._write_losses(len(labeled) + len(unlabeled or ())))
            if state.step % evaluate_every == 0 or state.step == steps:
                self._evaluate()
            due = state.step % config.checkpoint_every == 0 or state.step == self._retry_at
            number = self.engine.highest(asked[0] if asked else 0)  # a signal to one process stops all
            if number or due or state.step == steps:
                saved = self.save()
                self._retry_at = None if saved else state.step + config.log_every
            if number:
                if not saved:
                    raise RunError(f"stopped without saving: {self.folder} can't be written; see the line above")
                raise InterruptedTrainingError(number)

    def _step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None) -> None:
        """One optimizer step: losses, gradients, teachers."""
        engine, state, steps, per_epoch = self.engine, self.state, self.steps, self.loader.steps_per_epoch
        method = engine.method
        ends_epoch = (state.step + 1) % per_epoch == 0
        info = StepInfo(state.step, steps, state.step // per_epoch, ends_epoch)
        rate = self.config.rate(*phase(state.step, steps, method.schedule_restarts)) * state.extra.get(
            "rate_factor", 1.0
        )
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        on_device = unlabeled.to(engine.device) if unlabeled is not None else None
        losses = engine.losses(labeled.to(engine.device), on_device, info)
        taken = engine.step(losses.total, self.config.clip)
        method.after_step(info)
        state.step += 1
        self._record({**losses.terms, TAKEN: torch.ones_like(losses.total)}, taken)

    def save(self) -> bool:
        """Writes the checkpoint last/state.pt; false, with a warning, when it can't be written now.

        The first process writes, with what each process has of its own; the others wait for it.
        """
        meter = {name: total.cpu() for name, total in self._meter.items()}
        own = {"generator": self.generator.get_state(), "torch_rng": torch.get_rng_state(), "meter": meter}
        everyones = self.engine.gather(own)
        failed = self.engine.is_main and not self._write(everyones)
        return not self.engine.highest(failed)

    def _write(self, everyones: list[dict[str, Any]]) -> bool:
        path = self.folder / "last" / "state.pt"
        if not self._finite_buffers():
            log.info(f"step {self.state.step}: BatchNorm's averages are not finite; the checkpoint before stays")
            return False
        try:
            self.keep_best(False)
            self.state.log_bytes = self.log.size
            scaler = self.engine.scaler
            self.state.extra |= {
                "processes": everyones,
                "count": self._count,
                "scaler": scaler.state_dict() if scaler else {},
            }
            save_checkpoint(path, self.state, self.engine.method, self.engine.optimizer, self.generator)
        except OSError as error:
            log.info(
                f"step {self.state.step}: {self.folder} can't be written ({error.strerror}); the checkpoint before "
                "stays, the run goes on and tries again"
            )
            return False
        return True

    def _record(self, terms: dict[str, torch.Tensor], taken: torch.Tensor) -> None:
        """Adds up on the device what steps that were taken lost; nothing waits for it."""
        for name, term in terms.items():
            counted = torch.where(taken, term.detach(), torch.zeros_like(term))
            self._meter[name] = self._meter.get(name, torch.zeros_like(counted)) + counted
        self._count += 1

    def _write_losses(self, samples: int) -> str:
        """One line of the log over the steps since the one before. Raises _DivergedError when half of them failed."""
        shared = self.engine.mean(torch.stack([total.float() for total in self._meter.values()]))
        totals: dict[str, float] = dict(zip(self._meter, shared.tolist(), strict=True))
        taken, count = round(totals.pop(TAKEN)), self._count
        means = {name: total / max(1, taken) for name, total in totals.items()}
        rate = self.engine.optimizer.param_groups[0]["lr"]
        speed = (
            samples * self.engine.world * count / max(1e-9, self.state.seconds - self.state.extra.get("logged_at", 0.0))
        )
        self.state.extra["logged_at"] = self.state.seconds
        self._meter, self._count = {}, 0
        if (2 * taken <= count and not self._finds_scale()) or (taken < count and not self._finite_buffers()):
            raise _DivergedError(self.state.step, count - taken, count)
        if taken < count:
            means["skipped"] = count - taken
            log.info(f"step {self.state.step}: {count - taken} of {count} steps left out: loss or gradient not finite")
        if self.engine.is_main:
            self.log.write(self.state.step, "train", {**means, "lr": rate})
        return "  ".join(f"{n} {v:.4g}" for n, v in means.items()) + f"  {speed:.0f} samples/s"

    def _finds_scale(self) -> bool:
        """Whether steps may be left out only because fp16's scale is still too high; each halves it."""
        return self.engine.scaler is not None and self.engine.scaler.get_scale() >= 1

    def _finite_buffers(self) -> bool:
        """Whether BatchNorm's averages, which follow steps that are left out too, are still numbers."""
        return all(bool(b.isfinite().all()) for b in self.engine.method.buffers() if b.is_floating_point())

    def _roll_back(self, error: "_DivergedError") -> None:
        """Back to the last checkpoint with a tenth of the learning rate. Raises RunError when that was done before."""
        engine, returns = self.engine, self.state.extra.get("returns", 0) + 1
        path = self.folder / "last" / "state.pt"
        if returns > MOST_RETURNS:
            raise RunError(
                f"{error} again, after {MOST_RETURNS} returns with a lower rate; {path} is the last "
                "good one: lower train.lr or set train.clip, and look at the data (semipose data check)"
            )
        found = load_checkpoint(path, self.state.identity, engine.method, engine.optimizer, self.generator)
        vars(self.state).update(vars(found))
        factor = self.state.extra.get("rate_factor", 1.0) / 10
        self.state.extra |= {"rate_factor": factor, "returns": returns}
        self._take_up_line()
        self._clock = time.perf_counter() - self.state.seconds
        text = f"{error}; back to step {self.state.step} with {factor:g} times the learning rate"
        log.info(text)
        if engine.is_main:
            self.log.cut(self.state.log_bytes)
            self.log.write(self.state.step, "warning", {"what": "diverged", "text": text})
        self.save()

    def _take_up_line(self) -> None:
        """Each process goes on drawing where it was, and adding to the line of the log that was about to be written.

        With another number of processes the newcomers draw by their own number and the step.
        """
        rank, known = self.engine.rank, self.state.extra.get("processes", [])
        if rank < len(known):
            self.generator.set_state(known[rank]["generator"])
            torch.set_rng_state(known[rank]["torch_rng"])
        elif rank:
            seeds = np.random.SeedSequence([self.config.seed, rank, self.state.step]).generate_state(2).tolist()
            self.generator.manual_seed(seeds[0])
            torch.manual_seed(seeds[1])
        same = len(known) == self.engine.world
        lines = [known[rank]["meter"]] if same else [process["meter"] for process in known]
        names = lines[0] if lines else {}
        self._meter = {n: torch.stack([m[n] for m in lines]).mean(dim=0).to(self.engine.device) for n in names}
        self._count = self.state.extra.get("count", 0)

    def _evaluate(self) -> None:
        score = self.evaluate(self.state.step, self.steps)
        better = score is not None and score > self.state.best_score
        if better or self.config.select == "last" or (score is None and self.state.step == self.steps):
            self.state.best_score = score if score is not None else self.state.best_score
            self.state.best_step = self.state.step
            if self.engine.is_main:
                self.keep_best(True)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM; a second one leaves at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        log.info("stopping after this step; a second signal leaves at once")

    try:
        previous = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are not ours
        previous = {}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
