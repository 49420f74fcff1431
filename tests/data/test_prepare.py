"""Annotation files are converted and merged: every person once, in its image, whatever the ids were."""

import json
import logging
import shutil
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.prepare import convert_annotations, merge_annotations, pack_images
from semipose.errors import ConfigError
from semipose.structures.skeletons import LSP

NAMES = ["head", "left_hand", "right_hand"]


def save_image(path: Path, size=(40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(crc32(str(path).encode()).to_bytes(4)[:3])).save(path)  # each another image


def save_coco(path: Path, persons: dict[str, list[float]], names=NAMES, empty=()) -> Path:
    """Persons by image, each given by the x of all of its joints; ids start at 1 in every file."""
    images = [{"id": n, "file_name": name} for n, name in enumerate([*persons, *empty], start=1)]
    annotations = []
    for n, (_, xs) in enumerate(persons.items(), start=1):
        for x in xs:
            keypoints = [v for _ in names for v in (x, 5.5, 2)]
            number = len(annotations) + 1
            annotations.append(
                {"id": number, "image_id": n, "category_id": 7, "bbox": [x, 2, 9, 9], "keypoints": keypoints}
            )
    category = {"id": 7, "name": "person", "keypoints": list(names)}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


@pytest.fixture
def two(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/deep/3.jpg", "b/empty.jpg"):
        save_image(tmp_path / name)
    first = save_coco(tmp_path / "first.json", {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]})
    swapped = [NAMES[0], NAMES[2], NAMES[1]]
    second = save_coco(tmp_path / "second.json", {"1.jpg": [4.0], "deep/3.jpg": [5.25]}, swapped, ["empty.jpg"])
    return first, second


def read_positions(path: Path, root: Path) -> dict[str, list[float]]:
    persons = read_coco(path, root)
    found: dict[str, list[float]] = {}
    for person in persons.instances:
        found.setdefault(person.image.relative_to(root).as_posix(), []).append(float(person.joints[0, 0]))
    return found


def test_every_person_stays_in_its_image(two, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out, _ = merge_annotations(two, tmp_path / "all.json", images=[tmp_path / "a", tmp_path / "b"])
    assert read_positions(out, tmp_path) == {
        "a/1.jpg": [1.0, 2.0],
        "a/2.jpg": [3.0],
        "b/1.jpg": [4.0],
        "b/deep/3.jpg": [5.25],
    }
    assert f"image folder {tmp_path}" in caplog.text
    content = json.loads(out.read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4, 5]
    assert sorted(i["id"] for i in content["images"]) == [1, 2, 3, 4, 5]
    assert {(i["width"], i["height"]) for i in content["images"]} == {(40, 30)}
    assert "b/empty.jpg" in [i["file_name"] for i in content["images"]]
    peer = COCO(out)
    assert peer.loadCats(7)[0]["keypoints"] == NAMES
    assert len(peer.getAnnIds()) == 5


def test_joints_are_matched_by_name(two, tmp_path):
    content = json.loads(two[1].read_text())
    content["annotations"][0]["keypoints"] = [1, 1, 2, 20, 20, 1, 30, 30, 2]  # head, right hand, left hand
    two[1].write_text(json.dumps(content))
    out, _ = merge_annotations(two, tmp_path / "all.json", images=[tmp_path / "a", tmp_path / "b"])
    persons = read_coco(out, tmp_path)
    person = next(p for p in persons.instances if p.image.parent.name == "b" and p.image.name == "1.jpg")
    assert np.array_equal(person.joints, [[1, 1], [30, 30], [20, 20]])
    assert np.array_equal(person.visibility, [2, 2, 1])


def test_corrected_labels_replace_earlier_ones(two, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    corrected = save_coco(tmp_path / "corrected.json", {"1.jpg": [11.0], "2.jpg": [12.0, 13.0]})
    out, account = merge_annotations([*two, corrected], tmp_path / "all.json", images=[tmp_path / n for n in "aba"])
    assert (account.persons, account.used) == (8, {"written": 5})
    assert account.left_out == {"in images that a later file labels": 3}
    assert read_positions(out, tmp_path) == {
        "b/1.jpg": [4.0],
        "b/deep/3.jpg": [5.25],
        "a/1.jpg": [11.0],
        "a/2.jpg": [12.0, 13.0],
    }
    assert "2 images: the labels of the last file with labeled persons are used" in caplog.text
    out, _ = merge_annotations([corrected, two[0]], tmp_path / "again.json", images=[tmp_path / "a"])
    assert read_positions(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}


def test_crowds_boxes_without_joints_and_empty_images_replace_nothing(two, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    later = save_coco(tmp_path / "later.json", {"1.jpg": [11.0], "2.jpg": [12.0]})
    content = json.loads(later.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["keypoints"] = [0] * 9
    later.write_text(json.dumps(content))
    out, _ = merge_annotations([two[0], later], tmp_path / "all.json", images=[tmp_path / "a"])
    assert read_positions(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}
    assert "2 images: a later file has no labeled persons" in caplog.text
    assert "of the last file" not in caplog.text
    caplog.clear()
    out, _ = merge_annotations([later, two[0]], tmp_path / "again.json", images=[tmp_path / "a"])
    assert read_positions(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}
    assert "labeled persons" not in caplog.text


def test_relative_folders(two, tmp_path, monkeypatch):
    """File names in the result stay inside its image folder, however the folders were given."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    out, _ = merge_annotations(two, Path("all.json"), images=[Path("../a"), tmp_path / "project" / ".." / "b"])
    assert read_positions(out, tmp_path) == {
        "a/1.jpg": [1.0, 2.0],
        "a/2.jpg": [3.0],
        "b/1.jpg": [4.0],
        "b/deep/3.jpg": [5.25],
    }


def test_a_link_is_the_image_that_it_points_to(two, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    corrected = save_coco(tmp_path / "corrected.json", {"1.jpg": [11.0]})
    out, _ = merge_annotations([two[0], corrected], tmp_path / "all.json", images=[tmp_path / "a", tmp_path / "c"])
    assert read_positions(out, tmp_path / "a") == {"2.jpg": [3.0], "1.jpg": [11.0]}


def test_files_that_can_not_be_merged(two, tmp_path):
    other = save_coco(tmp_path / "other.json", {"1.jpg": [1.0]}, ["head", "tail"])
    with pytest.raises(ConfigError, match=r"different joints: 'tail' only in .*other\.json, 'left_hand' and 'right_"):
        merge_annotations([two[0], other], tmp_path / "all.json", images=[tmp_path / "a"])
    with pytest.raises(ConfigError, match=r"skeleton.*coco has no joint of"):
        merge_annotations(
            [save_coco(tmp_path / "beak.json", {"1.jpg": [1.0]}, ["beak"])],
            tmp_path / "o.json",
            images=[tmp_path / "a"],
            skeleton="coco",
        )
    with pytest.raises(ConfigError, match="2 folders for 3 files"):
        merge_annotations([two[0]] * 3, tmp_path / "all.json", images=[tmp_path / "a"] * 2)
    before = shutil.copy(two[0], tmp_path / "before.json")
    with pytest.raises(ConfigError, match="is an input file"):
        merge_annotations([two[0], two[0]], two[0], images=[tmp_path / "a"])
    assert two[0].read_bytes() == Path(before).read_bytes()


def test_convert(two, tmp_path):
    out, _ = convert_annotations(two[0], tmp_path / "coco.json", images=tmp_path / "a")
    assert read_positions(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}
    with pytest.raises(ConfigError, match=r"`skeleton`: 'dog' is unknown"):
        convert_annotations(two[0], tmp_path / "x.json", images=tmp_path / "a", skeleton="dog")


@pytest.mark.parametrize("name", ["old.json", "old.csv", "data.yaml"])
def test_files_that_exist_are_not_replaced(two, tmp_path, name):
    out = tmp_path / name
    out.write_text("labels of the user")
    for write in (
        lambda: convert_annotations(two[0], out, images=tmp_path / "a"),
        lambda: merge_annotations(two, out, images=[tmp_path / "a", tmp_path / "b"]),
    ):
        with pytest.raises(ConfigError, match=rf"`out`: .*{name} exists; remove it or choose another file"):
            write()
    assert out.read_text() == "labels of the user"
    assert not (tmp_path / "labels").exists()


def test_joints_that_a_skeleton_lacks_are_named(small_people, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out, _ = convert_annotations(small_people, tmp_path / "lsp.json", images=PEOPLE / "images", skeleton="lsp")
    assert read_coco(out, PEOPLE / "images").skeleton is LSP
    assert "lsp has no nose, left_eye, right_eye, left_ear, right_ear; left out" in caplog.text


def test_parameters_of_pack_images_that_contradict_each_other(two, tmp_path):
    with pytest.raises(ConfigError, match=r"`images`: .* is a folder of images already"):
        pack_images(tmp_path / "a", tmp_path / "shards", images=tmp_path / "a")
    with pytest.raises(ConfigError, match=r"`boxes`: .* has boxes of its own"):
        pack_images(two[0], tmp_path / "shards", boxes=tmp_path / "boxes.json")


@pytest.mark.parametrize(("name", "written"), [("a.json", 4), ("a.yaml", 3), ("CollectedData_x.csv", 2)])
def test_persons_that_a_format_does_not_have_are_counted(tmp_path, name, written):
    (tmp_path / "a").mkdir()
    source = save_coco(tmp_path / "a" / "labels.json", {"1.jpg": [1.0, 2.0], "2.jpg": [3.0, 4.0]})
    for image in ("1.jpg", "2.jpg"):
        save_image(tmp_path / "a" / image)
    content = json.loads(source.read_text())
    content["annotations"][0]["keypoints"] = [0] * 9
    content["annotations"][1]["iscrowd"] = 1
    source.write_text(json.dumps(content))
    (tmp_path / "out").mkdir()
    for _, account in (
        convert_annotations(source, tmp_path / "out" / name),
        merge_annotations([source], tmp_path / "merged" / name),
    ):
        assert account.used == {"written": written}
        assert sum(account.left_out.values()) == 4 - written
