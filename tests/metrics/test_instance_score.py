"""Instance score and OKS-NMS against slow loops, and AP after them against pycocotools, on crowds and on coco-mini."""

import contextlib
import io
import json
import math
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import semipose
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import load_predictions, save_predictions
from semipose.data.formats.coco_writer import write_coco
from semipose.metrics.bootstrap import intervals
from semipose.metrics.instance_score import instance_scores, oks_nms, rescore
from semipose.metrics.matching import match_dataset
from semipose.metrics.scores import score
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import COCO as COCO_SKELETON

ROOT = Path(os.environ.get("SEMIPOSE_DATA", "missing"))
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], np.float64) / 1000
COLUMNS = {"AP": 0, "AP50": 1, "AP75": 2, "AR": 5}

Record = dict[str, Any]


def slow_rescoring(records: list[Record]) -> list[Record]:
    """The field's instance score, joint by joint."""
    found = []
    for record in records:
        total, number = 0.0, 0
        for peak in record["keypoints"][2::3]:
            if peak > 0.2:
                total, number = total + peak, number + 1
        mean = total / number if number else 0.0
        found.append({**record, "score": mean * record.get("box_score", 1.0)})
    return found


def slow_oks(a: Record, b: Record) -> float:
    """The OKS of two predictions over all joints; the scale is the mean area of their crops."""
    scale, similar = (slow_area(a) + slow_area(b)) / 2 + np.spacing(1), 0.0
    for k in range(17):
        dx, dy = (a["keypoints"][3 * k + axis] - b["keypoints"][3 * k + axis] for axis in (0, 1))
        similar += math.exp(-(dx * dx + dy * dy) / (2 * SIGMAS[k]) ** 2 / scale / 2)
    return similar / 17


def slow_area(record: Record) -> float:
    return float(record.get("crop_area") or record["bbox"][2] * record["bbox"][3])


def slow_nms(records: list[Record]) -> list[Record]:
    """Greedy suppression in each image, of equal scores the earlier one first; the order of the file is kept."""
    images: dict[int, list[int]] = defaultdict(list)
    for n, record in enumerate(records):
        images[record["image_id"]].append(n)
    kept: list[int] = []
    for members in images.values():
        left = sorted(members, key=lambda n: -records[n]["score"])
        while left:
            best = left.pop(0)
            kept.append(best)
            left = [n for n in left if slow_oks(records[best], records[n]) <= 0.9]
    return [records[n] for n in sorted(kept)]


def oracle(annotations: Path, records: list[Record]) -> dict[str, float]:
    """The values of pycocotools after the field's rescoring and OKS-NMS of a predictions file."""
    kept = slow_nms(slow_rescoring(records))
    results = [{key: r[key] for key in ("image_id", "keypoints", "score")} | {"category_id": 1} for r in kept]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[column]) for name, column in COLUMNS.items()}


def assert_as_by_the_oracle(annotations: Path, predictions: Path) -> None:
    theirs = oracle(annotations, json.loads(predictions.read_text()))
    ours = semipose.evaluate(predictions, annotations, instance_score="rescored").scores
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


def crowd(rng: np.random.Generator, images: int) -> PoseDataset:
    """Many persons on top of each other in every image, of all sizes; some of them crowds or without labels."""
    persons = []
    for image in range(1, images + 1):
        center = rng.uniform(60, 120, 2)
        for _ in range(rng.integers(1, 12)):
            size = float(rng.choice([25, 60, 150]))
            corner = center + rng.normal(0, 8, 2)
            visibility = rng.choice([0, 1, 2], 17, p=[0.2, 0.2, 0.6]) * int(rng.random() > 0.1)
            joints = np.where(visibility[:, None] > 0, np.round(corner + rng.uniform(0, size, (17, 2)), 1), 0.0)
            persons.append(
                Instance(
                    image=Path(f"{image}.jpg"),
                    image_id=image,
                    annotation_id=len(persons) + 1,
                    box=(float(corner[0]), float(corner[1]), size, size),
                    joints=joints,
                    visibility=visibility,
                    area=size * size * 0.5,
                    is_crowd=bool(rng.random() < 0.05),
                )
            )
    return PoseDataset(COCO_SKELETON, tuple(persons), "a made-up crowd")


def write_crowd(truth: PoseDataset, folder: Path) -> None:
    """Writes crowd.json and its images, which are empty."""
    for path in truth.image_paths.values():
        cv2.imwrite(str(folder / path), np.zeros((200, 200, 3), np.uint8))
    placed = [replace(p, image=folder / p.image) for p in truth.instances]
    write_coco(PoseDataset(truth.skeleton, placed, truth.source), folder / "crowd.json")


def found_in(truth: PoseDataset, rng: np.random.Generator) -> list[Prediction]:
    """Good, bad and doubled predictions, exact copies, equal scores, and persons without a peak above .2."""
    found = []
    for p in truth.instances:
        assert p.joints is not None
        pose = np.where(p.visibility[:, None] > 0, p.joints, rng.uniform(0, 200, (17, 2)))
        for _ in range(rng.integers(1, 4)):
            joints = pose + rng.normal(0, rng.choice([0.0, 0.01, 0.03, 0.1]) * p.box[2], (17, 2))
            peaks = np.round(rng.uniform(0, 1, 17) * rng.choice([0.15, 1.0], p=[0.15, 0.85]), int(rng.choice([1, 3])))
            box_score = float(rng.choice([0.5, 0.9, 1.0]))
            area = float(rng.choice([1.0, 2.5])) * p.box[2] * p.box[3]
            found.append(Prediction(p.image_id, None, joints, peaks, 7.0, p.box, 1, box_score, area))
    copies = rng.choice(len(found), len(found) // 4)
    return [found[n] for n in rng.permutation([*range(len(found)), *copies.tolist()])]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ap_of_crowds_is_that_of_pycocotools_after_rescoring_and_nms(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder, rng = tmp_path_factory.mktemp("crowd"), np.random.default_rng(seed)
    truth = crowd(rng, images=6)
    if not any(p.labeled and not p.is_crowd for p in truth.instances):
        return
    write_crowd(truth, folder)
    save_predictions(found_in(truth, rng), folder / "predictions.json")
    assert_as_by_the_oracle(folder / "crowd.json", folder / "predictions.json")


@pytest.mark.skipif(not ROOT.is_dir(), reason="SEMIPOSE_DATA does not name the data folder")
@pytest.mark.parametrize("doubled", [False, True])
def test_ap_on_coco_mini_is_that_of_pycocotools_after_rescoring_and_nms(tmp_path: Path, doubled: bool) -> None:
    annotations, rng = ROOT / "coco-mini" / "val.json", np.random.default_rng(4)
    truth, predictions = read_coco(annotations), []
    for n, p in enumerate(ground_truth_as_predictions(truth)):
        for _ in range(1 + doubled):
            joints = p.joints + rng.normal(0, 0.01 * (n % 7) * p.box[3], p.joints.shape)
            peaks = rng.uniform(0, 1, 17) * (0.15 if n % 9 == 0 else 1)
            predictions.append(replace(p, annotation_id=None, joints=joints, scores=peaks, crop_area=2 * p.box[3] ** 2))
    save_predictions(predictions, tmp_path / "predictions.json")
    assert len(slow_nms(slow_rescoring(json.loads((tmp_path / "predictions.json").read_text())))) > 0
    assert_as_by_the_oracle(annotations, tmp_path / "predictions.json")


def test_predictions_keep_the_scores_of_their_file_unless_told_otherwise(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = crowd(rng, images=6)
    found = [replace(p, score=float(n % 5)) for n, p in enumerate(found_in(truth, rng))]
    write_crowd(truth, tmp_path)
    save_predictions(found, tmp_path / "found.json")
    own = semipose.evaluate(tmp_path / "found.json", tmp_path / "crowd.json")
    assert own.scores["AP"] == score(truth, found)["AP"]
    assert "instance score: that of the file" in own.protocol.describe()
    for kind in ("rescored", "mean"):
        other = semipose.evaluate(tmp_path / "found.json", tmp_path / "crowd.json", instance_score=kind)
        assert other.scores["AP"] == score(truth, found, kind)["AP"] != own.scores["AP"]
    assert "instance score: mean peak of all joints × box score" in other.protocol.describe()


def test_the_instance_score_is_the_mean_of_the_peaks_above_a_fifth() -> None:
    peaks = np.array([[0.1, 0.2, 0.4, 0.8], [0.2, 0.1, 0.0, -0.1], [0.9, 0.9, 0.9, 0.9]])
    boxes = np.array([1.0, 1.0, 0.5])
    np.testing.assert_allclose(instance_scores(peaks, boxes, "rescored"), [0.6, 0.0, 0.45])
    np.testing.assert_allclose(instance_scores(peaks, boxes, "mean"), [0.375, 0.05, 0.45])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_scores_and_suppression_are_those_of_the_slow_loops(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    predictions = found_in(crowd(rng, images=3), rng)
    path = tmp_path_factory.mktemp("loops") / "predictions.json"
    save_predictions(predictions, path)
    records = slow_rescoring(json.loads(path.read_text()))
    rescored = rescore(load_predictions(path, COCO_SKELETON), "rescored")
    np.testing.assert_allclose([p.score for p in rescored], [r["score"] for r in records], rtol=1e-12)
    exact = [replace(p, score=r["score"]) for p, r in zip(rescored, records, strict=True)]
    kept = oks_nms(exact, COCO_SKELETON.sigmas)
    assert [p.joints[0, 0] for p in kept] == [r["keypoints"][0] for r in slow_nms(records)]


def test_duplicates_lower_ap_alone_and_are_counted() -> None:
    """A person whose prediction is suppressed keeps it in PCK and the pixel error."""
    rng = np.random.default_rng(0)
    truth = crowd(rng, images=12)
    one = truth.subset([n for n, p in enumerate(truth.instances) if p.labeled and not p.is_crowd])
    own = [replace(p, scores=np.full(17, 0.5)) for p in ground_truth_as_predictions(one)]
    copies = [
        replace(p, joints=own[0].joints, image_id=own[0].image_id, annotation_id=own[1].annotation_id) for p in own[1:2]
    ]
    predictions = [own[0], *copies, *own[2:]]
    plain, suppressed = score(one, predictions, "mean"), score(one, predictions, "rescored")
    assert suppressed.counts["suppressed"] == 1
    assert plain.counts["suppressed"] == 0
    assert suppressed["AP"] != plain["AP"]
    assert suppressed["PCK@0.2"] == plain["PCK@0.2"]
    assert suppressed["pixel_error"] == plain["pixel_error"]
    assert suppressed.counts["no_prediction"] == plain.counts["no_prediction"] == 0
    assert "AP: OKS-NMS leaves out 1 prediction as duplicates" in suppressed.notes
    assert intervals(one, predictions, "rescored")["AP"] != intervals(one, predictions, "mean")["AP"]
    assert intervals(one, predictions, "rescored")["PCK@0.2"] == intervals(one, predictions, "mean")["PCK@0.2"]


def test_joints_without_a_peak_anywhere_do_not_count() -> None:
    """As after a training that has no labels of them; the others decide on the score and on duplicates."""
    joints, known = np.zeros((17, 2)), np.arange(17) < 5
    first = Prediction(1, None, joints, 0.6 * known, 0.0, (0, 0, 50, 50))
    far = np.where(known[:, None], joints, 400.0)
    second = replace(first, joints=far, scores=0.3 * known)
    rescored, mean = rescore([first, second], "rescored"), rescore([first, second], "mean")
    assert [p.score for p in mean] == pytest.approx([0.6, 0.3])
    assert oks_nms(rescored, COCO_SKELETON.sigmas) == rescored[:1]


def test_nothing_to_suppress() -> None:
    assert rescore([], "rescored") == oks_nms([], COCO_SKELETON.sigmas) == []
    truth = crowd(np.random.default_rng(0), 1)
    assert match_dataset(truth, [], "rescored").suppressed == 0
    blank = Prediction(1, None, np.zeros((17, 2)), np.zeros(17), 1.0, (0, 0, 9, 9))
    (kept,) = oks_nms(rescore([blank, blank], "rescored"), COCO_SKELETON.sigmas)
    assert kept.score == 0
