"""Broken records and images: `strict` lists all of them and stops, `skip` leaves them out, counted and noted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from semipose.cli import main
from semipose.data.data_config import DataConfig
from semipose.data.data_errors import DataErrors, describe_dropped
from semipose.data.datasets import PEOPLE, load_splits
from semipose.data.formats.registry import read_annotations
from semipose.errors import BrokenDataError, ConfigError, DataError
from semipose.trainer import train


@pytest.fixture
def dataset(tmp_path):
    """A folder of 60 embedded persons, annotations and images; `spoil` breaks records and images by number."""
    content = json.loads((PEOPLE / "train.json").read_text())
    names = {i["id"]: i["file_name"] for i in content["images"]}
    content["annotations"] = content["annotations"][:60]
    used = {a["image_id"] for a in content["annotations"]}
    content["images"] = [i for i in content["images"] if i["id"] in used]
    (tmp_path / "images").mkdir()
    for name in (names[i] for i in used):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PEOPLE / "images" / name, tmp_path / "images" / name)

    def spoil(records=(), images=(), name="set.json") -> Path:
        changed = json.loads(json.dumps(content))
        for number in images:
            path = tmp_path / "images" / names[content["annotations"][number]["image_id"]]
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        for number in records:
            changed["annotations"][number]["keypoints"] = [1, 2]
        path = tmp_path / name
        path.write_text(json.dumps(changed))
        return path

    return spoil


def test_strict_lists_every_broken_record(dataset):
    path = dataset(records=(3, 30, 59))
    with pytest.raises(BrokenDataError, match=r"3 broken entries, the first: .*`data\.on_error\.train`=skip") as caught:
        load_splits(DataConfig(train=str(path)))
    assert len(caught.value.problems) == 3
    assert all("keypoints" in problem for problem in caught.value.problems)


def test_skip_leaves_them_out_and_counts_them(dataset, caplog):
    path = dataset(records=(3, 30, 59))
    splits = load_splits(DataConfig(train=str(path), on_error={"train": "skip"}, validation=0))
    assert len(splits.labeled) == 57
    assert splits.data_errors.describe() == "train 3 records"
    assert "3 broken entries" in caplog.text


def test_each_set_has_its_own_policy(dataset, tmp_path):
    path, other = dataset(), dataset(records=(5,), name="other.json")
    config = {"train": str(path), "val": str(other), "test": str(path), "unlabeled": str(other), "labels": 20}
    with pytest.raises(BrokenDataError, match=r"`data\.on_error\.val`=skip"):
        load_splits(DataConfig(**config))
    unlabeled = dataset(records=(), name="more.json")
    spoiled = json.loads(unlabeled.read_text())
    spoiled["annotations"][7]["bbox"] = [1, 2, 3]
    unlabeled.write_text(json.dumps(spoiled))
    splits = load_splits(DataConfig(**{**config, "unlabeled": str(unlabeled)}, on_error={"val": "skip"}))
    assert splits.data_errors.describe() == "val 1 record, unlabeled 1 record"
    with pytest.raises(BrokenDataError, match=r"`data\.on_error\.unlabeled`=skip"):
        strict = {"val": "skip", "unlabeled": "strict"}
        load_splits(DataConfig(**{**config, "unlabeled": str(unlabeled)}, on_error=strict))


def test_unreadable_detections_and_images_of_a_folder(dataset, tmp_path):
    path = dataset(images=(4,))
    frames = tmp_path / "images"
    (next(frames.rglob("*.jpg"))).write_bytes(b"no image")
    boxes = tmp_path / "boxes.json"
    names = sorted(p.name for p in frames.rglob("*.jpg"))
    boxes.write_text(json.dumps([{"image_id": n, "bbox": [0, 0, 9, 9], "score": 1} for n in names] + [{"bbox": 3}] * 2))
    plain = load_splits(DataConfig(train=str(path), unlabeled=str(frames), labels=20))
    assert plain.data_errors.describe() == "unlabeled 1 record"
    boxed = load_splits(DataConfig(train=str(path), unlabeled=str(frames), boxes=str(boxes), labels=20))
    assert boxed.data_errors.describe() == "unlabeled 2 records"


def test_a_set_of_broken_records_only_lists_them(dataset):
    path = dataset(records=range(60))
    for policy in ("strict", "skip"):
        with pytest.raises(BrokenDataError, match="60 broken entries") as caught:
            load_splits(DataConfig(train=str(path), on_error={"train": policy}))
        assert len(caught.value.problems) == 60


def test_long_lists_are_cut_off_with_a_count():
    def read(problems: list[str]) -> None:
        problems += [f"file.json: annotation {n}: broken" for n in range(1000)]

    with pytest.raises(BrokenDataError) as caught:
        DataErrors().read("train", read)
    listing = caught.value.listing()
    assert len(listing) == 21
    assert listing[-1] == "… and 980 more"
    assert "\n" not in str(caught.value)


def test_mpii_keeps_its_heads_next_to_a_broken_record(tmp_path):
    """The official positions belong to record numbers, which do not change when a record is left out."""
    record = {"image": "a.jpg", "joints": [[5, 6]] * 16, "joints_vis": [1] * 16, "center": [9, 9], "scale": 1.5}
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "valid.json").write_text(json.dumps([record, {**record, "scale": "big"}, record]))
    positions = np.arange(16 * 2 * 3, dtype=float).reshape(16, 2, 3)
    heads = np.zeros((2, 2, 3))
    heads[1] = [[3, 30, 300], [4, 40, 400]]
    savemat(
        tmp_path / "gt_valid.mat",
        {"headboxes_src": heads, "jnt_missing": np.zeros((16, 3)), "pos_gt_src": positions},
    )
    problems: list[str] = []
    persons = read_annotations(tmp_path / "valid.json", tmp_path, problems=problems)
    assert [p.annotation_id for p in persons.instances] == [0, 2]
    assert persons[1].head_size == pytest.approx(0.6 * 500)
    np.testing.assert_array_equal(persons[1].joints, positions[:, :, 2] - 1)
    assert len(problems) == 1


def test_an_image_record_that_leaves_the_folder_is_left_out_with_its_persons(dataset):
    path = dataset()
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "../../etc/passwd"
    path.write_text(json.dumps(content))
    problems: list[str] = []
    persons = read_annotations(path, problems=problems)
    assert "is outside the image folder" in problems[0]
    assert len(problems) == 1 + 60 - len(persons)
    assert not [p for p in persons.instances if "passwd" in str(p.image)]


def test_a_data_file_sets_policies(dataset, tmp_path):
    dataset(records=(3,))
    (tmp_path / "data.yaml").write_text("train: set.json\non_error:\n  train: skip\n")
    assert load_splits(DataConfig(train=str(tmp_path / "data.yaml"))).data_errors.describe() == "train 1 record"
    (tmp_path / "data.yaml").write_text("train: set.json\non_error:\n  train: maybe\n")
    with pytest.raises(DataError, match=r"on_error\.train"):
        load_splits(DataConfig(train=str(tmp_path / "data.yaml")))


def test_a_training_stops_before_it_begins_or_records_what_it_left_out(dataset, tiny, tmp_path):
    """A broken image of the test set is an error before the training, not after it."""
    path = dataset(images=(2, 40))
    clean = {"data.train": str(path), "data.images": str(tmp_path / "images"), "train.steps": 2, "data.labels": None}
    with pytest.raises(BrokenDataError, match=r"`data\.on_error\.train`=skip"):
        train(tiny("supervised", **clean), tmp_path / "run")
    test = {"data.test": str(path), "data.test_images": str(tmp_path / "images"), "data.on_error.train": "skip"}
    with pytest.raises(BrokenDataError, match=r"2 of 60 images .*`data\.on_error\.test`=skip") as caught:
        train(tiny("supervised", **clean, **test), tmp_path / "run")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    result = train(tiny("supervised", **clean, **test, **{"data.on_error.test": "skip"}), tmp_path / "run")
    dropped = json.loads((tmp_path / "run" / "dropped.json").read_text())
    assert describe_dropped(dropped) == "train 2 images, test 2 images"
    assert "58 persons in 58 images" in result.protocol
    assert "left out as broken: train 2 images, test 2 images" in result.protocol
    assert len(json.loads((tmp_path / "run" / "predictions.json").read_text())) == 58

    from semipose.reports.html import write_report

    assert "train 2 images, test 2 images" in write_report(tmp_path / "run").read_text()


def semipose(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["semipose", *map(str, arguments)])
    code: object = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return int(code or 0), captured.out, captured.err  # type: ignore[call-overload]


def test_evaluate_and_predict_have_the_same_choice(dataset, tiny, tmp_path, capsys, monkeypatch):
    clean = dataset()
    config = {"data.train": str(clean), "data.images": str(tmp_path / "images"), "train.steps": 1, "data.labels": None}
    train(tiny("supervised", **config), tmp_path / "run")
    capsys.readouterr()
    path = dataset(records=(7, 8), images=(2, 40, 41))
    evaluate = ["evaluate", tmp_path / "run", "--data", path, "--json"]
    code, out, err = semipose(capsys, monkeypatch, *evaluate)
    assert (code, out) == (2, "")
    *listed, last = err.splitlines()
    assert len(listed) == 2
    assert last.startswith("semipose: 2 broken entries")
    assert "--on-error=skip" in last
    code, out, err = semipose(capsys, monkeypatch, *evaluate, "--on-error", "skip")
    found = json.loads(out)
    assert code == 0
    assert "55 persons" in found["protocol"]
    assert "left out as broken: data 2 records and 3 images" in found["protocol"]
    assert len(found["left_out"]["data"]["images"]) == 3
    predict = ["predict", tmp_path / "run", tmp_path / "images", "--out", tmp_path / "found"]
    assert semipose(capsys, monkeypatch, *predict)[0] == 0
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())) == 57
    assert len(json.loads((tmp_path / "found" / "dropped.json").read_text())["images"]["images"]) == 3
    code, _, err = semipose(capsys, monkeypatch, *predict, "--on-error", "strict")
    assert code == 2
    about_scores, earlier, warning, *lines = err.splitlines()
    assert earlier.endswith("earlier predictions are replaced")
    assert "not calibrated" in about_scores
    assert "the network was trained in boxes" in warning
    assert len(lines) == 4
    code, _, err = semipose(capsys, monkeypatch, *predict, "--on-error", "perhaps")
    assert "known: strict, skip" in err


def test_policies_are_options():
    with pytest.raises(ConfigError, match="skip"):
        from semipose.config import load_config

        load_config(None, {"data.on_error.train": "drop"})
