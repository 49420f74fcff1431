"""semipose data: check, convert, merge, split, frames, pack, cache."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from tests.cli.conftest import IMAGES, TINY, coco, one_line
from tests.data.test_clips import write_frames
from tests.data.test_split_files import written


def test_check(cli, small_people):
    code, out, err = cli("data", "check", small_people, *IMAGES)
    assert code == 0, err
    assert "60 persons" in out
    assert out.endswith("no broken record\n")
    assert json.loads(cli("data", "check", small_people, *IMAGES, "--json")[1])["persons"] == 60


def test_check_of_a_broken_record(cli, small_people):
    content = json.loads(small_people.read_text())
    content["annotations"][3]["bbox"] = [0, 0, -1]
    small_people.write_text(json.dumps(content))
    code, out, _ = cli("data", "check", small_people, *IMAGES, "--json")
    assert code == 2
    assert len(json.loads(out)["problems"]) == 1


def test_check_with_a_wrong_image_folder(cli, small_people, tmp_path):
    (tmp_path / "wrong").mkdir()
    first = json.loads(small_people.read_text())["images"][0]["file_name"]
    shutil.copy(PEOPLE / "images" / first, tmp_path / "wrong")
    code, out, _ = cli("data", "check", small_people, "--images", tmp_path / "wrong")
    assert code == 2
    *_, line, total = out.splitlines()
    assert "59 of 60 images are missing (" in line
    assert "is --images the right folder?" in line
    assert total == "59 problems"
    assert out.count("missing") == 1


def test_convert_and_merge(cli, small_people, tmp_path):
    other = coco(tmp_path / "other.json")
    out = tmp_path / "merged.json"
    code, text, err = cli("data", "merge", small_people, other, "--out", out, *IMAGES)
    assert code == 0, err
    assert text.strip() == str(out)
    assert len(read_coco(out, PEOPLE / "images")) == 460
    code, text, err = cli("data", "merge", small_people, out, "--out", tmp_path / "again.json", *IMAGES, "--json")
    assert code == 0, err
    found = json.loads(text)
    assert found["files"] == [str(tmp_path / "again.json")]
    assert (found["data"]["persons"], found["data"]["used"]) == (520, {"written": 460})
    assert found["data"]["left_out"] == {"in images that a later file labels": 60}
    code, text, err = cli("data", "convert", out, "--out", tmp_path / "copy.json", *IMAGES, "--json")
    assert code == 0, err
    assert json.loads(text) == {
        "files": [str(tmp_path / "copy.json")],
        "data": {
            "source": str(out),
            "images": 460,
            "persons": 460,
            "used": {"written": 460},
            "left_out": {},
            "boxes_from_labels": 0,
        },
    }
    code, _, err = cli("data", "convert", out, "--out", tmp_path / "lsp.json", *IMAGES, "--skeleton", "lsp")
    assert code == 0, err
    assert "eye" in err  # joints that LSP has not
    assert len(read_coco(tmp_path / "lsp.json", PEOPLE / "images").skeleton) == 14
    one_line(cli("data", "convert", out, "--out", out, *IMAGES), "--out")
    one_line(cli("data", "convert", out, "--out", tmp_path, *IMAGES), "--out")
    one_line(cli("data", "merge", out, other, other, "--out", tmp_path / "x.json", *IMAGES, *IMAGES), "--images")
    one_line(cli("data", "convert", out, "--out", tmp_path / "x.json", *IMAGES, "--skeleton", "mouse"), "mouse")


def test_split_by_time(cli, tmp_path):
    source = written(tmp_path, write_frames(tmp_path / "images", range(10)))
    arguments = ["data", "split", source, "--out", tmp_path / "parts"]
    code, out, err = cli(*arguments, "--by", "time", "--json")
    assert code == 0, err
    assert json.loads(out)["data"]["used"] == {"train": 7, "val": 2}
    one_line(cli(*arguments), "train.json exists; remove it or choose another file")
    one_line(cli(*arguments[:-1], tmp_path / "other"), "--by: too few to split by video")


class Everywhere:
    """A detector that finds one box in every image."""

    name = digest = "everywhere"

    def __init__(self, name, device):
        assert name == "any"

    def detect(self, image, image_id):
        return [{"image_id": image_id, "category_id": 1, "bbox": [0, 0, *image.shape[1::-1]], "score": 1.0}]


def test_frames_of_a_video_as_unlabeled_images(cli, small_people, tmp_path, monkeypatch):
    """Labels in a file, images in a video."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 96))
    for n in range(12):
        writer.write(np.full((96, 64, 3), 20 * n, np.uint8))
    writer.release()
    code, out, err = cli("data", "frames", path, "--out", tmp_path / "frames", "--json")
    assert code == 0, err
    assert json.loads(out) == {"folder": str(tmp_path / "frames"), "frames": 12, "alike": 0}
    monkeypatch.setattr("semipose.inference.detector.Detector", Everywhere)
    code, out, err = cli("data", "frames", path, "--out", tmp_path / "boxed", "--detect", "--detector", "any", "--json")
    assert code == 0, err
    assert len(json.loads(Path(json.loads(out)["boxes"]).read_text())) == 12
    arguments = ["--data", small_people, *IMAGES, "--unlabeled", tmp_path / "frames", "--labels", 20]
    code, _, err = cli("train", *TINY, *arguments, "--out", tmp_path / "run", "data.include_labeled=false")
    assert code == 0, err
    assert f"20 labeled and {32 + 12} unlabeled" in err
    videos = ["--unlabeled", path, "--labels", 20, "--out", tmp_path / "directly", "data.include_labeled=false"]
    code, _, err = cli("train", *TINY, "--data", small_people, *IMAGES, *videos, "data.max_unlabeled=36")
    assert code == 0, err
    assert f"20 labeled and {32 + 4} unlabeled" in err
    one_line(cli("data", "frames", tmp_path / "gone.mp4", "--out", tmp_path / "more"), "gone.mp4 does not exist; check")
    assert not (tmp_path / "more").exists()
    one_line(cli("data", "frames", path, "--out", tmp_path / "frames"), "--out")
    one_line(cli("data", "frames", path, "--out", tmp_path / "more", "--detector", "any"), "--detector: nothing is to")


def test_pack(cli, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(PEOPLE / "images", photos, ignore=lambda _, names: sorted(names)[5:])
    code, out, err = cli("data", "pack", photos, "--out", tmp_path / "shards", "--shard-size", 2)
    assert code == 0, err
    assert Path(out.strip()).is_file()
    (photos / "broken.jpg").write_bytes(b"broken")
    code, out, err = cli("data", "pack", photos, "--out", tmp_path / "again", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["files"] == [str(tmp_path / "again" / "shards.json")]
    assert (found["data"]["used"], found["data"]["left_out"]) == ({"packed": 5}, {"unreadable images": 1})
    small = coco(tmp_path / "small.json")
    one_line(cli("data", "pack", small, "--boxes", "b.json", "--out", tmp_path / "p"), "--boxes")
    one_line(cli("data", "pack", photos, "--images", photos, "--out", tmp_path / "p"), "--images")
    one_line(cli("data", "pack", photos, "--out", tmp_path / "shards"), "--out")
    for option, value in (("--min-score", 0.3), ("--box-category", "dog")):
        one_line(cli("data", "pack", photos, option, value, "--out", tmp_path / "p"), f"{option}: --boxes is not given")
    for option, value in (("--padding", -1), ("--height", 0), ("--width", 0)):
        one_line(cli("data", "pack", photos, option, value, "--out", tmp_path / "p"), option)


@pytest.mark.usefixtures("trained_once")
def test_cache(cli, tmp_path, monkeypatch):
    full = json.loads(cli("data", "cache", "--json")[1])
    assert full["sets"] > 0
    assert full["bytes"] > 10_000
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(Path(full["folder"]) / "crops", tmp_path / "cache" / "crops")
    assert "data sets" in cli("data", "cache")[1]
    assert json.loads(cli("data", "cache", "--clear", "--json")[1])["sets"] == 0


def test_a_project_of_deeplabcut(cli, tmp_path):
    """Folder and configuration are checked and converted; the boxes are explained in one line."""
    folder = tmp_path / "project" / "labeled-data" / "v"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    (tmp_path / "project" / "config.yaml").write_text("scorer: Ana\nbodyparts: [Nase, tail]\n")
    table = "scorer,Ana,Ana,Ana,Ana\nbodyparts,Nase,Nase,tail,tail\ncoords,x,y,x,y\nlabeled-data/v/a.png,1.5,2,,\n"
    (folder / "CollectedData_Ana.csv").write_text(table)
    code, out, err = cli("data", "check", tmp_path / "project")
    assert code == 0, err
    assert "1 person (1 with labels" in out
    assert err.count("the box of each animal is the whole frame") == 1
    source = tmp_path / "project" / "config.yaml"
    code, _, err = cli("data", "convert", source, "--out", tmp_path / "again.csv")
    assert code == 0, err
    assert (tmp_path / "again.csv").read_text() == table.replace("Ana", "semipose").replace(",2,", ",2.0,")
    one_line(cli("data", "convert", source, "--out", tmp_path / "again.txt"), "--out")
