"""One line for every mistake: what, where, remedy."""

import json
from pathlib import Path

import pytest

from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import load_predictions, save_predictions
from semipose.errors import DataError
from semipose.structures.predictions import ground_truth_as_predictions
from tests.cli.conftest import one_line


def coco(path: Path, **changes: object) -> Path:
    """A COCO file of the embedded people with parts changed."""
    content = json.loads((PEOPLE / "val.json").read_text())
    content.update(changes)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"annotations": []}, "no annotations"),
        ({"categories": [{"id": 1, "name": "person"}]}, "keypoints"),
        ({"categories": [{"id": 1, "name": "person", "keypoints": ["nose", 5]}]}, "no joint name"),
        ({"categories": [{"id": 1, "name": "person", "keypoints": ["nose", "nose"]}]}, "twice"),
        ({"categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"]}]}, "annotation 1601"),
    ],
)
def test_unusable_annotations(cli, tmp_path, changes, told):
    path = coco(tmp_path / "bad.json", **changes)
    one_line(cli("train", "--data", path, "--images", PEOPLE / "images", "--out", tmp_path / "run"), told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--data", "gone.json"], "gone.json"),
        (["train", "gone.yaml"], "gone.yaml"),
        (["train", "--labels", "99999"], "1598"),
        (["train", "train.stepz=3"], "did you mean 'steps'"),
        (["train", "method.momentum=2", "--method", "mean_teacher"], "less than 1"),
        (["train", "--method", "teacher"], "known"),
        (["train", "--steps", "0"], "greater than or equal to 1"),
        (["train", "--backbone", "resnet19"], "resnet19"),
        (["train", "--weights", "gone.pth", "--labels", "10"], "gone.pth"),
        (["train", "--device", "cuda:99"], "cuda:99"),
        (["train", "--resume"], "--out"),
        (["train", "--unlabeled", "gone"], "gone"),
        (["train", "--images", "photos"], "name their file with --data"),
        (["evaluate", "gone", "--data", "people"], "gone"),
        (["predict", "gone", "photos"], "gone"),
        (["export", "gone", "--out", "x.onnx"], "gone"),
        (["config", "--method", "gone"], "gone"),
        (["train", "--no-such-option"], "no-such-option"),
    ],
)
def test_mistakes(cli, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    one_line(cli(*arguments), told)


def test_checkpoint_of_another_skeleton(cli, trained, tmp_path):
    content = json.loads((PEOPLE / "val.json").read_text())
    content["categories"][0]["keypoints"] = [f"joint_{k}" for k in range(17)]
    path = tmp_path / "other.json"
    path.write_text(json.dumps(content))
    one_line(cli("evaluate", trained, "--data", path, "--images", PEOPLE / "images"), "its own skeleton")


def test_predictions_of_another_skeleton(cli, tmp_path):
    truth = read_coco(PEOPLE / "val.json", PEOPLE / "images")
    path = tmp_path / "few.json"
    save_predictions(ground_truth_as_predictions(truth), path)
    content = json.loads(path.read_text())
    content[3]["keypoints"] = content[3]["keypoints"][:9]
    path.write_text(json.dumps(content))
    one_line(cli("evaluate", path, "--data", "people"), "record 4")
    assert len(load_predictions_error(path, truth)) > 0


def load_predictions_error(path: Path, truth) -> str:
    """The message of an unusable predictions file."""
    with pytest.raises(Exception, match="keypoints") as found:
        load_predictions(path, truth.skeleton)
    return str(found.value)


def test_options_that_would_do_nothing_are_refused(cli, trained, tmp_path):
    made = trained / "predictions.json"
    for option in (["--boxes", "boxes.json"], ["--flip-test"], ["--network", "G"]):
        one_line(cli("evaluate", made, "--data", "people", *option), f"{option[0]}: predictions.json holds predictions")
    photos = PEOPLE / "images"
    for given, told in (
        (["--boxes", "boxes.json"], "boxes.json belongs to data.unlabeled"),
        (["--val-images", photos], f"data.val_images: {photos} belongs to data.val"),
        (["data.local_shards=8"], "data.local_shards: data.unlabeled is no folder of shards"),
    ):
        one_line(cli("train", "--labels", 20, "--out", tmp_path / "run", *given), told)
    small = tmp_path / "small.json"
    small.write_text((PEOPLE / "val.json").read_text())
    for command, told in (
        (["train", "--unlabeled", small, "--boxes", "b.json", "--out", tmp_path / "run"], "has boxes of its own"),
        (["train", "data.val=people", "--val-images", photos, "--out", tmp_path / "run"], "bring their own images"),
        (["train", "c.yaml", "--resume", "--out", trained], "c.yaml: --resume goes on with the run's own"),
        (["evaluate", trained, "--data", "people", "--images", photos], "bring their own images"),
        (["predict", trained, photos, "--images", photos], "--images: images is no COCO file"),
        (["predict", trained, photos, "--min-score", 0.5], "--min-score: it goes by the scores of --boxes"),
        (["predict", trained, photos, "--annotations", "--min-joint-score", 20], "--min-joint-score"),
        (["data", "pack", small, "--boxes", "b.json", "--out", tmp_path / "p"], "has boxes of its own"),
        (["data", "pack", photos, "--images", photos, "--out", tmp_path / "p"], "is a folder of images already"),
    ):
        one_line(cli(*command), told)
    video = tmp_path / "film.mp4"
    video.touch()
    one_line(cli("predict", trained, video, "--annotations", "--out", tmp_path / "found"), "film.mp4 is a video")


def test_out_that_can_not_be_written(cli, trained, small_people, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    photos = PEOPLE / "images"
    for command in (
        ["predict", trained, photos, "--out", taken],
        ["train", "--data", small_people, "--images", photos, "--out", taken, "model.weights=none"],
        ["data", "pack", photos, "--out", taken],
        ["study", "people-methods", "--out", taken],
    ):
        one_line(cli(*command), f"{taken} can't be made a folder to write to (a file is there)")
    one_line(cli("data", "convert", small_people, "--images", photos, "--out", tmp_path / ("x" * 300)), "be written")
    one_line(cli("data", "convert", small_people, "--images", photos, "--out", tmp_path), "is a folder; name the file")
    one_line(cli("data", "convert", small_people, "--images", photos, "--out", small_people), "is what is read")
    (tmp_path / "dir.onnx").mkdir()
    one_line(cli("export", trained, "--out", tmp_path / "dir.onnx"), "is a folder; name the file")
    assert taken.read_text() == "a file"


def test_predictions_never_take_the_place_of_what_is_read(cli, trained, small_people, tmp_path):
    """A corrected file of the name that predictions have, in the folder that they go to."""
    mine = tmp_path / "annotations.json"
    mine.write_text(small_people.read_text())
    photos = ["--images", PEOPLE / "images"]
    one_line(cli("predict", trained, mine, *photos, "--annotations", "--out", tmp_path), "holds annotations.json")
    boxes = tmp_path / "predictions.json"
    boxes.write_text("[]")
    one_line(cli("predict", trained, small_people, *photos, "--boxes", boxes, "--out", tmp_path), "is what is read")
    assert mine.read_text() == small_people.read_text()


def test_a_study_with_a_wrong_option_leaves_no_folder(cli, tmp_path):
    out = tmp_path / "study"
    told = "study 'All methods on the embedded people"
    one_line(cli("study", "people-methods", "train.lr=fast", "--out", out), told)
    assert not out.exists()


def test_debug_shows_where(cli, tmp_path):

    with pytest.raises(DataError):
        cli("--debug", "train", "--data", "gone.json", "--out", tmp_path)
