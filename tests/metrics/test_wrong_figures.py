"""Figures that would be wrong are refused or marked: other joints, orders and pairs, persons seen in training."""

import json
from pathlib import Path

import pytest

from semipose.api import evaluate
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.errors import ConfigError, WeightsError
from semipose.trainer import train

IMAGES = PEOPLE / "images"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on 60 embedded people, 24 labeled and 8 of them validating; folder and annotation file."""
    from semipose.config import load_config
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("wrong")
    write_coco(read_dataset("people", None).subset(range(60)), folder / "people.json")
    data = {
        "data.train": str(folder / "people.json"),
        "data.images": str(IMAGES),
        "method": "single",
        "train.steps": 60,
    }
    train(load_config(None, {**TINY, **data}), folder / "run")
    return folder / "run"


def others(tmp_path: Path, change=lambda content: None, count: int = 30) -> Path:
    """A file of people that the run has not seen, changed."""
    path = tmp_path / "others.json"
    write_coco(read_dataset("people", None).subset(range(100, 100 + count)), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def turn_round(content: dict) -> None:
    """The same joints from the last to the first."""
    content["categories"][0]["keypoints"].reverse()
    content["categories"][0]["skeleton"] = []
    for record in content["annotations"]:
        flat = record["keypoints"]
        record["keypoints"] = [v for k in reversed(range(17)) for v in flat[3 * k : 3 * k + 3]]


@pytest.mark.parametrize("flip_test", [False, True])
def test_joints_in_another_order_are_taken_by_name(run, tmp_path, flip_test):
    usual = evaluate(run, str(others(tmp_path)), images=str(IMAGES), flip_test=flip_test)
    turned = evaluate(run, str(others(tmp_path, turn_round)), images=str(IMAGES), flip_test=flip_test)
    assert turned.scores.as_dict() == usual.scores.as_dict()
    assert turned.scores.per_joint == usual.scores.per_joint
    assert usual.scores.pck > 0


def test_a_runs_predictions_are_scored_by_name_too(run, tmp_path):
    """The file names no joints; the run that it lies in does."""
    path = tmp_path / "turned.json"
    write_coco(read_dataset("people", None).subset(range(60)), path)
    usual = evaluate(run / "predictions.json", str(path), images=str(IMAGES))
    content = json.loads(path.read_text())
    turn_round(content)
    path.write_text(json.dumps(content))
    assert evaluate(run / "predictions.json", str(path), images=str(IMAGES)).scores.ap == usual.scores.ap


def test_other_joints_are_refused(run, tmp_path):
    def rename(content: dict) -> None:
        content["categories"][0]["keypoints"][0] = "hat"

    with pytest.raises(ConfigError, match=r"first difference: hat.*its own skeleton"):
        evaluate(run, str(others(tmp_path, rename)), images=str(IMAGES))


def test_a_set_with_fewer_joints_is_judged_on_those_it_has(run, tmp_path):
    """As with a network of the union skeleton: what the set lacks has no figure, and changes none of the others'."""

    def without_nose(content: dict) -> None:
        content["categories"][0]["keypoints"] = content["categories"][0]["keypoints"][1:]
        content["categories"][0]["skeleton"] = []
        for record in content["annotations"]:
            record["keypoints"] = record["keypoints"][3:]

    usual = evaluate(run, str(others(tmp_path)), images=str(IMAGES)).scores.per_joint
    fewer = evaluate(run, str(others(tmp_path, without_nose)), images=str(IMAGES)).scores.per_joint
    assert fewer["nose"] is None
    assert {n: v for n, v in fewer.items() if n != "nose"} == {n: v for n, v in usual.items() if n != "nose"}


def test_other_flip_pairs_are_refused(run, tmp_path):
    """A description that pairs the eyes with nobody belongs to a network that mirrors them wrongly."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    content = json.loads((run / "model.json").read_text())
    content["skeleton"]["flip_pairs"] = content["skeleton"]["flip_pairs"][1:]
    (copy / "model.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"other flip pairs .*left_eye and right_eye"):
        evaluate(copy, str(others(tmp_path)), images=str(IMAGES))


def test_validation_in_another_order_is_taken_by_name(run, tiny, tmp_path):
    results = []
    for name, change in (("usual", lambda content: None), ("turned", turn_round)):
        val = {"data.val": str(others(tmp_path, change)), "data.val_images": str(IMAGES), "train.steps": 3}
        results.append(train(tiny("supervised", **val), tmp_path / name).scores)
    assert results[0] == results[1]


def test_changed_labels_boxes_or_images_are_no_resume(tiny, small_people, tmp_path):
    config = tiny("single", **{"train.steps": 2})
    train(config, tmp_path / "run")
    original = small_people.read_text()
    for change in ("keypoints", "bbox"):
        content = json.loads(original)
        for record in content["annotations"]:  # whoever is labeled among them
            record[change][0] += 1.0
        small_people.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match=r"made with data '24 labeled \w+, 28 unlabeled \w+, 8 validation"):
            train(config, tmp_path / "run", resume=True)
    content = json.loads(original)
    del content["annotations"][5]
    small_people.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="made with split"):
        train(config, tmp_path / "run", resume=True)
    small_people.write_text(original)
    train(config, tmp_path / "run", resume=True)


def test_persons_who_were_trained_on_or_chose_the_weights_are_marked(run, tmp_path):
    """By content: another file and other names change nothing."""
    everyone = evaluate(run, str(run.parent / "people.json"), images=str(IMAGES))
    assert everyone.seen == {"labeled": 24, "unlabeled": 28, "validation": 8, "of": 60}
    told = "SEEN IN TRAINING: of 60 photographs 24 were trained on with labels, 28 were trained on without labels, "
    assert told + "8 chose the best weights" in everyone.protocol.describe()
    split = json.loads((run / "split.json").read_text())
    copied = read_dataset(str(run.parent / "people.json"), str(IMAGES)).subset(split["validation"])
    (tmp_path / "images").mkdir()
    for person in copied.instances:
        (tmp_path / "images" / person.image.name).write_bytes(person.image.read_bytes())
    write_coco(copied, tmp_path / "chosen.json")
    for what in (run, run / "best.safetensors", run / "weights" / "f.safetensors"):
        if what.exists():
            found = evaluate(what, str(tmp_path / "chosen.json"))
            assert found.seen == {"labeled": 0, "unlabeled": 0, "validation": 8, "of": 8}


def test_unseen_persons_and_unknown_trainings_are_said_to_be_so(run, tmp_path):
    path = others(tmp_path)
    found = evaluate(run, str(path), images=str(IMAGES))
    assert "none of its 30 photographs was seen in training" in found.protocol.describe()
    for name in ("best.safetensors", "model.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    alone = evaluate(tmp_path / "best.safetensors", str(path), images=str(IMAGES))
    assert alone.seen is None
    assert "not known whether" in alone.protocol.describe()


def test_files_of_a_run_are_what_the_run_wrote(run, tmp_path):
    from hashlib import sha256

    sums = dict(line.split("  ")[::-1] for line in (run / "SHA256SUMS").read_text().splitlines())
    assert {"best.safetensors", "model.json", "predictions.json", "scores.json"} < set(sums)
    assert {n for n in sums if n.startswith("weights/")} == {
        p.relative_to(run).as_posix() for p in (run / "weights").iterdir()
    }
    assert all(sha256((run / name).read_bytes()).hexdigest() == value for name, value in sums.items())


@pytest.mark.parametrize("name", ["best.safetensors", "model.json", "predictions.json"])
def test_a_changed_file_is_refused(run, tmp_path, name):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    content = bytearray((copy / name).read_bytes())
    content[-3] ^= 1
    (copy / name).write_bytes(content)
    what = copy / name if name == "predictions.json" else copy
    with pytest.raises(WeightsError, match=rf"{name} is not what its run wrote: its SHA-256 differs from SHA256SUMS"):
        evaluate(what, str(run.parent / "people.json"), images=str(IMAGES))
