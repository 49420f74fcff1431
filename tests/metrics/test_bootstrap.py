"""Bootstrap intervals: the values of a resample are those of a set in which images occur that often."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semipose.metrics.bootstrap import differences, intervals, outcomes
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks import image_numbers, oks_scores
from semipose.metrics.pck import pck_torso, pckh
from semipose.metrics.pixel_error import pixel_errors
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import COCO, LSP, Skeleton
from tests.metrics.test_oks import crowd_scene, noisy, scattered

ERRORS = {"pixel_error": np.mean, "pixel_error_median": np.median, "pixel_error_rmse": lambda x: (x**2).mean() ** 0.5,
          "pixel_error_p90": lambda x: np.percentile(x, 90)}  # fmt: skip
NAMES = ("AP", "PCK@0.2", "PCKh@0.5", *ERRORS)


def measured(truth: PoseDataset, predictions: list[Prediction]) -> dict[str, float | None]:
    """The values from the metrics themselves."""
    data = match_dataset(truth, predictions)
    distances = pixel_errors(data)
    known = distances[~np.isnan(distances)]
    errors = {name: float(statistic(known)) if len(known) else None for name, statistic in ERRORS.items()}
    scores = oks_scores(truth, predictions)["AP"], pck_torso(data).total, pckh(data).total
    return dict(zip(NAMES, scores, strict=False)) | errors


def resampled(truth: PoseDataset, predictions: list[Prediction], counts: np.ndarray | None = None) -> dict[str, float]:
    """The values with each image counted `counts` times, or once."""
    found = outcomes(match_dataset(truth, predictions))
    counts = np.ones(len(image_numbers(truth, predictions)), int) if counts is None else counts
    return {name: own.value(counts) for name, own in found.items()}


def same(ours: dict[str, float], theirs: dict[str, float | None]) -> None:
    for name in NAMES:
        assert ours[name] == pytest.approx(np.nan if theirs[name] is None else theirs[name], abs=1e-9, nan_ok=True), (
            name
        )


def repeated(
    truth: PoseDataset, predictions: list[Prediction], counts: dict[int | str, int]
) -> tuple[PoseDataset, list[Prediction]]:
    """Every image as often as in `counts`, each copy an image of its own."""
    persons, found = [], []
    for image, count in counts.items():
        for copy in range(count):
            name = int(image) * 1000 + copy
            persons += [_at(p, name, len(persons) + n) for n, p in enumerate(truth.instances) if p.image_id == image]
            found += [
                Prediction(name, None, p.joints, p.scores, p.score, p.box) for p in predictions if p.image_id == image
            ]
    return PoseDataset(truth.skeleton, persons, "repeated"), found


def _at(p: Instance, image: int, number: int) -> Instance:
    return Instance(p.image, image, number, p.box, p.joints, p.visibility, p.area, 1.0, p.is_crowd, p.head_size)


@pytest.mark.parametrize("skeleton", [COCO, LSP], ids=lambda s: s.name)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 5), extra=st.integers(0, 40))
def test_values_of_the_set_and_of_resamples(skeleton: Skeleton, seed: int, most: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    truth = crowd_scene(rng, skeleton, images=6, most=most)
    if not any(p.labeled and not p.is_crowd for p in truth.instances):
        return
    heads = [_at(p, p.image_id, n) for n, p in enumerate(truth.instances)]
    heads = [Instance(*[getattr(p, f) for f in _FIELDS], head_size=float(rng.uniform(5, 30))) for p in heads]
    truth = PoseDataset(skeleton, heads, "with heads")
    predictions = scattered(truth, rng, extra)
    if not predictions:
        return
    same(resampled(truth, predictions), measured(truth, predictions))
    # Scores that differ: among equal ones copies of an image would stand in another order.
    order = rng.permutation(len(predictions))
    distinct = [
        Prediction(p.image_id, None, p.joints, p.scores, float(n), p.box)
        for n, p in zip(order, predictions, strict=True)
    ]
    numbers = image_numbers(truth, distinct)
    counts = {image: int(c) for image, c in zip(numbers, rng.integers(0, 4, len(numbers)), strict=True)}
    chosen, found = repeated(truth, distinct, counts)
    if any(p.labeled and not p.is_crowd for p in chosen.instances) and found:
        ours = resampled(truth, distinct, np.array(list(counts.values())))
        same(ours, measured(chosen, found))


_FIELDS = ("image", "image_id", "annotation_id", "box", "joints", "visibility", "area", "score", "is_crowd")


def test_embedded_people(people_set: PoseDataset) -> None:
    predictions = noisy(people_set, np.random.default_rng(0), 1.5)
    same(resampled(people_set, predictions), measured(people_set, predictions))
    around = intervals(people_set, predictions)
    for name, value in measured(people_set, predictions).items():
        if value is None:
            assert around[name] is None
        else:
            low, high = around[name]
            most = 0.15 * value if name in ERRORS else 0.1
            assert 0.005 < value - low < most
            assert 0.005 < high - value < most


@pytest.fixture(scope="module")
def people_set() -> PoseDataset:
    from semipose.data.datasets import read_dataset

    return read_dataset("people", None, "val")


def grid_of_torsos(correct: np.ndarray) -> tuple[PoseDataset, list[Prediction]]:
    """One person an image, all joints right or all wrong."""
    joints = np.random.default_rng(0).uniform(0, 100, (len(LSP), 2))
    persons = [
        Instance(Path(f"{n}.jpg"), n, n, (0, 0, 100, 100), joints, np.full(len(LSP), 2), area=5000.0)
        for n in range(len(correct))
    ]
    truth = PoseDataset(LSP, persons, "torsos")
    moved = [joints + (0 if right else 300) for right in correct]
    return truth, [Prediction(n, n, m, np.ones(len(LSP)), 1.0, (0, 0, 100, 100)) for n, m in enumerate(moved)]


def test_an_interval_is_that_of_a_share() -> None:
    """Persons right with probability .7: the normal approximation, p ± 1.96 √(p q / n)."""
    rng = np.random.default_rng(1)
    truth, predictions = grid_of_torsos(rng.random(400) < 0.7)
    share = measured(truth, predictions)["PCK@0.2"]
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    low, high = intervals(truth, predictions)["PCK@0.2"]
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.008)
    assert intervals(truth, predictions) == intervals(truth, predictions)  # the same draws every time
    assert intervals(truth, predictions)["PCKh@0.5"] is None


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(300) < 0.5
    truth, ours = grid_of_torsos(right | (rng.random(300) < 0.08))
    _, theirs = grid_of_torsos(right)
    gained = differences(match_dataset(truth, ours), match_dataset(truth, theirs))["PCK@0.2"]
    assert gained.value == pytest.approx(measured(truth, ours)["PCK@0.2"] - measured(truth, theirs)["PCK@0.2"])
    low, high = intervals(truth, ours)["PCK@0.2"]
    assert 0 < gained.interval[0] < gained.value < gained.interval[1]
    assert gained.interval[1] - gained.interval[0] < 0.6 * (high - low)
    assert gained.higher > 0.99
    alike = differences(match_dataset(truth, ours), match_dataset(truth, ours))["PCK@0.2"]
    assert (alike.value, alike.interval, alike.higher) == (0, (0, 0), 0.5)
    other_way = differences(match_dataset(truth, theirs), match_dataset(truth, ours))["PCK@0.2"]
    assert other_way.interval == pytest.approx((-gained.interval[1], -gained.interval[0]))


def test_sets_without_intervals() -> None:
    truth, predictions = grid_of_torsos(np.array([True, False] * 4))
    assert intervals(truth, predictions) == dict.fromkeys(NAMES)
    data = match_dataset(truth, predictions)
    assert differences(data, data) == dict.fromkeys(NAMES)
    truth, predictions = grid_of_torsos(np.ones(20, bool))
    flat = PoseDataset(
        LSP,
        [Instance(p.image, p.image_id, p.annotation_id, p.box, p.joints, p.visibility) for p in truth.instances],
        "flat",
    )
    assert intervals(flat, predictions)["AP"] is None
    assert intervals(flat, predictions)["PCK@0.2"] == (1, 1)
    assert intervals(truth, ground_truth_as_predictions(truth))["AP"] == pytest.approx((1, 1))


def test_images_without_labels_do_not_count_as_enough() -> None:
    truth, predictions = grid_of_torsos(np.array([True, False] * 10))
    unlabeled = [replace(p, visibility=np.zeros_like(p.visibility)) for p in list(truth.instances)[9:]]
    few = PoseDataset(LSP, [*list(truth.instances)[:9], *unlabeled], "few")
    assert intervals(few, predictions) == dict.fromkeys(NAMES)
