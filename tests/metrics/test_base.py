"""The contract of a metric."""

import pytest

from semipose.metrics.base import MatchedDataset, Metric, MetricResult
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import COCO


def test_a_metric_must_evaluate_and_needs_no_intervals() -> None:
    class Empty(Metric):
        pass

    class Constant(Metric):
        def evaluate(self, data: MatchedDataset) -> MetricResult:
            return MetricResult({"constant": 0.5})

    with pytest.raises(TypeError, match="evaluate"):
        Empty()
    assert Constant().outcomes(MatchedDataset(PoseDataset(COCO, [], "nothing"), [], []), {}) == {}
