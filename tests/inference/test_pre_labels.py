"""Pre-labels in the formats of labeling tools: each reads back with the joints that have a label."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from semipose.data.formats.deeplabcut import scorer_of
from semipose.data.formats.registry import read_annotations
from semipose.errors import ConfigError
from semipose.inference.pre_labels import FILES, check_format, target_of, write_pre_labels
from semipose.structures.categories import Category
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import infer_skeleton

SKELETON = infer_skeleton(["snout", "left_ear", "tail"])
LOW = 2
"""The joint whose score is too low."""


def copied(out: Path, format: str) -> tuple[list[Prediction], dict[int, Path]]:
    """Predictions in images of two videos, copied to where the format has them."""
    sources = ["day1_000012.jpg", "day1_000040.jpg", "day2_000003.jpg"]
    copies = {n: target_of(out, Path("frames") / name, Path(name), format) for n, name in enumerate(sources)}
    predictions = []
    for n, path in copies.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))
        joints = np.array([[10.5 + n, 20], [30, 40.25], [50, 5]])
        predictions.append(Prediction(n, None, joints, np.array([0.9, 0.5, 0.1]), 0.5, (0, 0, 80, 60)))
    return predictions, copies


def read_slp(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Names of images and joints; predictions, which the user confirms, and no labels."""
    frames = pytest.importorskip("sleap_io").load_slp(str(path), open_videos=False).labeled_frames
    assert not any(frame.user_instances for frame in frames)
    names = [Path(name).name for name in frames[0].video.filename]
    return names, [frame.predicted_instances[0].numpy() for frame in frames]


def read_labels(files: list[Path], format: str) -> tuple[list[str], list[np.ndarray]]:
    """Names of images and joints, of Label Studio after the predictions were accepted."""
    if format == "label-studio":
        tasks = json.loads(files[0].read_text())
        accepted = [{"id": n, "data": t["data"], "annotations": t["predictions"]} for n, t in enumerate(tasks)]
        files[0].write_text(json.dumps(accepted))
    tables = [path for path in files if path.suffix not in (".xml", ".h5") and not path.name.endswith("_labels.json")]
    persons = [p for path in tables for p in read_annotations(path).to_skeleton(SKELETON).instances]
    joints = [np.where((p.visibility > 0)[:, None], p.joints, np.nan) for p in persons]
    return [p.image.name for p in persons], joints


@pytest.mark.parametrize("format", ["coco", "cvat", "label-studio", "dlc", "slp", "yolo"])
def test_pre_labels_read_back(tmp_path, format):
    predictions, copies = copied(tmp_path, format)
    files = write_pre_labels(predictions, copies, SKELETON, Category(1, "mouse"), tmp_path, format, 0.2)
    assert all(path.is_file() for path in files)
    names, joints = read_slp(files[0]) if format == "slp" else read_labels(files, format)
    assert names == [path.name for path in copies.values()]
    for own, prediction in zip(joints, predictions, strict=True):
        expected = prediction.joints.copy()
        expected[LOW] = np.nan
        np.testing.assert_allclose(own, expected)
    others = {path for path in tmp_path.rglob("*.jpg") if path not in copies.values()}
    assert not others  # images are copied once


def test_deeplabcut_has_a_folder_for_each_video(tmp_path):
    out = tmp_path / "to_label"
    predictions, copies = copied(out, "dlc")
    files = write_pre_labels(predictions, copies, SKELETON, Category(1, "mouse"), out, "dlc", 0.2)
    assert [path.relative_to(out).as_posix() for path in files] == [
        "labeled-data/day1_to_label/CollectedData_semipose.csv",
        "labeled-data/day1_to_label/CollectedData_semipose.h5",
        "labeled-data/day2_to_label/CollectedData_semipose.csv",
        "labeled-data/day2_to_label/CollectedData_semipose.h5",
    ]
    read = pd.read_hdf(files[1])
    assert [*read.index] == [("labeled-data", "day1_to_label", f"day1_{n:06d}.jpg") for n in (12, 40)]
    rows = files[0].read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [
        "scorer",
        "bodyparts",
        "coords",
        "labeled-data/day1_to_label/day1_000012.jpg",
        "labeled-data/day1_to_label/day1_000040.jpg",
    ]
    photo = Path("photos/garden/a.png"), Path("garden/a.png")
    assert target_of(out, *photo, "dlc") == out / "labeled-data/garden_to_label/a.png"
    assert target_of(out, *photo, "coco") == out / "images/garden/a.png"


def test_the_folder_of_pre_labels_replaces_no_labels_of_a_project(tmp_path):
    """The steps of the guide, with pre-labels for a video that the project has labels of."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").write_text("scorer: Ana\nbodyparts: [snout, left_ear, tail]")
    for out in (tmp_path / "first", tmp_path / "second"):
        predictions, copies = copied(out, "dlc")
        write_pre_labels(predictions, copies, SKELETON, Category(1, "mouse"), out, "dlc", 0.2, scorer_of(project))
        shutil.copytree(out / "labeled-data", project / "labeled-data", dirs_exist_ok=True)
    assert len(read_annotations(project)) == 6
    assert {path.stem for path in project.rglob("*.csv")} == {"CollectedData_Ana"}
    assert scorer_of(next(project.rglob("*.h5"))) == "Ana"


def test_joints_outside_of_the_image_have_no_label(tmp_path):
    """Label Studio refuses positions below 0 and above 100 percent."""
    predictions, copies = copied(tmp_path, "label-studio")
    for joints, count in (([[-1, 5], [80, 5], [5, 60]], 0), ([[0, 0], [79.9, 59.9], [5, -0.1]], 2)):
        outside = [replace(p, joints=np.array(joints, float), scores=np.ones(3)) for p in predictions]
        files = write_pre_labels(outside, copies, SKELETON, Category(1, "mouse"), tmp_path, "label-studio", 0.2)
        results = [task["predictions"][0]["result"] for task in json.loads(files[0].read_text())]
        assert [len(result) - 1 for result in results] == [count] * 3


def test_joints_of_score_zero_never_have_a_label(tmp_path):
    predictions, copies = copied(tmp_path, "coco")
    zero = [replace(p, scores=np.zeros(3)) for p in predictions]
    (path,) = write_pre_labels(zero, copies, SKELETON, Category(1, "mouse"), tmp_path, "coco", 0.0)
    assert {r["num_keypoints"] for r in json.loads(path.read_text())["annotations"]} == {0}


def test_the_lowest_score_is_one_of_confidences(tmp_path):
    predictions, copies = copied(tmp_path, "coco")
    calibrated = [replace(p, calibrated=np.array([0.1, 0.3, 0.6])) for p in predictions]
    (path,) = write_pre_labels(calibrated, copies, SKELETON, Category(1, "mouse"), tmp_path, "coco", 0.2)
    records = json.loads(path.read_text())["annotations"]
    assert {tuple(r["keypoints"][2::3]) for r in records} == {(0, 2, 2)}


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="`format`: 'voc' is unknown; use coco, cvat, label-studio, dlc, slp, yolo"):
        check_format("voc")
    for format in FILES:
        check_format(format)
