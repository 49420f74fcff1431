"""semipose predict."""

import json
import shutil

import cv2
import numpy as np

from semipose.data.datasets import PEOPLE
from tests.cli.conftest import one_line


def test_files_written(cli, trained, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("b.jpg", "a.png")):
        cv2.imwrite(str(folder / name), np.full((50 + 30 * number, 80, 3), 40 * number, np.uint8))
    code, out, err = cli("predict", trained, folder, "--out", tmp_path / "found", "--draw", "--network", "G")
    assert code == 0, err
    assert out.split() == [str(tmp_path / "found" / n) for n in ("predictions.json", "a_pose.jpg", "b_pose.jpg")]
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [len(prediction["keypoints"]) for prediction in found] == [51, 51]


def test_annotated_boxes_of_a_coco_file(cli, trained, test_set, tmp_path):
    code, _, err = cli("predict", trained, *test_set[1:], "--out", tmp_path / "found", "--flip-test")
    assert code == 0, err
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())) == 60


def test_options_without_effect_are_refused(cli, trained, tmp_path):
    photos = PEOPLE / "images"
    one_line(cli("predict", trained, photos, "--images", photos), "--images")
    one_line(cli("predict", trained, photos, "--min-score", 0.5), "--min-score")
    one_line(cli("predict", trained, photos, "--network", "H"), "F, G, R1, R2, ensemble")
    one_line(cli("predict", tmp_path / "gone", photos, "--network", "G"), "gone")


def test_no_input_is_replaced(cli, trained, test_set, tmp_path):
    boxes = tmp_path / "predictions.json"
    boxes.write_text("[]")
    one_line(cli("predict", trained, *test_set[1:], "--boxes", boxes, "--out", tmp_path), "--out")
    photos = tmp_path / "photos"
    shutil.copytree(PEOPLE / "images", photos, ignore=lambda _, names: sorted(names)[1:])
    one_line(cli("predict", trained, photos, "--draw", "--out", photos / "below"), "--out")
    (tmp_path / "file").touch()
    one_line(cli("predict", trained, photos, "--out", tmp_path / "file"), "--out")
