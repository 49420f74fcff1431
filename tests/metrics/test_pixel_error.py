"""Pixel error against a reference in plain NumPy, and what it leaves out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semipose.metrics.bootstrap import describe_differences, differences
from semipose.metrics.matching import match_dataset
from semipose.metrics.pixel_error import PixelError, pixel_errors
from semipose.metrics.registry import axis_title, column_title, in_words, is_error, value_text
from semipose.metrics.scores import describe_pixel_error, score
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import LSP

K = len(LSP)


def scene(images: int = 30) -> tuple[PoseDataset, list[Prediction]]:
    """Two persons an image with some unlabeled joints, and predictions that are 3 pixels off on average."""
    rng = np.random.default_rng(0)
    persons, predictions = [], []
    for n in range(2 * images):
        joints, visibility = rng.uniform(0, 200, (K, 2)), rng.integers(0, 3, K)
        visibility[8] = 0  # one joint is labeled nowhere
        visibility[0] = 2
        persons.append(Instance(Path("i.jpg"), n // 2, n, (0, 0, 200, 200), joints, visibility, area=9e3))
        moved = joints + rng.normal(0, 3, (K, 2))
        predictions.append(Prediction(n // 2, n, moved, np.ones(K), 1.0, (0, 0, 200, 200)))
    return PoseDataset(LSP, persons, "scene"), predictions


def reference(truth: PoseDataset, predictions: list[Prediction]) -> dict[str, list[float]]:
    """The distances by joint, joint by joint in Python."""
    found = {p.annotation_id: p for p in predictions}
    distances: dict[str, list[float]] = {}
    for person in truth.instances:
        if person.is_crowd or person.annotation_id not in found:
            continue
        for k, name in enumerate(LSP.joints):
            if person.visibility[k] > 0:
                x, y = np.float64(found[person.annotation_id].joints[k]) - np.float64(person.joints[k])
                distances.setdefault(name, []).append(float((x * x + y * y) ** 0.5))
    return distances


def test_statistics_are_those_of_the_reference() -> None:
    truth, predictions = scene()
    crowd = replace(truth[4], is_crowd=True)
    truth = PoseDataset(LSP, [*truth.instances[:4], crowd, *truth.instances[5:]], "scene")
    by_joint = reference(truth, predictions)
    flat = np.concatenate(list(by_joint.values()))
    found = score(truth, predictions)
    assert found.pixel_error == {
        "mean": pytest.approx(flat.mean(), rel=1e-12),
        "median": pytest.approx(np.sort(flat)[[(len(flat) - 1) // 2, len(flat) // 2]].mean(), rel=1e-12),
        "rmse": pytest.approx((flat**2).sum() ** 0.5 / len(flat) ** 0.5, rel=1e-12),
        "p90": pytest.approx(np.quantile(flat, 0.9), rel=1e-12),
        "by_joint": {name: pytest.approx(np.mean(own), rel=1e-12) for name, own in by_joint.items()},
    }
    assert LSP.joints[8] not in found.pixel_error["by_joint"]
    assert found["pixel_error"] == found.as_dict()["pixel_error"] == found.pixel_error["mean"]
    assert found["pixel_error_p90"] == found.pixel_error["p90"]
    line = describe_pixel_error(found.pixel_error)
    assert line.startswith(f"pixel error: mean {flat.mean():.1f}, median ")
    assert describe_pixel_error(found.pixel_error, boxes="ground truth") == line
    assert describe_pixel_error(found.pixel_error, boxes="around the labels") == f"{line}, in boxes around the labels"


def test_persons_without_a_prediction_are_reported() -> None:
    truth, predictions = scene()
    found = score(truth, predictions[:-7])
    assert found.counts["no_prediction"] == 7
    assert "pixel_error leaves out 7 of 60 persons: they have no prediction" in found.notes
    assert found["pixel_error"] == pytest.approx(
        np.concatenate(list(reference(truth, predictions[:-7]).values())).mean()
    )
    assert not any("pixel_error" in note for note in score(truth, predictions).notes)


def test_without_predictions_there_is_no_error() -> None:
    truth, _ = scene()
    found = score(truth, [])
    assert (found["pixel_error"], found.pixel_error, describe_pixel_error(found.pixel_error)) == (None, None, "")
    assert np.isnan(pixel_errors(match_dataset(truth, []))).all()


def test_labels_themselves_have_no_error() -> None:
    truth, _ = scene()
    values = PixelError().evaluate(match_dataset(truth, ground_truth_as_predictions(truth)))
    assert values.values == {"pixel_error": 0}
    assert set(values.details.values()) == {0}


def test_a_difference_compares_the_persons_that_both_predict() -> None:
    """Without its worst persons a network has a lower mean error, but no better predictions."""
    truth, predictions = scene()
    worse = [replace(p, joints=p.joints + 20) if n < 20 else p for n, p in enumerate(predictions)]
    whole, partial = match_dataset(truth, worse), match_dataset(truth, worse[20:])
    assert score(truth, worse[20:])["pixel_error"] < score(truth, worse)["pixel_error"]
    same = differences(whole, partial)["pixel_error"]
    assert (same.value, same.interval) == (0, (0, 0))
    better = differences(match_dataset(truth, predictions), whole)["pixel_error"]
    assert better.value == pytest.approx(score(truth, predictions)["pixel_error"] - score(truth, worse)["pixel_error"])
    assert better.interval[0] < better.value < better.interval[1] < 0
    assert better.lower_is_better
    assert better.higher < 0.01
    text = describe_differences({"pixel_error": better})
    assert f"pixel_error {better.value:+.1f} (" in text
    assert text.endswith("px, lower is better")


def test_errors_are_shown_in_pixels_and_fractions_in_percent() -> None:
    assert [name for name in ("pixel_error", "pixel_error_p90", "AP", "near") if is_error(name)] == [
        "pixel_error",
        "pixel_error_p90",
    ]
    assert (value_text("pixel_error", 7.26), value_text("AP", 0.7), value_text("AP", None)) == ("7.3", "70.0", "–")
    assert (column_title("pixel_error"), axis_title("AP")) == ("pixel_error (px)", "AP × 100")
    assert (in_words("pixel_error"), axis_title("pixel_error")) == ("pixel error", "pixel error (px)")
