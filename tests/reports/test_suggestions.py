"""Suggestions: each is made where its reason holds, and only there."""

import ast
import inspect
from dataclasses import replace

import numpy as np
import pytest

import semipose
from semipose.config import load_config
from semipose.data.datasets import load_splits, read_dataset
from semipose.metrics.gain import Gain
from semipose.metrics.matching import match_dataset
from semipose.reports.suggestions import Findings, pose_length, python_call, suggestions, swapped_pairs
from semipose.structures.boxes import BoxFacts
from semipose.structures.predictions import ground_truth_as_predictions


@pytest.fixture(scope="module")
def found():
    """Forty persons whose joints are 30 pixels off, after a training that has converged."""
    config = load_config(None, {"data.train": "people", "data.labels": 30, "data.validation": 8})
    truth = read_dataset("people", None, "val").subset(range(40))
    predictions = ground_truth_as_predictions(truth)
    for prediction in predictions:
        prediction.joints[:] += (18, 24)
    steps = [(100 * n, 30.0) for n in range(1, 10)]
    gain = Gain("PCK@0.2", 0.02, (0.01, 0.03), 40, "test")
    return Findings("run", config, load_splits(config.data), match_dataset(truth, predictions), steps, gain)


def moved(found, **changes):
    """The findings with other predictions: `joint=(k, distance)` or `swap=pairs`."""
    predictions = [replace(p, joints=p.joints.copy()) for p in found.data.predictions]
    for prediction in predictions:
        for k, distance in changes.values():
            prediction.joints[k] += distance
    return replace(found, data=match_dataset(found.data.truth, predictions))


def has(found, text):
    return sum(text in suggestion for suggestion in suggestions(found))


def test_without_a_reason_only_more_labels_are_suggested(found):
    (text,) = suggestions(found)
    assert "4 of 40 poses have 10% of all error" in text
    assert """`semipose.suggest('run', "VIDEO", count=20, out="to_label")`""" in text


def test_the_suggested_call_has_boxes_where_the_training_had(found):
    for kind, with_boxes in (("joints", True), ("given", True), ("found", False), ("whole", False)):
        boxed = replace(found, boxes=BoxFacts(kind, 0.3, 0.2, 0.4))
        (text,) = suggestions(boxed, lambda folder, with_boxes: f"call of {folder}, {with_boxes}")
        assert f"`call of run, {with_boxes}`" in text
    for with_boxes in (False, True):  # the parameters exist
        call = ast.parse(python_call("my runs/mice", with_boxes), mode="eval").body
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        inspect.signature(semipose.suggest).bind(*map(ast.literal_eval, call.args), **named)


def test_a_joint_that_is_worse_than_the_others_is_named(found):
    worse = moved(found, joint=(9, (100, 0)))
    name = found.data.truth.skeleton.joints[9]
    labels = int((found.splits.labeled.instances.visibility[:, 9] > 0).sum())
    text = next(t for t in suggestions(worse) if t.startswith(f"Look at {name}: "))
    assert "the other joints 30.0 px" in text
    assert f"{labels} of 30 labeled poses have it" in text


def test_errors_below_a_cell_ask_for_a_larger_input(found):
    exact = replace(found, data=match_dataset(found.data.truth, ground_truth_as_predictions(found.data.truth)))
    size = found.config.input
    assert has(exact, f"input.height={2 * size.height} input.width={2 * size.width}") == 1


def test_small_poses_ask_for_boxes(found):
    truth = read_dataset("people", None, "val").subset(range(40))
    truth.instances.boxes[:] = (0, 0, 900, 900)
    small = replace(found, data=match_dataset(truth, list(found.data.predictions)))
    assert has(small, "The network sees the pose small") == 1


def test_exchanged_sides(found):
    truth = found.data.truth
    predictions = ground_truth_as_predictions(truth)
    for prediction in predictions[:20]:
        prediction.joints[:] = prediction.joints[list(truth.skeleton.flip_order)]
    data = match_dataset(truth, predictions)
    swapped = total = 0
    for index in range(40):
        for a, b in truth.skeleton.flip_pairs:
            if truth[index].visibility[a] and truth[index].visibility[b]:
                total += 1
                swapped += index < 20 and bool((truth[index].joints[a] != truth[index].joints[b]).any())
    assert swapped_pairs(data) == (swapped, total)
    assert has(replace(found, data=data), f"Left and right are exchanged in {swapped} of {total} pairs") == 1
    assert swapped_pairs(match_dataset(truth, ground_truth_as_predictions(truth))) == (0, total)


@pytest.mark.parametrize(
    ("errors", "longer"),
    [([50, 40, 30, 25, 22, 21, 20, 18, 15], 1), ([50, 40, 30, 20, 20, 20, 20, 20, 20], 0), ([20], 0), ([], 0)],
)
def test_a_training_that_still_improves_is_continued(found, errors, longer):
    steps = [(100 * n, float(error)) for n, error in enumerate(errors, start=1)]
    assert has(replace(found, validation=steps), "`train.steps=1800`") == longer


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (Gain("pixel_error", 3.0, (0.5, 5.9), 40, "test"), "made the network worse"),
        (Gain("pixel_error", -1.0, (-2.0, 0.5), 40, "test"), "is not certain"),
        (Gain("pixel_error", -1.0, (-2.0, -0.5), 40, "test"), ""),
    ],
)
def test_the_gain_from_unlabeled_images(found, gain, text):
    texts = suggestions(replace(found, gain=gain))
    assert len(texts) == 1 + bool(text)
    assert text in texts[-1]


def test_a_run_without_unlabeled_images(found):
    without = replace(found, gain=None, splits=replace(found.splits, unlabeled=None))
    assert has(without, "Give unlabeled images") == 1
    assert has(replace(found, gain=None), "Give unlabeled images") == 0


def test_few_images(found):
    truth = found.data.truth.subset(range(12))
    few = replace(found, data=match_dataset(truth, list(found.data.predictions[:12])))
    assert has(few, "12 images are few to measure with") == 1


def test_without_predictions_nothing_is_suggested(found):
    assert suggestions(replace(found, data=match_dataset(found.data.truth, []))) == []


def test_the_length_of_a_pose(found):
    lengths = []
    for person in found.data.truth.instances:
        points = [point for point, v in zip(person.joints, person.visibility, strict=True) if v > 0]
        xs, ys = zip(*points, strict=True)
        lengths.append(((max(xs) - min(xs)) ** 2 + (max(ys) - min(ys)) ** 2) ** 0.5)
    assert pose_length(found.data.truth) == pytest.approx(np.median(lengths), rel=1e-6)
    empty = read_dataset("people", None, "val").subset([0])
    empty.instances.visibility[:] = 0
    assert np.isnan(pose_length(empty))
