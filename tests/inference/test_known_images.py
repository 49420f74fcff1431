"""Known images: the labels of a run, and the record of what was suggested."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from semipose.data.images import read_image, write_image
from semipose.inference.known_images import known_images, read_record, run_folder, training_labels, write_record
from semipose.utils.files import is_file
from tests.data.test_clips import write_frames


@pytest.fixture
def run(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def test_labels_of_a_run_are_known(run, tmp_path):
    known = known_images(run)
    assert len(known.persons) == 24 + 8
    assert len(known.labeled) == len({p.image for p in known.persons})
    labeled = known.persons[0].image
    assert known.reason(labeled) == "labeled already"
    write_image(read_image(labeled), tmp_path / "again.jpg", 90)
    assert known.reason(tmp_path / "again.jpg") == "like a labeled or suggested image"
    (other,) = write_frames(tmp_path / "v", [7])
    assert known.reason(other) == ""
    assert len(known_images(run / "best.safetensors").persons) == 32
    assert known_images(None).persons == []


def test_suggested_images_are_known_and_the_record_grows(run, tmp_path):
    frames = write_frames(tmp_path / "v", [7, 30])
    write_record(run, [(frames[0], (1.0, 2.0, 30.0, 40.0))])
    write_record(run, [(frames[1], (0.0, 0.0, 64.0, 48.0))])
    assert [Path(record["image"]).name for record in read_record(run)] == ["img0007.png", "img0030.png"]
    known = known_images(run)
    assert [known.reason(image) for image in frames] == ["suggested before"] * 2
    assert known.persons[-2].box == (1.0, 2.0, 30.0, 40.0)
    moved = frames[0].rename(tmp_path / "moved.png")
    known = known_images(run)
    assert known.reason(moved) == "suggested before"
    assert len(known.persons) == 32 + 1


def test_weights_files_belong_to_their_run(run, tmp_path):
    (weights, *_) = (run / "weights").iterdir()
    assert [run_folder(path) for path in (run, run / "best.safetensors", weights)] == [run] * 3
    (tmp_path / "config.yaml").write_text("of a DeepLabCut project")
    assert run_folder(tmp_path / "models/a.safetensors") is None


def test_the_labels_of_a_run_are_named_by_its_configuration(run, tmp_path):
    assert training_labels(run / "best.safetensors") == training_labels(run)
    assert is_file(training_labels(run))
    assert training_labels(tmp_path) is None
    assert training_labels(None) is None


def test_a_record_that_can_not_be_written_gives_a_warning(run, tmp_path, monkeypatch, caplog):
    def read_only(path, text):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("semipose.inference.known_images.write_text", read_only)
    write_record(run, [(image, (1.0, 2.0, 30.0, 40.0)) for image in write_frames(tmp_path / "v", [7])])
    assert "suggested.json can't be written (Read-only file system); the same images may be suggested" in caplog.text


def test_labels_that_can_not_be_read_give_a_warning(run, caplog):
    text = (run / "config.yaml").read_text().replace("people.json", "gone.json")
    (run / "config.yaml").write_text(text)
    known = known_images(run)
    assert known.persons == []
    assert len(known.labeled) == 32
    assert "its labels can't be read" in caplog.text
    (run / "suggested.json").write_text("broken")
    assert read_record(run) == []


def test_thumbnails_are_compared_cell_by_cell():
    known = known_images(None)
    gray = np.full((32, 32), 100, np.float32)
    assert not known.is_alike(gray)
    known.add(gray)
    changed = gray.copy()
    changed[3, 4] += 7.9
    assert known.is_alike(changed)
    changed[3, 4] += 0.2
    assert not known.is_alike(changed)
