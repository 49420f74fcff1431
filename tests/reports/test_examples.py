"""Example images: which persons they show, and what they show of them."""

import pytest

from semipose.config import load_config
from semipose.data.datasets import load_splits, read_dataset
from semipose.reports.examples import errors_by_person, heatmap_examples, pose_examples, view_examples
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.structures.skeletons import infer_skeleton


@pytest.fixture(scope="module")
def truth():
    return read_dataset("people", None, "val").subset(range(6))


def test_errors_are_sorted(truth):
    predictions = ground_truth_as_predictions(truth)
    predictions[2].joints[:] += 50
    errors = errors_by_person(truth, predictions)
    assert errors[0][1] == 2
    assert [error for error, _ in errors[1:]] == [0] * (len(errors) - 1)


def test_pose_examples_show_the_largest_and_smallest_errors(truth):
    predictions = ground_truth_as_predictions(truth)
    for index, prediction in enumerate(predictions):
        prediction.joints[:] += 10 * index
    order = errors_by_person(truth, predictions)
    titles = [picture.title for picture in pose_examples(truth, predictions, each=1).pictures]
    expected = [order[0], order[len(order) // 2], order[-1]]
    assert titles == [f"person {truth[i].annotation_id}: error {error:.2f} torso" for error, i in expected]


def test_errors_are_in_pixels_where_no_person_has_a_torso(truth):
    face = truth.to_skeleton(infer_skeleton(["nose", "left_eye", "right_eye"]))
    face = face.subset(range(len(face))).trainable()
    predictions = ground_truth_as_predictions(face)
    for index, prediction in enumerate(predictions):
        prediction.joints[:] += (3 * index, 4 * index)
    order = errors_by_person(face, predictions)
    assert [error for error, _ in order] == pytest.approx([5 * n for n in reversed(range(len(face)))])
    titles = [picture.title for picture in pose_examples(face, predictions, each=1).pictures]
    assert titles[-1] == f"person {face[0].annotation_id}: error 0.0 px"


def test_persons_without_prediction_are_left_out(truth):
    assert pose_examples(truth, [None] * len(truth)).pictures == []


def test_heatmap_examples_show_every_network(finished_run, truth):
    titles = [picture.title for picture in heatmap_examples(finished_run, truth, count=2).pictures]
    assert titles.count("G, level z") == titles.count("F, level p") == 2


@pytest.mark.parametrize(
    ("method", "titles"),
    [
        ("supervised", set()),
        ("single", {"easy", "hard"}),
        ("multi_augs", {"easy", "hard 1", "hard 2", "hard 3", "hard 4"}),
    ],
)
def test_view_examples_show_every_hard_view(tiny_run, method, titles):
    config = load_config(None, {**tiny_run, "data.labels": 30, "method": method})
    examples = view_examples(config, load_splits(config.data), count=2)
    assert {picture.title for picture in examples.pictures} == titles
