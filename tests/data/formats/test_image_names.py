"""Images are found by names that are spelled differently, and never where a name could mean several."""

import unicodedata
from pathlib import Path

import pytest

from semipose.data.formats import image_names
from semipose.data.formats.image_names import (
    ImageIndex,
    ImageReference,
    id_value,
    image_id_of,
    relative_names,
)


def test_ids_are_compared_by_value():
    assert [image_id_of(v) for v in (7, 7.0, "7", 1.5, True, None)] == [7, 7, "7", None, None, None]
    assert [id_value(v) for v in (7, "7", "7.0", "007", "a7", "7.5")] == [7, 7, 7, 7, "a7", "7.5"]


PATHS = {
    1: Path("set/cam1/001.jpg"),
    101: Path("set/cam2/001.jpg"),
    7: Path("set/cam2/Größe.png"),
    8: Path("set/8.jpg"),
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cam1/001.jpg", [1]),
        ("set/cam1/001.jpg", [1]),
        ("/other/place/cam2/001.jpg", [101]),
        ("cam2\\001", [101]),
        ("001.jpg", [1, 101]),
        ("001", [1, 101]),
        ("cam3/001.jpg", []),
        (unicodedata.normalize("NFD", "größe.PNG"), [7]),
        ("elsewhere/8.jpg", [8]),
        ("9.jpg", []),
        ("", []),
    ],
)
def test_names_find_images_of_a_set(name, found):
    index = ImageIndex(PATHS, {image_id: [image_id] for image_id in PATHS})
    assert index.find(ImageReference(None, name)) == found


def test_one_name_in_many_folders_is_found_without_comparing_all(monkeypatch):
    paths = {n: Path(f"set/cam{n:04d}/0050.jpg") for n in range(500)} | {500: Path("set/0050.jpg")}
    index = ImageIndex(paths, {n: [n] for n in paths})
    split, calls = image_names.split_path, []
    monkeypatch.setattr(image_names, "split_path", lambda path: calls.append(path) or split(path))
    for name, expected in (
        ("cam0007/0050.jpg", 7),
        ("x/set/cam0499/0050", 499),
        ("old/set/0050.jpg", 500),
        ("old/0050.jpg", 500),
    ):
        assert index.find(ImageReference(None, name)) == [expected], name
    assert len(calls) < 50


def test_a_text_that_is_an_id_and_another_name_is_ambiguous():
    paths = {7: Path("a/1.jpg"), 1: Path("a/7.jpg")}
    index = ImageIndex(paths, {image_id: [image_id] for image_id in paths})
    assert index.find(ImageReference(7)) == [7]
    assert index.find(ImageReference("7")) == [7, 1]
    assert index.find(ImageReference("007")) == [7]


def test_images_of_two_folders_are_not_found_as_one(tmp_path):
    index = ImageIndex({1: Path("set/001.jpg"), 2: Path("set/002.jpg")}, {1: [1], 2: [2]})
    names = [ImageReference(None, name) for name in ("cam1/001.jpg", "cam2/001.jpg", "cam1/002.jpg")]
    problems: list[str] = []
    assert index.locate(names, tmp_path / "p.json", "prediction", "set", problems) == [None, None, 2]
    assert "prediction 1: images in the folders 'cam1' and 'cam2' would all be set/001.jpg" in problems[0]


def test_other_folders_are_other_images_where_folders_are_named(tmp_path):
    index = ImageIndex({1: Path("cam1/001.jpg"), 2: Path("cam1/002.jpg")}, {1: [1], 2: [2]})
    names = [ImageReference(None, name) for name in ("cam1/001.jpg", "cam2/001.jpg", "cam2/002.jpg")]
    assert index.locate(names, tmp_path / "p.json", "prediction", "set", None) == [1, None, None]


def test_relative_names_tell_images_of_two_folders_apart():
    assert relative_names(PATHS)[101] == "cam2/001.jpg"
    assert relative_names(PATHS, Path("other"))[101] == "set/cam2/001.jpg"
