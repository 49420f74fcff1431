"""Monitoring of a training: peaks and agreement of its networks on unlabeled images, and warnings of known failures."""

import logging
from dataclasses import asdict, dataclass, field

from torch import Tensor

from semipose.augment.views import eval_view
from semipose.data.crops import Crops
from semipose.data.loader import unlabeled_batch
from semipose.losses import HeatmapLoss
from semipose.methods.base import StepInfo
from semipose.methods.weight_averaging import SUFFIX as AVERAGE
from semipose.models.heads import STRIDE
from semipose.models.pose_net import PoseNet
from semipose.ops.geometry import cached_tensor
from semipose.ops.heatmaps import decode
from semipose.structures.batches import View
from semipose.training.checkpoint import MonitorMemory
from semipose.training.distributed import is_main_process
from semipose.training.engine import Engine
from semipose.training.loggers import MetricsLog

log = logging.getLogger(__name__)

PERSONS = 32
"""Number of labeled and of unlabeled persons that are sampled; they are the same each time."""
FIRST_STEP = 100
"""First step at which failures are diagnosed; before it, untrained networks predict background."""
COLLAPSED = 0.35
"""Unlabeled peaks below this fraction of labeled peaks are a collapse; measured in docs/research/reliability.md."""
BLANK = 0.05
"""Labeled peaks below this value in the second half of a training mean background everywhere."""
FALLEN = 0.15
"""A validation score this fraction of its best below it, `PATIENCE` evaluations in a row, has fallen."""
HALVED = 0.5
"""A validation score this fraction of its best below it, `PATIENCE` evaluations in a row, has fallen in any case."""
PATIENCE = 3


@dataclass(frozen=True)
class Sample:
    """Measurements of the networks at one step, as means over persons and the joints that the training has labels of.

    Attributes:
        peak_labeled: Highest value of a heatmap of a labeled image.
        peak_unlabeled: As `peak_labeled`, of an unlabeled image.
        distance: Between the joints of two networks (or of one network and its mirror image), in heatmap pixels; 0 for
            one network and a skeleton without left/right pairs.
    """

    peak_labeled: float
    peak_unlabeled: float
    distance: float


@dataclass
class TrainingMonitor:
    """A monitor that samples the networks at each evaluation.

    Args:
        engine: The engine of the training.
        loss: Converts outputs to heatmaps.
        labeled: Labeled crops.
        unlabeled: Unlabeled crops; None in supervised trainings, which are not monitored.
    """

    engine: Engine
    loss: HeatmapLoss
    labeled: Crops
    unlabeled: Crops | None
    _views: dict[str, View] = field(default_factory=dict)

    def update(self, info: StepInfo, score: float | None, memory: MonitorMemory, metrics: MetricsLog) -> list[str]:
        """Logs a sample and returns the names of the failures found; each failure is reported once per training.

        Args:
            info: The next step.
            score: The validation score, if there is one.
            memory: State from earlier evaluations; updated.
            metrics: Logs the sample and the warnings.
        """
        if self.unlabeled is None or not is_main_process():
            return []
        sample, step = self.sample(self.unlabeled), info.step
        metrics.write(step, "monitor", asdict(sample))
        weight = self.engine.method.unlabeled_weight(info)
        if weight == 0 or memory.confidence is None:  # afterwards it has learned its own targets on unlabeled images
            memory.confidence = sample.peak_unlabeled / max(sample.peak_labeled, 1e-6)
        if step < FIRST_STEP:
            return []
        failures = diagnose(sample, memory, score, weight, second_half=step > info.steps / 2)
        for name, text in failures.items():
            if name not in memory.reported:
                memory.reported.append(name)
                log.warning(f"step {step}: {text}")
                metrics.write(step, "warning", {"what": name, "text": text})
        return list(failures)

    def sample(self, unlabeled: Crops) -> Sample:
        """Returns the present measurements; moving averages of weights and the baseline network are left out."""
        method = self.engine.method
        names = [n for n in method.eval_networks() if n != method.baseline_network and not n.endswith(AVERAGE)]
        networks = [method.eval_networks()[name] for name in names]
        modes = [network.training for network in networks]
        for network in networks:
            network.eval()
        labeled_view, view = self._view("labeled", self.labeled), self._view("unlabeled", unlabeled)
        with self.engine.inference():
            known, other = self._heatmaps(networks[0], labeled_view.images), self._heatmaps(networks[0], view.images)
            if len(networks) > 1:
                second = self._heatmaps(networks[1], view.images)
            elif not (skeleton := self.labeled.dataset.skeleton).flip_pairs:
                second = other  # a mirror image shows nothing without pairs; the distance is 0
            else:
                mirrored = self._heatmaps(networks[0], view.images.flip(-1)).flip(-1)
                second = mirrored[:, cached_tensor(skeleton.flip_order, mirrored.device)]
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
        labeled = self.labeled.dataset
        learned = [k for k, joint in enumerate(labeled.skeleton.joints) if joint not in labeled.unlabeled_joints]
        known, other, second = known[:, learned], other[:, learned], second[:, learned]
        apart = (decode(other, STRIDE, "quarter")[0] - decode(second, STRIDE, "quarter")[0]).norm(dim=-1) / STRIDE
        return Sample(
            peak_labeled=float(known.amax(dim=(2, 3)).mean()),
            peak_unlabeled=float(other.amax(dim=(2, 3)).mean()),
            distance=float(apart.mean()),
        )

    def _heatmaps(self, network: PoseNet, images: Tensor) -> Tensor:
        return self.loss.heatmaps(network.forward_main(images)).float()

    def _view(self, name: str, crops: Crops) -> View:
        if name not in self._views:
            batch = unlabeled_batch(crops, self._sampled(crops)).to(self.engine.device)
            self._views[name] = eval_view(batch, crops.geometry.input_size)
        return self._views[name]

    def _sampled(self, crops: Crops) -> list[int]:
        """Returns evenly spaced persons; of the unlabeled ones those whose image has no labels, if there are any."""
        labeled = {*self.labeled.dataset.instances.paths} if crops is not self.labeled else {}
        images = crops.dataset.instances.paths  # none for shards
        persons = [n for n in range(len(crops)) if n >= len(images) or images[n] not in labeled]
        persons = persons or list(range(len(crops)))
        return [persons[k * len(persons) // PERSONS] for k in range(PERSONS)] if len(persons) > PERSONS else persons


def diagnose(
    sample: Sample, memory: MonitorMemory, score: float | None, weight: float, *, second_half: bool
) -> dict[str, str]:
    """Returns the failures of a training by name (blank, collapse, drift), with a message that gives the remedy.

    Args:
        sample: The present measurements.
        memory: State from earlier evaluations; updated.
        score: The validation score, if there is one.
        weight: The present weight of the unlabeled loss.
        second_half: Whether the training is in its second half.
    """
    failures = {}
    if sample.peak_labeled < BLANK and second_half:
        failures["blank"] = (
            f"the network predicts background everywhere (mean peak {sample.peak_labeled:.3f} on labeled, "
            f"{sample.peak_unlabeled:.3f} on unlabeled images); "
        ) + (
            f"background minimizes an unlabeled loss of weight {weight:g}: lower `method.unlabeled_weight`, use harder "
            "views (`method.augmentations`) or a longer `method.burn_in`; if the network was blank before that loss "
            "began, raise `train.lr`"
            if weight
            else "raise `train.lr`, train longer, or check the labels"
        )
    elif sample.peak_unlabeled < COLLAPSED * sample.peak_labeled:
        failures["collapse"] = (
            f"unlabeled images collapse to background (mean peak {sample.peak_unlabeled:.2f} against "
            f"{sample.peak_labeled:.2f} on labeled ones): the networks agree on background; use harder views "
            "(`method.augmentations`), a smaller `method.unlabeled_weight`, or a longer `method.burn_in`"
        )
    if score is not None:
        _remember(sample, memory, score, weight)
    if memory.drifting >= PATIENCE:
        failures["drift"] = (
            f"teachers and students agree more and more (distance {sample.distance:.1f} heatmap pixels) while the "
            f"validation score falls ({_text(score or 0)} after {_text(memory.best)}): they confirm each "
            "other's errors; lower `method.unlabeled_weight`, set `method.min_peak`, or stop at the best weights"
        )
    elif memory.halved >= PATIENCE:
        failures["drift"] = (
            f"the validation score fell from {_text(memory.best)} to {_text(score or 0)} under an unlabeled "
            f"loss of weight {weight:g}: networks confirm each other's errors; lower `method.unlabeled_weight`, set "
            "`method.min_peak`, use a longer `method.burn_in`, or stop at the best weights"
        )
    return failures


def _remember(sample: Sample, memory: MonitorMemory, score: float, weight: float) -> None:
    """Counts consecutive evaluations with a fallen score."""
    if score > memory.best:
        memory.best, memory.distance, memory.drifting, memory.halved = score, sample.distance, 0, 0
        return
    lost = (memory.best - score) / (abs(memory.best) or 1.0)  # as a fraction of the best; pixel errors are negative
    drifting = lost > FALLEN and sample.distance < memory.distance
    memory.drifting = memory.drifting + 1 if drifting else 0
    memory.halved = memory.halved + 1 if weight > 0 and lost > HALVED else 0


def _text(score: float) -> str:
    return f"pixel error {-score:.1f}" if score < 0 else f"{100 * score:.1f}"
