"""semipose suggest."""

import json
import shutil

from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from tests.cli.conftest import one_line


def test_images_to_label_next(cli, trained, tmp_path):
    frames = tmp_path / "frames"
    shutil.copytree(PEOPLE / "images", frames, ignore=lambda _, names: sorted(names)[5:])
    out = tmp_path / "next"
    code, text, err = cli("suggest", trained, frames, "--count", 2, "--out", out, "--min-joint-score", 0)
    assert code == 0, err
    written = text.split()
    assert written[0] == str(out / "annotations.json")
    assert len(written) == 3
    names = {image["file_name"] for image in json.loads((out / "annotations.json").read_text())["images"]}
    assert len(names) == 2
    labels = read_coco(out / "annotations.json", out / "images")
    assert (labels.instances.visibility == 2).all()
    one_line(cli("suggest", trained, frames, "--count", 2, "--out", out), "--out")
    code, text, err = cli("suggest", trained, frames, "--count", 9, "--out", tmp_path / "all", "--json")
    assert code == 0, err
    found = json.loads(text)
    assert found["files"][0] == str(tmp_path / "all" / "annotations.json")
    assert (len(found["files"]), found["data"]["used"]) == (6, {"predicted on": 5})
    assert "--count is 9, but 5 images of" in err
