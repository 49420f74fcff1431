"""The registry of metrics, by the name of their main value. A new metric is one file and one line here."""

from semipose.metrics.base import Metric
from semipose.metrics.oks import KeypointAP
from semipose.metrics.pck import PCK, PCKh

METRICS: dict[str, Metric] = {
    "AP": KeypointAP(),
    "PCK@0.2": PCK(),
    "PCKh@0.5": PCKh(),
}
