"""The check of an adaptation without labels: predictions of the adapted network next to those at the start."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from semipose.data.crops import Crops
from semipose.methods.base import ConsistencyConfig
from semipose.structures.predictions import Prediction
from semipose.training.checkpoint import TrainingState
from semipose.training.evaluator import Evaluator
from semipose.training.loggers import MetricsLog
from semipose.utils.text import plural

log = logging.getLogger(__name__)

NEAR = 0.1
"""Two predictions of a joint agree if they are apart by at most this fraction of the longer side of the box."""
LEAST_CONFIDENT = 0.7
"""Confident joints below this fraction of those at the start have collapsed (docs/research/adaptation.md)."""
LEAST_AGREEMENT = 0.8
"""With a smaller share of agreeing joints the predictions have drifted away (docs/research/adaptation.md)."""


@dataclass(frozen=True)
class SelfCheck:
    """How an adapted network predicts on unlabeled persons that it did not learn from, next to that at the start.

    Attributes:
        confident_before: Share of joints whose peak at the start is at least `method.min_peak`.
        confident: The same of the adapted network.
        agreement: Share of the joints confident at the start that the adapted network puts nearby; 1 without any.
        persons: Number of persons.
    """

    confident_before: float
    confident: float
    agreement: float
    persons: int

    @property
    def fault(self) -> str | None:
        """What is wrong with the adapted network; None if nothing is found."""
        if self.confident_before == 0:
            return "no joint is confident at the start, so there was nothing to learn from; lower `method.min_peak`"
        if self.confident < LEAST_CONFIDENT * self.confident_before:
            return "confident joints collapse"
        if self.agreement < LEAST_AGREEMENT:
            return "joints drift away from the network at the start"
        return None

    def describe(self) -> str:
        """Returns the measurements in one line."""
        before, now, near = (100 * v for v in (self.confident_before, self.confident, self.agreement))
        return (
            f"{now:.0f} % of the joints of {plural(self.persons, 'held-out person')} are confident, {before:.0f} % at "
            f"the start, and {near:.0f} % of the latter stay where they were"
        )


def compare(
    before: Sequence[Prediction], after: Sequence[Prediction], longer_sides: Sequence[float], min_peak: float
) -> SelfCheck:
    """Compares the predictions of two networks on the same persons.

    Args:
        before: Predictions of the network at the start.
        after: Predictions of the adapted network.
        longer_sides: The longer side of each person's box in pixels.
        min_peak: The smallest peak of a confident joint.
    """
    old, new = np.array([p.scores for p in before]), np.array([p.scores for p in after])
    distances = np.linalg.norm(np.array([p.joints for p in before]) - np.array([p.joints for p in after]), axis=-1)
    near, sure = distances <= NEAR * np.array(longer_sides)[:, None], old >= min_peak
    agreement = float(near[sure].mean()) if sure.any() else 1.0
    return SelfCheck(float(sure.mean()), float((new >= min_peak).mean()), agreement, len(before))


def check_adaptation(evaluator: Evaluator, crops: Crops, state: TrainingState, metrics: MetricsLog) -> SelfCheck:
    """Checks an adapted network on unlabeled crops; if it fails, best.safetensors becomes the network at the start."""
    method = evaluator.engine.method
    networks, start = method.eval_networks(), method.baseline_network
    assert start is not None and isinstance(method.config, ConsistencyConfig)
    ours = networks[evaluator.headline_networks[0]]
    before, after = (evaluator.predict(crops, [network]) for network in (networks[start], ours))
    sides = crops.dataset.instances.boxes[:, 2:].max(axis=1).tolist()
    found = compare(before, after, sides, method.config.min_peak)
    metrics.write(state.step, "self_check", {k: float(v) for k, v in asdict(found).items()})
    if found.fault:
        log.warning(f"{found.describe()}: {found.fault}, so best.safetensors is the network at the start")
        evaluator.select_network(start, state)
    else:
        log.info(f"{found.describe()}; only labels (`data.val`) show whether the network became better")
    return found
