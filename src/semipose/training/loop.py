"""The training loop: load, step, log, evaluate, save."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from semipose.data.loader import PairedLoader
from semipose.errors import RunError
from semipose.methods.base import StepInfo
from semipose.methods.cost import Cost
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.training.checkpoint import ProcessState, TrainingState, load_checkpoint, save_checkpoint
from semipose.training.compile import plan_compilation
from semipose.training.config import TrainConfig
from semipose.training.distributed import all_gather, all_max, is_main_process, rank, world_size
from semipose.training.dry_run import kinds_of_steps
from semipose.training.engine import Engine
from semipose.training.evaluator import Evaluator
from semipose.training.loggers import MetricsLog
from semipose.training.meter import LossMeter, MeanLosses
from semipose.training.monitor import TrainingMonitor
from semipose.training.optim import learning_rate
from semipose.training.signals import InterruptedTrainingError, StopSignals
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import first_line

__all__ = ["InterruptedTrainingError", "Training"]

log = logging.getLogger(__name__)

TIMED_STEPS = 20
"""Number of steps after which the expected duration is logged."""
DRY_RUNS = 3
"""Passes of a dry run: CUDA graphs are warmed up in the first, recorded in the second, and replayed from then on."""

MAX_ROLLBACKS = 2
"""Number of times that a diverged training goes back to its last checkpoint before it fails."""


@dataclass
class Training:
    """A training in progress.

    Args:
        engine: The method and its optimizer on their device.
        loader: The batches of every step.
        config: The options of the section `train`.
        state: The state of the training.
        generator: Draws views and augmentations.
        folder: The run folder.
        metrics: Logs losses and scores.
        evaluator: Evaluates the networks and keeps weights.
        monitor: Warns of known failures.
        cost: Returns the cost of a step.
        name: Name of the progress bar.
        progress: Reports the progress.
    """

    engine: Engine
    loader: PairedLoader
    config: TrainConfig
    state: TrainingState
    generator: torch.Generator
    folder: Path
    metrics: MetricsLog
    evaluator: Evaluator
    monitor: TrainingMonitor
    cost: Callable[[], Cost]
    name: str = "training"
    progress: Progress = NO_PROGRESS
    _meter: LossMeter = field(default_factory=LossMeter)
    _started: float = 0.0

    def __post_init__(self) -> None:
        self._restore_process()
        if self.engine.scaler and self.state.scaler:
            self.engine.scaler.load_state_dict(self.state.scaler)

    @property
    def steps(self) -> int:
        """Number of optimizer steps of the training."""
        return self.config.total_steps(self.loader.steps_per_epoch)

    @property
    def learns_from_unlabeled(self) -> bool:
        """Whether the training reaches steps with unlabeled images."""
        last = self.step_info(self.steps - 1)
        return self.loader.unlabeled is not None and self.engine.method.unlabeled_weight(last) > 0

    @property
    def why_unlabeled_not_used(self) -> str:
        """Why the training uses no unlabeled image although it has some and labels; empty otherwise."""
        has_both = self.loader.unlabeled is not None and len(self.loader.labeled.dataset) > 0
        if not has_both or self.learns_from_unlabeled:
            return ""
        if getattr(self.engine.method.config, "unlabeled_weight", 1) == 0:
            return "`method.unlabeled_weight` is 0"
        burn_in = getattr(self.engine.method, "burn_in_steps", lambda _: self.steps)(self.step_info(0))
        return (
            f"the burn-in on labels alone takes all of the {self.steps} steps; raise train.steps above {burn_in}, best "
            f"to {2 * burn_in} or more, or set method.burn_in to a fraction of the steps"
        )

    def step_info(self, step: int) -> StepInfo:
        """Returns the position of a step."""
        ends_epoch = (step + 1) % self.loader.steps_per_epoch == 0
        return StepInfo(step, self.steps, ends_epoch, self.loader.passes_per_step)

    @property
    def _evaluate_every(self) -> int:
        """The steps between two evaluations."""
        epochs = self.config.evaluate_every
        return max(1, round(epochs * self.loader.steps_per_epoch if epochs else self.steps / 10))

    @property
    def checkpoint(self) -> Path:
        """Path of the last checkpoint."""
        return self.folder / "last" / "state.pt"

    def compile(self) -> None:
        """Compiles the networks if `train.compile` demands it, or is `auto` and this training is long enough for it.

        A dry run compiles what the steps need. If that fails, the networks stay uncompiled.
        """
        engine, parts, processes = self.engine, self.config.accumulate, world_size()
        plan = plan_compilation(
            self.config.compile,
            engine.device,
            steps=self.steps - self.state.step,
            units=self.cost().units if engine.device.type == "cuda" else 0,
            parts=parts,
            processes=processes,
        )
        if plan.reason:
            log.info(plan.reason)
        if not plan.compiled or self.state.step >= self.steps:
            return
        engine.compile(cuda_graphs=plan.cuda_graphs)
        if processes > 1:  # a process whose compilation fails would leave the others waiting for its gradients
            return
        labeled, unlabeled = self.loader.load(self.state.step)
        whole = labeled.to(engine.device), unlabeled.to(engine.device) if unlabeled is not None else None
        part = whole[0].split(parts)[0], whole[1].split(parts)[0] if whole[1] is not None else None
        engine.method.train()
        try:
            kinds = kinds_of_steps(engine.method, self.step_info, self.state.step, self.steps)
            engine.dry_run(*part, kinds * DRY_RUNS)
        except Exception as error:  # compilers raise errors of any type
            engine.uncompile()
            log.warning(f"networks are not compiled, because that failed: {first_line(error)}")

    def run(self) -> None:
        """Trains from the state's step to the last.

        Raises:
            InterruptedTrainingError: When a signal arrives, after the state is saved.
            RunError: If the training diverges more than `MAX_ROLLBACKS` times, or the memory of the GPU is too small.
        """
        config, state, steps, evaluate_every = self.config, self.state, self.steps, self._evaluate_every
        retry_at = -1
        self.engine.method.train()
        if state.step == 0:
            self.save()
        self._started = time.perf_counter() - state.seconds
        with StopSignals() as signals, self.progress.start(self.name, steps, state.step) as bar:
            batches = self.loader.steps(state.step, steps)
            while state.step < steps:
                # 1. Load a batch, which threads have prepared.
                labeled, unlabeled = next(batches)

                # 2. One optimizer step.
                try:
                    self.step(labeled, unlabeled)
                except torch.OutOfMemoryError:
                    raise RunError(
                        f"step {state.step}: {len(labeled)} + {len(unlabeled or ())} persons do not fit the memory of "
                        f"{self.engine.device}; lower `train.batch` and `train.unlabeled_batch`, or compute them in "
                        "parts with `train.accumulate`, or choose a smaller network or input"
                    ) from None
                last = state.step == steps
                if state.step == TIMED_STEPS:
                    log.info(f"expected duration: {self._expected_duration()} for {steps} steps")

                # 3. Log the mean losses since the last log line; roll back if the training diverged.
                if last or state.step % config.log_every == 0:
                    losses = self._meter.mean()
                    if self._diverged(losses):
                        self._roll_back(losses)
                        state, batches = self.state, self.loader.steps(self.state.step, steps)
                        continue
                    bar.update(state.step, self._log(losses, len(labeled) + len(unlabeled or ())))

                # 4. Evaluate, and keep the best weights.
                if last or state.step % evaluate_every == 0:
                    self._evaluate()

                # 5. Save a checkpoint; a signal to one process ends all processes.
                signal = all_max(signals.received)
                if last or signal or state.step % config.checkpoint_every == 0 or state.step == retry_at:
                    saved = self.save()
                    retry_at = -1 if saved else state.step + config.log_every
                    if signal and not saved:
                        raise RunError(f"stopped without saving: {self.folder} can't be written; see the warning above")
                if signal:
                    raise InterruptedTrainingError(signal)

    def step(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None) -> None:
        """Takes one optimizer step: losses, gradients, weights, then the teachers of the method."""
        engine, state = self.engine, self.state
        info = self.step_info(state.step)
        rate = learning_rate(self.config, state.step, info.steps, engine.method.schedule_restarts) * state.rate_factor
        for group in engine.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        on_device = unlabeled.to(engine.device) if unlabeled is not None else None
        losses, taken = engine.train_step(
            labeled.to(engine.device), on_device, info, self.config.clip, self.config.accumulate
        )
        engine.method.after_step(info)
        self._meter.add(losses.terms, taken)
        state.step += 1
        state.seconds = time.perf_counter() - self._started

    def _expected_duration(self) -> str:
        """Returns the expected duration of all steps and evaluations, in words, from that of the first steps."""
        cost, batch = self.cost(), self.config.batch if len(self.loader.labeled) else 0
        alone, both = cost.of_batch(batch, 0), cost.of_batch(batch, self.config.unlabeled_batch)
        weights = (self.engine.method.unlabeled_weight(self.step_info(step)) for step in range(self.steps))
        costs = [both if weight > 0 and self.loader.unlabeled is not None else alone for weight in weights]
        evaluation, every, step = self.evaluator.passes / world_size(), self._evaluate_every, self.state.step
        done = sum(costs[:step]) + (step - 1) // every * evaluation
        seconds = self.state.seconds / max(1, done) * (sum(costs) + self.steps // every * evaluation)
        minutes = seconds / 60
        return f"{minutes:.0f} minutes" if minutes >= 1.5 else "about a minute"

    def save(self) -> bool:
        """Writes the checkpoint; logs a warning and returns False if it can't be written now.

        The main process writes, with the state of every process; the others wait.
        """
        device = self.engine.device
        cuda_rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        meter = self._meter.to(torch.device("cpu"))
        process = ProcessState(self.generator.get_state(), torch.get_rng_state(), meter, cuda_rng)
        self.state.processes = all_gather(process)
        failed = is_main_process() and not self._write_checkpoint()
        return not all_max(failed)

    def _write_checkpoint(self) -> bool:
        state, engine = self.state, self.engine
        if not self._buffers_are_finite():
            log.warning(f"step {state.step}: running averages of BatchNorm are not finite; the last checkpoint is kept")
            return False
        try:
            self.evaluator.write_weights()
            state.log_bytes = self.metrics.size
            state.scaler = engine.scaler.state_dict() if engine.scaler else {}
            save_checkpoint(self.checkpoint, state, engine.method, engine.optimizer)
        except OSError as error:
            log.warning(
                f"step {state.step}: {self.folder} can't be written ({error.strerror}); the last checkpoint is "
                "kept, and the run continues and tries again"
            )
            return False
        return True

    def _log(self, losses: MeanLosses, samples: int) -> str:
        """Writes a log line and returns a note for the progress bar; `samples` is the number per step and process."""
        state, values = self.state, dict(losses.terms)
        if losses.skipped:
            values["skipped"] = losses.skipped
            log.warning(
                f"step {state.step}: {losses.skipped} of {losses.steps} steps skipped: loss or gradient not finite"
            )
        speed = samples * world_size() * losses.steps / max(1e-9, state.seconds - state.logged_seconds)
        state.logged_seconds, self._meter = state.seconds, LossMeter()
        group = self.engine.optimizer.param_groups[0]
        self.metrics.write(state.step, "train", {**values, "lr": group["lr"] / group.get("lr_scale", 1.0)})
        return "  ".join(f"{n} {v:.4g}" for n, v in values.items()) + f"  {speed:.0f} samples/s"

    def _evaluate(self) -> None:
        """Evaluates the networks and keeps their weights if they are the best, or if the last ones are to be kept."""
        state, validation = self.state, self.evaluator.validate(self.state.step, self.metrics)
        score = None if validation is None else validation.score
        rounded = None if score is None else round(score, 5)  # without the tie-breaker
        self.monitor.update(self.step_info(state.step), rounded, state.monitor, self.metrics)
        better = score is not None and score > state.best_score
        if better or self.config.select == "last" or (score is None and state.step == self.steps):
            state.best_score = state.best_score if score is None else score
            state.best_step = state.step
            state.best_network = validation.best_network if validation else self.evaluator.headline_networks[0]
            if is_main_process():
                self.evaluator.keep_weights(state.best_network)

    def _diverged(self, losses: MeanLosses) -> bool:
        """Returns whether half of the steps were skipped, or any step was and the running averages are not finite.

        With fp16 a loss scale of 1 or more may be too high; each skipped step halves the scale.
        """
        scale_is_high = self.engine.scaler is not None and self.engine.scaler.get_scale() >= 1
        if 2 * losses.skipped >= losses.steps and not scale_is_high:
            return True
        return losses.skipped > 0 and not self._buffers_are_finite()

    def _buffers_are_finite(self) -> bool:
        """Returns whether BatchNorm's running averages, which skipped steps also update, are finite."""
        return all(bool(b.isfinite().all()) for b in self.engine.method.buffers() if b.is_floating_point())

    def _roll_back(self, losses: MeanLosses) -> None:
        """Goes back to the last checkpoint with a tenth of the learning rate.

        Raises:
            RunError: If the training went back `MAX_ROLLBACKS` times already.
        """
        engine, rollbacks = self.engine, self.state.rollbacks + 1
        event = (
            f"step {self.state.step}: loss or gradient not finite in {losses.skipped} of the last {losses.steps} steps"
        )
        if rollbacks > MAX_ROLLBACKS:
            raise RunError(
                f"{event} again, after {MAX_ROLLBACKS} returns to a checkpoint with a lower rate; {self.checkpoint} is "
                "the last good checkpoint: lower `train.lr` or set `train.clip`, and check the data"
            )
        before = self.state
        self.state = load_checkpoint(self.checkpoint, before.identity, engine.method, engine.optimizer)
        self.state.rate_factor, self.state.rollbacks = self.state.rate_factor / 10, rollbacks
        self.state.best_score, self.state.best_step = before.best_score, before.best_step  # those of the kept weights
        self.state.best_network = before.best_network
        self._restore_process()
        self._started = time.perf_counter() - self.state.seconds
        text = f"{event}; back to step {self.state.step} with {self.state.rate_factor:g} times the learning rate"
        log.warning(text)
        self.metrics.truncate(self.state.log_bytes)
        self.metrics.write(self.state.step, "warning", {"what": "diverged", "text": text})
        self.save()

    def _restore_process(self) -> None:
        """Restores the random state of this process and the loss terms since the last log line.

        If the number of processes has grown, the rank and the step seed the new ones.
        """
        number, saved = rank(), self.state.processes
        if number < len(saved):
            self.generator.set_state(saved[number].generator)
            torch.set_rng_state(saved[number].torch_rng)
            if (cuda_rng := saved[number].cuda_rng) is not None and self.engine.device.type == "cuda":
                torch.cuda.set_rng_state(cuda_rng, self.engine.device)
        elif number:
            seeds = np.random.SeedSequence([self.config.seed, number, self.state.step]).generate_state(2).tolist()
            self.generator.manual_seed(seeds[0])
            torch.manual_seed(seeds[1])
        same = len(saved) == world_size()
        meter = saved[number].meter if same else LossMeter.merged([process.meter for process in saved])
        self._meter = meter.to(self.engine.device)
