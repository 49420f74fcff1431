"""Real images in the folder $SEMIPOSE_DATA; skipped where it is not set."""

import json
import os
from pathlib import Path

import pytest

import semipose
from semipose.config import load_config
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import save_predictions
from semipose.structures.predictions import ground_truth_as_predictions

ROOT = Path(os.environ.get("SEMIPOSE_DATA", "missing"))
TINY = {
    "input.height": 64,
    "input.width": 64,
    "model.backbone": "test_resnet",
    "model.weights": "none",
    "model.head_channels": 8,
    "train.steps": 3,
    "train.batch": 4,
    "train.unlabeled_batch": 4,
    "train.device": "cpu",
}

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="SEMIPOSE_DATA does not name the data folder")


@pytest.mark.parametrize("name", ["coco-mini", "lspet"])
def test_ground_truth_scores_one(name, tmp_path):
    truth = read_coco(ROOT / name / "val.json")
    path = tmp_path / "truth.json"
    save_predictions(ground_truth_as_predictions(truth), path)
    found = semipose.evaluate(path, str(ROOT / name / "val.json")).scores.as_dict()
    assert found["AP"] == found["AR"] == found["PCK@0.2"] == 1.0


def test_trs_on_several_persons_per_image(tmp_path):
    train, val = str(ROOT / "coco-mini" / "train.json"), str(ROOT / "coco-mini" / "val.json")
    overrides = {"data.train": train, "data.val": val, "data.labels": 60, "method": "trs"}
    result = semipose.train(load_config(None, {**TINY, **overrides}), out=tmp_path / "run")
    assert set(result.scores) == {"G", "F", "R1", "R2", "mean", "ensemble"}
    assert json.loads((tmp_path / "run" / "split.json").read_text())["labeled"]


def test_predicting_a_street_video(tmp_path):
    train = str(ROOT / "coco-mini" / "train.json")
    config = load_config(None, {**TINY, "data.train": train, "method": "supervised"})
    semipose.train(config, out=tmp_path / "run")
    files = semipose.predict(
        tmp_path / "run", next((ROOT / "samples" / "video").glob("*.mp4")), out=tmp_path / "found", draw=True
    )
    sizes = {path.name: path.stat().st_size for path in files}
    assert all(size > (100 if name.endswith("_scores.json") else 1000) for name, size in sizes.items()), sizes


def test_unlabeled_folder_with_detections(tmp_path):
    annotated = read_coco(ROOT / "coco-mini" / "val.json")
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.4 + 0.5 * (i % 2)}
             for i, p in enumerate(annotated.instances)]  # fmt: skip
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    overrides = {
        "data.train": str(ROOT / "coco-mini" / "train.json"),
        "data.unlabeled": str(ROOT / "coco-mini" / "images"),
        "data.boxes": str(path),
        "data.include_labeled": False,
        "method": "single",
    }
    result = semipose.train(load_config(None, {**TINY, **overrides}), out=tmp_path / "run")
    assert result.scores


def test_a_project_of_deeplabcut_becomes_a_table(tmp_path):
    """From the lab's own folder to a csv with DeepLabCut's header, with the names of its joints."""
    project = ROOT / "lab" / "openfield"
    overrides = {"data.train": str(project / "config.yaml"), "data.unlabeled": str(project), "method": "mean_teacher"}
    result = semipose.train(load_config(None, {**TINY, **overrides}), out=tmp_path / "run")
    assert result.data["boxes_from_labels"] == 0
    (table,) = semipose.predict(tmp_path / "run", project / "labeled-data", out=tmp_path / "table.csv")
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[1][1::3] == ["snout", "leftear", "rightear", "tailbase"]
    assert len(rows) == 3 + 116
    assert rows[3][0] == "m4s1/img0000.png"
