"""Annotation files are read in the format that their content has."""

import json
from pathlib import Path

import numpy as np
import pytest

from semipose.data.checks import check_data
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.registry import FORMATS, find_format, read_annotations
from semipose.errors import DataError
from semipose.structures.skeletons import MPII
from tests.data.formats.conftest import save_coco, save_image

MPII_RECORD = {
    "image": "a.jpg",
    "center": [100.0, 50.0],
    "scale": 0.5,
    "joints": [[10.0 + i, 20.0 + i] for i in range(16)],
    "joints_vis": [1] * 15 + [0],
}


@pytest.fixture
def mpii(tmp_path) -> Path:
    save_image(tmp_path / "images" / "a.jpg")
    path = tmp_path / "train.json"
    path.write_text(json.dumps([MPII_RECORD]))
    return path


def test_the_name_of_a_file_does_not_matter(folder, mpii):
    path = save_coco(folder)
    assert find_format(path) is FORMATS["coco"]
    assert find_format(mpii) is FORMATS["mpii"]
    renamed = path.rename(folder / "labels.txt")
    assert len(read_annotations(str(renamed), str(folder / "images"))) == 4


@pytest.mark.parametrize("content", ["[]", "[1]", '[{"bbox": [1, 2, 3, 4]}]', "[", "[[[[", "a,b\n1,2"])
def test_files_of_no_known_format(tmp_path, content):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"none of the formats|not JSON"):
        read_annotations(path)


@pytest.mark.parametrize(("name", "kind"), [("clip.mp4", "a video"), ("a.PNG", "an image")])
def test_videos_and_images_are_no_labels(tmp_path, name, kind):
    (tmp_path / name).write_bytes(bytes(8) + b"ftypmp42" * 8)
    with pytest.raises(DataError, match=rf"{name} is {kind} and has no labels; labels are a COCO file, a DeepLabCut"):
        check_data(tmp_path / name)


def test_annotation_files_in_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"give an annotation file$"):
        find_format(tmp_path)
    (tmp_path / "CollectedData.csv").write_text("scorer,A,A\nbodyparts,nose,nose\ncoords,x,y\na.png,1,2\n")
    (tmp_path / "data.yaml").write_text("train: CollectedData.csv\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    expected = r"give an annotation file that is in it: .*/CollectedData\.csv or .*/data\.yaml"
    with pytest.raises(DataError, match=expected + "$"):
        check_data(tmp_path)
    for name in ("mice.slp", "more.slp"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"CollectedData\.csv, .*/data\.yaml, .*/mice\.slp or 1 more$"):
        find_format(tmp_path)


def test_missing_files_and_folders(tmp_path, folder):
    with pytest.raises(DataError, match=r"missing\.json can't be read"):
        read_annotations(tmp_path / "missing.json")
    with pytest.raises(DataError, match=r"`images`: folder .*missing does not exist"):
        read_annotations(save_coco(folder), tmp_path / "missing")


def test_labels_can_be_left_out(mpii):
    assert read_annotations(mpii, labels=False)[0].joints is None


def test_other_formats_become_coco_files(mpii, tmp_path):
    persons = read_annotations(mpii)
    write_coco(persons, tmp_path / "images" / "as_coco.json")
    again = read_annotations(tmp_path / "images" / "as_coco.json", tmp_path / "images")
    assert again.skeleton is MPII
    np.testing.assert_allclose(again[0].joints, persons[0].joints)
    np.testing.assert_allclose(again[0].box, persons[0].box)
