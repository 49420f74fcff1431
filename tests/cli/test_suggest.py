"""semipose suggest."""

import json
import shutil
import signal

import pytest

from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.leakage import digest_files, read_training_images
from tests.cli.conftest import one_line


def test_images_to_label_next(cli, trained, tmp_path):
    frames = tmp_path / "frames"
    run = trained
    known = read_training_images(run)
    photos = [p for p in sorted((PEOPLE / "images").iterdir()) if not known.count(digest_files([p]))["labeled"]]
    frames.mkdir()
    for photo in [p for p in photos if not known.count(digest_files([p]))["validation"]][:5]:
        shutil.copy(photo, frames)
    out = tmp_path / "next"
    code, text, err = cli("suggest", run, frames, "--count", 2, "--out", out, "--min-joint-score", 0)
    assert code == 0, err
    written = text.split()
    assert written[0] == str(out / "annotations.json")
    assert len(written) == 3
    names = {image["file_name"] for image in json.loads((out / "annotations.json").read_text())["images"]}
    assert len(names) == 2
    labels = read_coco(out / "annotations.json", out / "images")
    assert (labels.instances.visibility == 2).all()
    one_line(cli("suggest", run, frames, "--count", 2, "--out", out), "--out")
    code, text, err = cli("suggest", run, frames, "--count", 9, "--out", tmp_path / "all", "--json")
    assert code == 0, err
    found = json.loads(text)
    assert found["files"][0] == str(tmp_path / "all" / "annotations.json")
    assert (len(found["files"]), found["data"]["used"]) == (4, {"images suggested": 3, "subjects in them": 3})
    assert found["data"]["left_out"] == {"suggested before": 2}
    assert "--count is 9, but 3 images of" in err


def test_a_command_that_is_stopped_leaves_no_temporary_files(cli, trained, tmp_path, monkeypatch):
    previous = signal.getsignal(signal.SIGTERM)
    stop = "semipose.inference.suggest.read_candidates"
    monkeypatch.setattr(stop, lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not handled"))
    try:
        code, _, _ = cli("suggest", trained, PEOPLE / "images", "--out", tmp_path / "next")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert code == 143
    assert not list((tmp_path / "next").iterdir())
