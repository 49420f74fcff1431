"""Names, category and given properties of a set go through a whole training, its files and its evaluation."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import semipose
from semipose.config import load_config
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import save_predictions
from semipose.data.formats.coco_writer import write_coco
from semipose.errors import DataError
from semipose.inference.weights import read_description
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.structures.skeletons import COCO as COCO_SKELETON
from semipose.trainer import train
from tests.conftest import NO_TEST, TINY

IMAGES = PEOPLE / "images"
NAMES = [joint.title().replace("_", " ") for joint in COCO_SKELETON.joints]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training on horses (id 2) with joint names such as `Left Eye`."""
    folder = tmp_path_factory.mktemp("horses")
    write_coco(read_dataset("people", None).subset(range(60)), folder / "horses.json")
    content = json.loads((folder / "horses.json").read_text())
    (horse,) = content["categories"]
    horse |= {"id": 2, "name": "horse", "keypoints": NAMES}
    content["categories"] = [{"id": 1, "name": "rider"}, horse]
    for record in content["annotations"]:
        record["category_id"] = 2
    (folder / "horses.json").write_text(json.dumps(content))
    data = {"data.train": str(folder / "horses.json"), "data.images": str(IMAGES), "data.sigmas": {"Nose": 0.03}}
    options = {"method": "supervised", "data.labels": None, "train.select": "last"}
    train(load_config(None, {**TINY, **data, **NO_TEST, **options}), folder / "run")
    return folder / "run"


def test_names_sigmas_and_category_are_kept(run):
    found = read_description(run / "best.safetensors")
    assert list(found.skeleton.joints) == NAMES
    assert (found.skeleton.sigmas[0], found.skeleton.sigma_sources[0]) == (0.03, "given")
    assert (found.category.id, found.category.name) == (2, "horse")
    evaluation = semipose.evaluate(run, run.parent / "horses.json", images=IMAGES)
    assert set(evaluation.scores.by_joint["PCK@0.2"]) <= {*NAMES, "total"}
    assert "given for 1" in evaluation.protocol.describe()


def test_predictions_of_a_run_evaluate_equal_in_pycocotools(run):
    assert {record["category_id"] for record in json.loads((run / "predictions.json").read_text())} == {2}
    compare_with_pycocotools(run / "predictions.json", run.parent / "horses.json")


def test_predictions_near_the_labels_evaluate_equal_in_pycocotools(run, tmp_path):
    draw = np.random.default_rng(0)
    found = ground_truth_as_predictions(read_coco(run.parent / "horses.json", IMAGES))
    near = [replace(p, joints=p.joints + draw.normal(0, 2, p.joints.shape)) for p in found]
    save_predictions(near, tmp_path / "near.json")
    assert 0.1 < compare_with_pycocotools(tmp_path / "near.json", run.parent / "horses.json") < 0.99


def compare_with_pycocotools(predictions, data):
    """Asserts equal scores and returns AP."""
    found = semipose.evaluate(predictions, data, images=IMAGES)
    sigmas = read_coco(data, IMAGES).skeleton.sigmas
    if predictions.name == "predictions.json":
        sigmas = read_description(predictions.with_name("best.safetensors")).skeleton.sigmas
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data))
        oracle = COCOeval(truth, truth.loadRes(str(predictions)), "keypoints")
        oracle.params.kpt_oks_sigmas = np.array(sigmas)
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    for name, value in zip(("AP", "AP50", "AP75"), oracle.stats[:3], strict=True):
        assert found.scores[name] == pytest.approx(value)
    return found.scores["AP"]


def test_a_folder_is_predicted_and_pre_labeled_as_the_same_category(run, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted(IMAGES.iterdir())[:3]:
        (images / path.name).write_bytes(path.read_bytes())
    written = semipose.predict(run, images, out=tmp_path / "found")
    assert {record["category_id"] for record in json.loads(written[0].read_text())} == {2}
    Image.open(images / "00000.jpg").rotate(180).save(images / "new.jpg")
    labels, *_ = semipose.suggest(run, images, count=1, out=tmp_path / "next")
    content = json.loads(labels.read_text())
    assert [(c["id"], c["name"], c["keypoints"]) for c in content["categories"]] == [(2, "horse", NAMES)]
    assert {record["category_id"] for record in content["annotations"]} == {2}


def test_predictions_of_another_category_are_left_out(run, tmp_path, caplog):
    truth = read_coco(run.parent / "horses.json", IMAGES)
    found = ground_truth_as_predictions(truth)
    save_predictions([*found, *(replace(p, category_id=1) for p in found[:9])], tmp_path / "mixed.json")
    evaluation = semipose.evaluate(tmp_path / "mixed.json", run.parent / "horses.json", images=IMAGES)
    assert evaluation.scores["AP"] == 1
    assert f"9 of {len(found) + 9} predictions are not of category 2" in caplog.text
    save_predictions([replace(p, category_id=1) for p in found], tmp_path / "other.json")
    with pytest.raises(DataError, match="'horse', which is 2"):
        semipose.evaluate(tmp_path / "other.json", run.parent / "horses.json", images=IMAGES)
