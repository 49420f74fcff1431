"""semipose train: the run folder, printed results, configurations and resuming."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from semipose.data.datasets import PEOPLE
from tests.cli.conftest import IMAGES, TINY, coco, one_line


def saved(run: Path) -> dict:
    """The configuration of a run."""
    return yaml.safe_load((run / "config.yaml").read_text())


@pytest.fixture
def start(monkeypatch):
    """Replaces the training; returns the configurations and folders that it was called with."""
    calls = []

    class StartedError(Exception):
        pass

    def train(config, *, out, resume, progress):
        calls.append((config, Path(out), resume))
        raise StartedError

    monkeypatch.setattr("semipose.api.train", train)
    return calls


def test_the_run_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "split.json", "metrics.jsonl", "last", "weights", "best.safetensors"} <= names
    assert {"scores.json", "predictions.json", "events"} <= names
    assert {path.stem for path in (trained / "weights").glob("*.safetensors")} == {"G", "F", "R1", "R2"}
    assert (saved(trained)["method"]["name"], saved(trained)["train"]["steps"]) == ("trs", 4)
    kinds = {json.loads(line)["kind"] for line in (trained / "metrics.jsonl").read_text().splitlines()}
    assert {"train", "validation/G", "validation/mean", "validation/ensemble"} <= kinds


def test_the_saved_configuration_reproduces_the_run(cli, trained, tmp_path):
    code, out, err = cli("train", trained / "config.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    first, second = (json.loads((p / "scores.json").read_text()) for p in (trained, tmp_path / "again"))
    assert first["scores"] == second["scores"]
    assert f"best.safetensors is {second['best']}" in out
    assert out.splitlines()[-2:] == [str(tmp_path / "again" / "report.html"), str(tmp_path / "again")]


def test_the_last_line_says_that_unlabeled_images_are_not_used(cli, tmp_path):
    code, out, err = cli("train", *TINY, "--data", "people", "--labels", 30, "--out", tmp_path / "run")
    assert code == 0, err
    assert out.splitlines()[-1].startswith(
        "unlabeled images: not used, the burn-in on labels alone takes all of the 4 "
    )


def test_a_finished_run_is_resumed_without_change(cli, trained):
    files = ("metrics.jsonl", "scores.json")
    before = [(trained / name).read_bytes() for name in files]
    code, out, err = cli("train", "--resume", "--out", trained, "--no-report", "--json")
    assert code == 0, err
    assert [(trained / name).read_bytes() for name in files] == before
    found = json.loads(out)
    assert set(found) == {
        "scores",
        "headline_networks",
        "harm",
        "seconds",
        "protocol",
        "boxes",
        "best",
        "intervals",
        "pixel_error",
        "gain",
        "unlabeled_not_used",
        "gain_not_measured",
        "data",
        "out",
    }
    assert set(found["scores"]["G"]) >= {"AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5"}
    one_line(cli("train", *TINY, "--data", "people", "--out", trained), "--resume")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--resume"], "--resume continues the run in --out"),
        (["--resume", "--out", "gone"], "no config.yaml"),
        (["small", "--resume", "--out", "run"], "small: --resume continues with the run's own configuration"),
        (["small", "paper", "--data", "people"], "small and paper"),
        (["train.steps"], "train.steps"),
    ],
    ids=" ".join,
)
def test_configurations_that_do_not_fit(cli, trained, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    one_line(cli("train", *arguments), expected)


def test_a_signal_saves_and_ends_the_training(cli, small_people, tmp_path):
    log = tmp_path / "run" / "metrics.jsonl"

    def stop() -> None:
        while not (log.is_file() and log.stat().st_size):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    data = ["--data", small_people, *IMAGES, "--out", tmp_path / "run"]
    code, _, err = cli("train", *TINY, *data, "--steps", 100_000, "train.log_every=1", "train.precision=32-true")
    assert code == 128 + signal.SIGTERM
    assert err.endswith("semipose: stopped and saved; continue with --resume\n")
    assert (tmp_path / "run" / "last" / "state.pt").exists()


def test_the_default_configuration(cli, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli("train", "--data", "people", "--labels", 20)
    cli("train", "--data", "people")
    (semi, folder, resume), (labels_only, second, _) = start
    assert (semi.method.name, semi.method.burn_in, semi.train.steps) == ("late_teacher", "auto", 2000)
    assert (semi.loss.kind, semi.input.height, labels_only.input.height) == ("cross_entropy", 96, 96)
    assert labels_only.method.name == "supervised"
    assert (folder, second, resume) == (Path("runs", semi.method.name), Path("runs/supervised"), False)


def test_a_start_without_labels_is_an_adaptation(cli, start):
    cli("train", "--start", "runs/mine", "--unlabeled", "frames", "--steps", 9)
    cli("train", "--start", "runs/mine", "--data", "people")
    (adapts, *_), (trains, *_) = start
    assert (adapts.train.start, adapts.data.train, adapts.train.lr, adapts.train.steps) == ("runs/mine", None, 2e-4, 9)
    assert (trains.train.start, trains.train.lr) == ("runs/mine", 0.002)


def test_options_win_over_the_configuration(cli, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b.yaml").write_text("train: {lr: 0.5, steps: 7}\n")
    options = ["--data", "x.json", "--unlabeled", "frames", "--method", "dual", "--seed", 3, "--out", "here"]
    cli("train", "a=b.yaml", *options, "train.seed=4", "train.batch=2")
    config, folder, _ = start[0]
    assert (config.train.lr, config.train.steps, config.train.batch, config.train.seed) == (0.5, 7, 2, 3)
    assert (config.data.train, config.data.unlabeled, config.method.name) == ("x.json", "frames", "dual")
    assert folder == Path("here")


def test_options_of_another_method_are_reported(cli, start):
    _, _, err = cli("train", "small_trs", "--data", "people", "--method", "single")
    assert "method.unlabeled_weight" in err
    assert "do not belong to the method single" in err
    assert start[0][0].loss.kind == "cross_entropy"


def test_training_needs_data(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(cli("train"), "--data")
    assert not list(tmp_path.iterdir())


def test_images_of_the_other_sets_are_found_in_the_image_folder_of_the_first(cli, small_people, tmp_path):
    """`--val FILE` and `--unlabeled FILE` beside it, images in a folder of their own."""
    other = tmp_path / "elsewhere" / "other.json"
    other.parent.mkdir()
    shutil.copy(small_people, other)
    content = json.loads(other.read_text())
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    other.write_text(json.dumps(content))
    arguments = ["--data", other, "--val", other, "--unlabeled", other, "--out", tmp_path / "run", "data.validation=0"]
    arguments += ["data.labels=30"]
    one_line(cli("train", *TINY, "--method", "single", *arguments), "--images")
    code, _, err = cli("train", *TINY, "--method", "single", *arguments, *IMAGES)
    assert code == 0, err
    shutil.rmtree(tmp_path / "run")
    wrong = ["--data", small_people, *IMAGES, "--val", other, "--val-images", tmp_path, "--out", tmp_path / "run"]
    one_line(cli("train", *TINY, *wrong, "data.validation=0"), "--val-images")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"annotations": []}, "no annotations"),
        ({"categories": [{"id": 1, "name": "person"}]}, "keypoints"),
        ({"categories": [{"id": 1, "name": "person", "keypoints": ["nose", 5]}]}, "no joint name"),
        ({"categories": [{"id": 1, "name": "person", "keypoints": ["nose", "nose"]}]}, "twice"),
        ({"categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"]}]}, "annotation 1601"),
    ],
)
def test_unusable_annotations(cli, tmp_path, changes, expected):
    path = coco(tmp_path / "bad.json", **changes)
    one_line(cli("train", "--data", path, *IMAGES, "--out", tmp_path / "run"), expected)


def test_options_without_effect_are_refused(cli, tmp_path):
    small = coco(tmp_path / "small.json")
    images = PEOPLE / "images"
    for options, expected in (
        (["--boxes", "boxes.json"], "--boxes"),
        (["--val-images", images], "--val-images"),
        (["--unlabeled", small, "--boxes", "b.json"], "--boxes"),
        (["data.val=people", "--val-images", images], "has its own images"),
    ):
        one_line(cli("train", "--data", "people", "--labels", 20, "--out", tmp_path / "run", *options), expected)


def test_a_run_folder_that_can_not_be_made(cli, small_people, tmp_path):
    (tmp_path / "file").write_text("a file")
    arguments = ["--data", small_people, *IMAGES, "--out", tmp_path / "file", "model.weights=none"]
    one_line(cli("train", *arguments), "--out")
    assert (tmp_path / "file").read_text() == "a file"
