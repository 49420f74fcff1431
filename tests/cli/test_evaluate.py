"""semipose evaluate."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from semipose.cli.evaluate import _print_evaluation
from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.inference.evaluation import Evaluation
from semipose.metrics.scores import EvaluationProtocol, score
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import ground_truth_as_predictions
from tests.cli.conftest import IMAGES, coco, one_line


def test_scores_as_json(cli, trained, test_set):
    code, out, err = cli("evaluate", trained, *test_set, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert 0 <= found["PCK@0.2"] <= 1
    assert found["PCKh@0.5"] is None
    assert "60 persons" in found["protocol"]
    low, high = found["intervals"]["PCK@0.2"]
    assert low <= found["PCK@0.2"] <= high


@pytest.mark.parametrize("network", ["G", "R2", "ensemble"])
def test_another_network_of_the_run_has_the_scores_of_the_training(cli, trained, test_set, network):
    known = json.loads((trained / "scores.json").read_text())["scores"][network]
    code, out, err = cli("evaluate", trained, *test_set, "--network", network, "--json")
    assert code == 0, err
    found = json.loads(out)
    error = known.pop("pixel_error")
    assert {key: found[key] for key in known} == pytest.approx(known, abs=0.002)  # rounding
    assert found["pixel_error"]["mean"] == pytest.approx(error, abs=0.01)
    assert network in found["protocol"]


def test_pixel_errors_are_printed_in_pixels(cli, trained, test_set):
    found = json.loads(cli("evaluate", trained, *test_set, "--json")[1])["pixel_error"]
    assert set(found) == {"mean", "median", "rmse", "p90", "by_joint"}
    assert len(found["by_joint"]) == 17
    code, out, err = cli("evaluate", trained, *test_set, "--against", trained / "predictions.json")
    assert code == 0, err
    assert "pixel_error (px) ┃" in out
    assert "in boxes around the labels" not in out
    assert f"pixel error: mean {found['mean']:.1f}, median {found['median']:.1f}, RMSE {found['rmse']:.1f}" in out
    assert f"pixel_error (px) by joint: nose {found['by_joint']['nose']:.1f}" in out
    assert "px, lower is better" in out


def test_two_runs_on_the_same_persons(cli, trained, test_set):
    weights = trained / "weights" / "F.safetensors"
    code, out, err = cli("evaluate", trained, *test_set, "--network", "G", "--against", weights, "--json")
    assert code == 0, err
    found = json.loads(out)
    gain = found["difference"]["PCK@0.2"]
    assert gain["value"] == pytest.approx(found["PCK@0.2"] - found["against"]["PCK@0.2"])
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    options = ["--network", "G", "--against", trained, "--against-network", "R2"]
    code, out, _ = cli("evaluate", trained, *test_set, *options)
    assert code == 0
    assert "│ 1. " in out
    assert "(R2)" in out
    assert "second: " in out
    code, out, _ = cli("evaluate", trained, *test_set, "--against", trained / "predictions.json")
    assert code == 0
    one_line(cli("evaluate", trained, *test_set, "--against-network", "G"), "--against-network")


def test_boxes_of_a_detector(cli, trained, test_set, tmp_path):
    persons = read_coco(test_set[1], PEOPLE / "images")
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9} for p in persons.instances]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    own = json.loads(cli("evaluate", trained, *test_set, "--json")[1])
    detected = json.loads(cli("evaluate", trained, *test_set, "--json", "--boxes", path)[1])
    assert detected["PCK@0.2"] == own["PCK@0.2"]
    assert "boxes.json" in detected["protocol"]


def test_the_instance_score_is_an_option(cli, trained, test_set):
    found = {
        kind: json.loads(
            cli("evaluate", trained / "predictions.json", *test_set, "--instance-score", kind, "--json")[1]
        )
        for kind in ("rescored", "mean")
    }
    assert "OKS-NMS at 0.9" in found["rescored"]["protocol"]
    assert "mean peak of all joints" in found["mean"]["protocol"]
    one_line(cli("evaluate", trained, *test_set, "--instance-score", "best"), "--instance-score")


def test_columns_of_mpii_are_printed_below_the_table(capsys):
    truth = read_coco(PEOPLE / "val.json").subset(range(4))
    measured = PoseDataset(truth.skeleton, [replace(p, head_size=15.0) for p in truth.instances], "heads")
    scores = score(measured, ground_truth_as_predictions(measured))
    protocol = EvaluationProtocol.of(measured, boxes="ground truth", flip_test=None, weights_selection="none")
    _print_evaluation(Evaluation("labels", scores, protocol))
    table, below = capsys.readouterr().out.split("└")
    assert "PCKh@0.5 ┃" in table
    assert "/" not in table
    assert "PCKh@0.5 by part: shoulder 100.0  elbow 100.0  wrist 100.0  hip 100.0" in below


def test_options_without_effect_are_refused(cli, trained):
    predictions = trained / "predictions.json"
    for option in (["--boxes", "boxes.json"], ["--flip-test"], ["--network", "G"]):
        one_line(cli("evaluate", predictions, "--data", "people", *option), option[0])
    one_line(cli("evaluate", trained, "--data", "people", *IMAGES), "has its own images")
    one_line(cli("evaluate", trained, "--data", "people", "--on-error", "drop"), "--on-error")


def test_a_model_of_other_joints(cli, trained, tmp_path):
    content = json.loads((PEOPLE / "val.json").read_text())
    content["categories"][0]["keypoints"] = [f"joint_{k}" for k in range(17)]
    path = coco(tmp_path / "other.json", categories=content["categories"])
    one_line(cli("evaluate", trained, "--data", path, *IMAGES), "its own skeleton")


def test_a_run_that_was_stopped_before_its_first_evaluation(cli, trained, test_set):
    (trained / "best.safetensors").unlink()
    one_line(cli("evaluate", trained, *test_set), "before its first evaluation")


def test_a_video_without_labels(cli, trained, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 96))
    for n in range(4):
        writer.write(np.full((96, 64, 3), 50 * n, np.uint8))
    writer.release()
    arguments = ["evaluate", trained, "--data", tmp_path / "clip.avi"]
    code, out, err = cli(*arguments, "--against", trained)
    assert code == 0, err
    first, second = out.splitlines()
    assert first == second
    assert "4 frames: joints that jump" in first
    code, out, _ = cli(*arguments, "--json")
    assert (code, json.loads(out)["frames"]) == (0, 4)
    one_line(cli(*arguments, "--images", tmp_path), "--images: ")
    one_line(cli(*arguments, "--on-error", "strict"), "--on-error: ")
