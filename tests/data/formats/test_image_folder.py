"""Folders of unlabeled images."""

import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from semipose.data.formats.image_folder import list_images, read_folder
from semipose.errors import DataError
from semipose.structures.skeletons import COCO

DATA = os.environ.get("SEMIPOSE_DATA")


def test_whole_images(images):
    persons = read_folder(images, COCO)
    assert [p.image.relative_to(images).as_posix() for p in persons.instances] == [
        "000000000036.jpg",
        "b.PNG",
        "c.webp",
        "deep/a.jpeg",
    ]
    assert {p.box for p in persons.instances} == {(0.0, 0.0, 20.0, 30.0)}
    assert all(p.joints is None and p.visibility is None and p.score == 1 for p in persons.instances)
    assert len({p.image_id for p in persons.instances}) == len({p.annotation_id for p in persons.instances}) == 4


def test_images_that_can_not_be_opened_are_left_out(images, caplog):
    (images / "broken.jpg").write_bytes(b"not an image")
    (images / "empty.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(images, COCO)) == 4
    assert "2 of 6" in caplog.text


def test_thumbnails_and_folders_of_other_tools_are_left_out(tmp_path, caplog):
    names = ["a.jpg", "clip/b.jpg", ".thumbnails/a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/._a.jpg"]
    names += ["clip/._b.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", ".cache/deep/c.png"]
    for folder in (tmp_path / "images", tmp_path / ".frames"):  # a hidden folder that is asked for is used
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 30)).save(folder / name)
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (folder / name).write_bytes(b"thumbnails")
        caplog.clear()
        expected = [folder / "a.jpg", folder / "clip" / "b.jpg"]
        assert list_images(folder) == (expected, {"images in hidden folders": 6})
        assert "6 images in hidden folders" in caplog.text
    assert len(read_folder(tmp_path / "images", COCO)) == 2


def test_drawn_labels_of_deeplabcut_are_left_out(tmp_path, caplog):
    for folder, count in (("video", 3), ("video_labeled", 2), ("other_labeled", 1)):
        (tmp_path / folder).mkdir()
        for n in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / folder / f"img{n}.png")
    images, left_out = list_images(tmp_path)
    assert [image.parent.name for image in images] == ["other_labeled", *["video"] * 3]
    assert left_out == {"images with drawn labels": 2}
    assert "2 images with drawn labels left out" in caplog.text
    assert len(list_images(tmp_path / "video_labeled")[0]) == 2, "given by itself"


def test_images_in_linked_folders_are_listed(images, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cam1").symlink_to(images)
    assert len(list_images(tmp_path / "linked")[0]) == 4


def test_images_with_exif_orientation_are_used_as_stored(tmp_path, caplog):
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "phone.jpg", exif=exif)
    image.save(tmp_path / "upright.jpg")
    (tmp_path / "odd.jpg").write_bytes((tmp_path / "phone.jpg").read_bytes().replace(b"Exif", b"Exig"))
    with caplog.at_level(logging.WARNING):
        persons = read_folder(tmp_path, COCO)
    assert [person.box for person in persons.instances] == [(0, 0, 40, 30)] * 3  # as it is stored
    assert "1 of 3 images have an EXIF orientation" in caplog.text
    assert "phone.jpg" in caplog.text


def test_folders_without_images(tmp_path):
    with pytest.raises(DataError, match="gone"):
        read_folder(tmp_path / "gone", COCO)
    with pytest.raises(DataError, match="no image"):
        read_folder(tmp_path, COCO)
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match="none of its 1"):
        read_folder(tmp_path, COCO)


def test_problems_are_collected_where_asked(images):
    (images / "broken.jpg").write_bytes(b"not an image")
    problems: list[str] = []
    assert len(read_folder(images, COCO, problems=problems)) == 4
    assert len(problems) == 1
    assert "broken.jpg can't be opened" in problems[0]


def test_files_of_other_kinds_are_left_out_with_a_warning(images, caplog):
    (images / "clip.MP4").write_bytes(b"")
    (images / "scan.tiff").write_bytes(b"")
    found = read_folder(images, COCO)
    assert (len(found), found.left_out) == (4, {"files of other kinds": 2})
    assert "2 files of other kinds left out" in caplog.text


@pytest.mark.skipif(not DATA, reason="SEMIPOSE_DATA does not name the data folder")
def test_real_folder():
    persons = read_folder(Path(DATA) / "coco-mini" / "images", COCO)
    assert len(persons) == 247
    assert all(p.box[2] > 50 and p.box[3] > 50 for p in persons.instances)
