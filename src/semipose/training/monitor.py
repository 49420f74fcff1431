"""Watches a training between its steps: says in one line what goes wrong and what to change, and logs the curves."""

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from semipose.augment.views import eval_view
from semipose.data.crops import Crops
from semipose.data.loader import unlabeled_batch
from semipose.losses import HeatmapLoss
from semipose.methods.base import StepInfo
from semipose.methods.weight_averaging import SUFFIX as AVERAGE
from semipose.models.heads import STRIDE
from semipose.ops.geometry import cached_tensor
from semipose.ops.heatmaps import decode
from semipose.structures.batches import View
from semipose.training.checkpoint import TrainingState
from semipose.training.engine import Engine
from semipose.training.loggers import MetricsLog

logger = logging.getLogger(__name__)


PERSONS = 32
"""Persons of each kind that are looked at."""
SETTLED = 100
"""Steps before which nothing is judged: networks start blank."""
COLLAPSED = 0.35
"""Unlabeled peaks below this share of the labeled ones are a collapse; measured in docs/results/reliability.md."""
BLANK = 0.05
"""Labeled peaks below this, in the second half of a training, are background everywhere."""
FALLEN = 0.15
"""A validation figure this share below its best, `PATIENCE` looks in a row, has fallen."""
HALVED = 0.5
"""A validation figure below this share of its best, `PATIENCE` looks in a row, has fallen whatever else is seen."""
PATIENCE = 3


@dataclass(frozen=True)
class Sample:
    """What one look found, means over persons and joints.

    `peak_*`: highest value of a heatmap. `entropy_*`: of the heatmap as a distribution over cells, 1 = uniform.
    `distance`: between what two networks (or one network and its mirror image) see in unlabeled images, in cells.
    `confident`: share of unlabeled joints with a peak of half the labeled mean or more.
    """

    peak_labeled: float
    entropy_labeled: float
    peak_unlabeled: float
    entropy_unlabeled: float
    distance: float
    confident: float


@dataclass
class TrainingMonitor:
    """Looks at the same few persons each time. `unlabeled` is None in purely supervised trainings."""

    engine: Engine
    loss: HeatmapLoss
    labeled: Crops
    unlabeled: Crops | None
    state: TrainingState
    _views: dict[str, View] = field(default_factory=dict)

    @property
    def memory(self) -> dict[str, Any]:
        """What earlier looks found; part of the training's state, so that a resumed training goes on in it."""
        fresh: dict[str, Any] = {"best": -math.inf, "distance": math.inf, "fallen": 0, "halved": 0, "told": []}
        return self.state.extra.setdefault("watch", fresh)

    def update(self, step: int, steps: int, figure: float | None, log: MetricsLog) -> list[str]:
        """Logs a line of kind "watch"; returns, and says once each, what is wrong. `figure`: the validation score."""
        if self.unlabeled is None or not self.engine.is_main:
            return []
        found = self._measure()
        log.write(step, "watch", vars(found))
        warnings = {} if step < SETTLED else self._judge(found, step, steps, figure)
        told = self.memory["told"]
        for name, text in warnings.items():
            if name not in told:
                told.append(name)
                logger.info(f"step {step}: {text}")
                log.write(step, "warning", {"what": name, "text": text})
        return list(warnings)

    def _judge(self, found: Sample, step: int, steps: int, figure: float | None) -> dict[str, str]:
        warnings, weight = {}, self.engine.method.unlabeled_weight(StepInfo(step, steps, 0))
        if found.peak_labeled < BLANK and step > steps / 2:
            warnings["blank"] = (
                f"the network shows background everywhere (mean peak {found.peak_labeled:.3f} on labeled, "
                f"{found.peak_unlabeled:.3f} on unlabeled images); "
            ) + (
                f"agreeing on nothing is the easiest way to meet an unlabeled loss of weight {weight:g}: lower "
                "method.unlabeled_weight, use harder views (method.augmentations) or a longer method.burn_in; if it was blank "
                "before that loss began, raise train.lr"
                if weight
                else "raise train.lr or train longer, and look at the labels with semipose data check"
            )
        elif found.peak_unlabeled < COLLAPSED * found.peak_labeled:
            warnings["collapse"] = (
                f"unlabeled images collapse to background (mean peak {found.peak_unlabeled:.2f} against "
                f"{found.peak_labeled:.2f} on labeled ones): the network agrees with itself on nothing; use hard "
                "views (method.augmentations), a smaller method.unlabeled_weight, or a longer method.burn_in"
            )
        memory = self.memory
        if figure is not None and figure > memory["best"]:
            memory |= {"best": figure, "distance": found.distance, "fallen": 0, "halved": 0}
        elif figure is not None:
            drifting = figure < (1 - FALLEN) * memory["best"] and found.distance < memory["distance"]
            memory["fallen"] = memory["fallen"] + 1 if drifting else 0
            halved = weight > 0 and figure < HALVED * memory["best"]
            memory["halved"] = memory.get("halved", 0) + 1 if halved else 0
        if memory["fallen"] >= PATIENCE:
            warnings["drift"] = (
                f"teachers and students agree more and more ({found.distance:.1f} cells apart) while validation falls "
                f"({100 * (figure or 0):.1f} after {100 * memory['best']:.1f}): they confirm each other's errors; "
                "lower method.unlabeled_weight, set method.min_peak, or stop at the best weights"
            )
        elif memory.get("halved", 0) >= PATIENCE:
            warnings["drift"] = (
                f"validation has fallen from {100 * memory['best']:.1f} to {100 * (figure or 0):.1f} while unlabeled "
                f"images teach with weight {weight:g}: networks confirm each other's errors; lower "
                "method.unlabeled_weight, set method.min_peak, give labels a longer method.burn_in, or stop at the "
                "best weights"
            )
        return warnings

    def _measure(self) -> Sample:
        networks = [n for name, n in self.engine.method.eval_networks().items() if not name.endswith(AVERAGE)]
        modes = [network.training for network in networks]
        for network in networks:
            network.eval()
        with torch.inference_mode(), self.engine.looking():
            known, other = (self._heatmaps(networks[0], name).float() for name in ("labeled", "unlabeled"))
            if len(networks) > 1:
                second = self._heatmaps(networks[1], "unlabeled").float()
            else:
                images = self._view("unlabeled").images.flip(-1)
                mirrored = self.loss.heatmaps(networks[0].forward_main(images)).float().flip(-1)
                second = mirrored[:, cached_tensor(self.labeled.dataset.skeleton.flip_order, mirrored.device)]
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
        peaks, others = known.amax(dim=(2, 3)), other.amax(dim=(2, 3))
        apart = (decode(other, STRIDE, "quarter")[0] - decode(second, STRIDE, "quarter")[0]).norm(dim=-1) / STRIDE
        return Sample(
            peak_labeled=float(peaks.mean()),
            entropy_labeled=entropy(known),
            peak_unlabeled=float(others.mean()),
            entropy_unlabeled=entropy(other),
            distance=float(apart.mean()),
            confident=float((others >= peaks.mean() / 2).float().mean()),
        )

    def _heatmaps(self, network: nn.Module, name: str) -> Tensor:
        return self.loss.heatmaps(network.forward_main(self._view(name).images))  # type: ignore[operator]

    def _view(self, name: str) -> View:
        if name not in self._views:
            crops = self.labeled if name == "labeled" or self.unlabeled is None else self.unlabeled
            chosen = list(range(min(PERSONS, len(crops))))
            batch = unlabeled_batch(crops, chosen).to(self.engine.device)
            self._views[name] = eval_view(batch, crops.geometry.input_size)
        return self._views[name]


def entropy(heatmaps: Tensor) -> float:
    """Mean spatial entropy of heatmaps (B, K, h, w), negative values taken as 0, as a share of the uniform map's."""
    flat = heatmaps.clamp_min(0).flatten(2) + 1e-9
    shares = flat / flat.sum(dim=-1, keepdim=True)
    return min(1.0, float((-shares * shares.log()).sum(dim=-1).mean() / math.log(flat.shape[-1])))
