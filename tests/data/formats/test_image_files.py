"""Image files are found by names that are spelled differently, and never where a name could mean several."""

import unicodedata
from pathlib import Path

import pytest

from semipose.data.formats.coco import read_coco
from semipose.data.formats.image_files import ImageFolder, require_images
from semipose.errors import DataError, MissingImagesError
from tests.data.formats.conftest import save_coco, save_image


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("001.jpg", "./001.jpg"),
        ("001.jpg", "001.JPG"),
        ("001.jpg", "images\\001.jpg"),
        ("cam 1/001.jpg", "cam%201/001.jpg"),
        ("cam1/001.jpg", "images/Cam1/001.jpg"),
        ("001.jpg", "images\\1/001.jpg"),
        ("001.jpg", "/data/local-files/?d=images/001.jpg"),
        ("001.jpg", "/data/local-files/?d=images%2F001.jpg"),
        ("001.jpg", "/data/upload/1/001.jpg"),
        ("001.jpg", "http://localhost:8080/data/upload/1/001.jpg?size=2"),
        (unicodedata.normalize("NFD", "größe.jpg"), unicodedata.normalize("NFC", "größe.jpg")),
        (unicodedata.normalize("NFC", "größe.jpg"), unicodedata.normalize("NFD", "größe.jpg")),
        ("a%20b.jpg", "a%20b.jpg"),
    ],
)
def test_names_in_annotations_find_their_files(tmp_path, stored, name):
    root = tmp_path / "images"
    save_image(root / stored)
    save_image(root / "another.jpg")
    assert ImageFolder(root).find(name, "record 3") == root / stored


def test_absolute_names_in_the_folder_are_found(tmp_path):
    save_image(tmp_path / "a.jpg")
    assert ImageFolder(tmp_path).find(str(tmp_path / "a.jpg"), "record 3") == tmp_path / "a.jpg"


@pytest.mark.parametrize("name", ["/etc/a.jpg", "C:\\a.jpg", "../a.jpg", "b\\..\\..\\a.jpg", "%2e%2e/a.jpg", "a\0.jpg"])
def test_images_outside_the_folder(tmp_path, name):
    save_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"record 3: .* is outside the image folder"):
        ImageFolder(tmp_path).find(name, "record 3")


def test_letter_case_alone_does_not_decide(tmp_path):
    for name in ("a.jpg", "A.jpg"):
        save_image(tmp_path / name)
    folder = ImageFolder(tmp_path)
    assert folder.find("A.jpg", "record 3") == tmp_path / "A.jpg"
    with pytest.raises(DataError, match=r"record 3: image 'a\.JPG' may be .*A\.jpg or .*a\.jpg"):
        folder.find("a.JPG", "record 3")


def test_folders_that_are_ignored_are_counted(folder, caplog):
    def change(content):
        for image in content["images"]:
            image["file_name"] = f"elsewhere/{image['file_name']}"

    assert [p.image for p in read_coco(save_coco(folder, change)).instances] == [
        p.image for p in read_coco(save_coco(folder)).instances
    ]
    assert "2 images have a folder in their names" in caplog.text


def test_two_folders_do_not_become_one(folder):
    """With the folder of one camera as the image folder, images of the other have the same names."""

    def change(content):
        for number, image in enumerate(content["images"], start=1):
            image["file_name"] = f"cam{number}/a.jpg"

    with pytest.raises(DataError, match=r"'cam1/a\.jpg' and 'cam2/a\.jpg' would both be"):
        read_coco(save_coco(folder, change))


def test_the_first_image_must_exist_or_any_where_problems_are_collected(tmp_path):
    save_image(tmp_path / "b.jpg")
    images = [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    with pytest.raises(MissingImagesError, match=r"a\.jpg of .*labels\.json"):
        require_images(images, Path("labels.json"))
    require_images(images, Path("labels.json"), [])
    require_images(images[::-1], Path("labels.json"))


@pytest.mark.parametrize(
    ("existing", "cause"),
    [
        ("a.png", r"the folder has a\.png"),
        ("b.jpg", r"1 other files, the first is b\.jpg"),
        ("c/b.jpg", "only folders: c"),
    ],
)
def test_messages_name_the_cause(tmp_path, existing, cause):
    save_image(tmp_path / existing)
    with pytest.raises(MissingImagesError, match=cause):
        require_images([str(tmp_path / "a.jpg")], Path("labels.json"))
    with pytest.raises(MissingImagesError, match=r"there is no folder .*missing"):
        require_images([str(tmp_path / "missing" / "a.jpg")], Path("labels.json"))
