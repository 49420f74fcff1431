"""A new metric is one class and one entry of METRICS; it then appears wherever scores are reported."""

from pathlib import Path

import numpy as np
import pytest

import semipose
from semipose.data.formats.coco import read_coco
from semipose.metrics.base import MatchedDataset, Metric, MetricResult
from semipose.metrics.bootstrap import intervals
from semipose.metrics.registry import METRICS
from semipose.metrics.scores import score
from semipose.structures.predictions import ground_truth_as_predictions

PEOPLE = Path(semipose.__file__).parent / "people" / "val.json"


class NearNose(Metric):
    """The fraction of noses within two pixels."""

    def evaluate(self, data: MatchedDataset) -> MetricResult:
        nose = data.truth.skeleton.index("nose")
        pairs = zip(data.truth.instances, data.matched, strict=True)
        near = [np.linalg.norm(p.joints[nose] - t.joints[nose]) <= 2 for t, p in pairs if p is not None]
        return MetricResult({"near nose": float(np.mean(near))}, by_joint={"near nose": {"nose": float(np.mean(near))}})


@pytest.fixture
def near_nose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "near nose", NearNose())


def test_a_new_metric_is_part_of_the_scores(near_nose) -> None:
    people = read_coco(PEOPLE).subset(range(12))
    scores = score(people, ground_truth_as_predictions(people))
    assert list(scores.as_dict()) == ["AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5", "pixel_error", "near nose"]
    assert scores["near nose"] == 1
    assert scores.by_joint["near nose"] == {"nose": 1}
    assert "near nose 100.0" in repr(scores)
    assert set(intervals(people, ground_truth_as_predictions(people))) == {
        *("AP", "PCK@0.2", "PCKh@0.5"),
        *("pixel_error", "pixel_error_median", "pixel_error_rmse", "pixel_error_p90"),
    }
