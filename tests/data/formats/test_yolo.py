"""YOLO-pose data sets: shares of the image become pixels, and a data.yaml brings its splits."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from semipose.data.checks import check_data
from semipose.data.data_config import DataConfig, open_data_file
from semipose.data.datasets import load_splits
from semipose.data.formats.coco import read_coco
from semipose.data.formats.registry import FORMATS, find_format, is_annotation_folder, read_annotations
from semipose.data.formats.yolo import split_folders, write_yolo
from semipose.errors import ConfigError, DataError
from semipose.structures.skeletons import COCO
from tests.data.formats.conftest import save_coco, save_image

CONTENT = {"path": "../gone", "train": "images/train", "val": "images/val", "kpt_shape": [2, 3], "names": ["Maus"]}
LINE = "0 0.5 0.5 0.25 0.5 0.1 0.2 2 0.3 0.4 1"


def save(folder: Path, lines: dict[str, str], **changes) -> Path:
    for name, text in lines.items():
        save_image(folder / "images" / f"{name}.jpg", (80, 40))
        labels = folder / "labels" / f"{name}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        if text:
            labels.write_text(text)
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value is not None}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    return folder / "data.yaml"


def test_splits_names_and_pixels(tmp_path):
    path = save(
        tmp_path, {"train/a": LINE, "train/b": "", "val/c": f"{LINE}\n\n{LINE}"}, kpt_names={0: ["Nase", "tail"]}
    )
    assert find_format(path) is FORMATS["yolo"]
    persons = read_annotations(path)
    assert (persons.skeleton.joints, persons.category.name, persons.category.id) == (("Nase", "tail"), "Maus", 0)
    (person,) = persons.instances
    assert person.box == (30, 10, 20, 20)
    np.testing.assert_allclose(person.joints, [[8, 8], [24, 16]])
    assert person.visibility.tolist() == [2, 1]
    assert [image.name for _, image in persons.empty_images] == ["b.jpg"]
    assert is_annotation_folder(tmp_path / "images" / "val")
    assert not is_annotation_folder(tmp_path / "images")
    assert len(read_annotations(tmp_path / "images" / "val")) == 2
    config = open_data_file(DataConfig(train=str(path)))
    assert (config.train, config.val) == (str(path), str(tmp_path / "images" / "val"))
    splits = load_splits(DataConfig(train=str(path)))
    assert (len(splits.labeled), len(splits.validation)) == (1, 2)


def test_labels_of_an_image_that_viewers_turn(tmp_path):
    """Shares of the upright 40×80 pixels become pixels of the stored 80×40, and again shares when they are written."""
    path = save(tmp_path, {"train/a": LINE})
    save_image(tmp_path / "images" / "train" / "a.jpg", (80, 40), orientation=6)
    persons = read_annotations(path)
    assert persons[0].box == (20, 15, 40, 10)
    np.testing.assert_allclose(persons[0].joints, [[16, 36], [32, 28]])
    assert "EXIF" not in check_data(path, decode=True).suspicious_kinds
    write_yolo(persons, tmp_path / "out" / "data.yaml")
    np.testing.assert_allclose(
        np.array((tmp_path / "out" / "labels" / "a.txt").read_text().split(), float), np.array(LINE.split(), float)
    )


def test_folders_of_roboflow_are_beside_the_file(tmp_path):
    path = save(tmp_path / "set", {"a": ""}, path=None, train="../train/images", val="../valid/images", test=None)
    for part in ("train", "valid"):
        save_image(tmp_path / "set" / part / "images" / "a.jpg", (80, 40))
        (tmp_path / "set" / part / "labels").mkdir()
        (tmp_path / "set" / part / "labels" / "a.txt").write_text(LINE)
    splits = load_splits(DataConfig(train=str(path)))
    assert (len(splits.labeled), len(splits.validation)) == (1, 1)
    (tmp_path / "set" / "train").rename(tmp_path / "train")  # where the file says
    assert read_annotations(path).image_paths[1].resolve() == tmp_path / "train" / "images" / "a.jpg"


def test_splits_of_several_folders(tmp_path, caplog):
    parts = {"train": ["images/a", "images/b"], "val": ["images/c", "images/d"]}
    path = save(tmp_path, {"a/1": LINE, "b/1": LINE, "c/1": LINE, "d/1": LINE}, **parts, flip_idx=[1, 0])
    config = open_data_file(DataConfig(train=str(path)))
    assert (config.train, config.val) == (str(path), None)
    assert "`val` is 2 folders and is not used" in caplog.text
    assert len(read_annotations(path)) == 2


def test_labels_may_begin_with_a_byte_order_mark(tmp_path):
    assert len(read_annotations(save(tmp_path, {"train/a": f"\ufeff{LINE}"}))) == 1


def test_two_numbers_a_joint_and_pairs(tmp_path):
    path = save(tmp_path, {"train/a": "0 .5 .5 .2 .2 .1 .2 0 0"}, kpt_shape=[2, 2], flip_idx=[1, 0])
    persons = read_annotations(path)
    assert persons[0].visibility.tolist() == [2, 0]
    assert persons.skeleton.joints == ("keypoint_1", "keypoint_2")
    assert persons.skeleton.flip_pairs == ((0, 1),)


def test_joints_that_mirror_like_those_of_coco_are(tmp_path):
    line = "0 .5 .5 .2 .2 " + ".1 .2 2 " * 17
    path = save(tmp_path, {"train/a": line}, kpt_shape=[17, 3], flip_idx=list(COCO.flip_order))
    assert read_annotations(path).skeleton.joints == COCO.joints


def test_several_classes(tmp_path):
    path = save(tmp_path, {"train/a": f"{LINE}\n1{LINE[1:]}"}, names={0: "Maus", 1: "rat"})
    from semipose.data.formats.categories import CategoryChoice

    with pytest.raises(DataError, match="several categories"):
        read_annotations(path)
    rats = read_annotations(path, category=CategoryChoice("rat"))
    assert (len(rats), rats.category.name, rats.left_out) == (1, "rat", {"of another category": 1})
    with pytest.raises(DataError, match="no person of category fox"):
        check_data(save(tmp_path, {}, names={0: "Maus", 1: "rat", 2: "fox"}), category="fox")
    both = read_annotations(path, category=CategoryChoice("all"))
    assert [p.category_id for p in both.instances] == [0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5", r"a\.txt: line 1: needs 11 numbers"),
        (LINE.replace("0.3", "x"), "needs 11 numbers"),
        (LINE.replace(" 1", " 3"), "visibility is none of"),
        (f"4{LINE[1:]}", "4 is no class"),
        ("0 .5 .5 -.2 .2 .1 .2 2 .3 .4 1", "negative size"),
        ("", "no labeled person"),
    ],
)
def test_broken_labels(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        read_annotations(save(tmp_path, {"train/a": line}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": None}, "'names'"),
        ({"flip_idx": [0, 0]}, "'flip_idx'"),
        ({"flip_idx": [0, "nan"]}, "'flip_idx'"),
        ({"flip_idx": [1.0, 0.0]}, "'flip_idx'"),
        ({"train": "a\0b"}, r"'a\\x00b' is no name of a folder"),
        ({"val": ["images/train", "../a\0b"]}, r"'\.\./a\\x00b' is no name of a folder"),
        ({"train": "train.txt"}, "list of files"),
        ({"train": None, "val": None}, "none of the keys"),
    ],
)
def test_broken_configurations(tmp_path, changes, message):
    path = save(tmp_path, {"train/a": LINE}, **changes)
    with pytest.raises(DataError, match=message):
        read_annotations(path)


def test_a_folder_of_images_beside_a_broken_configuration(tmp_path):
    save(tmp_path, {"train/a": LINE}, train="a\0b")
    with pytest.raises(DataError, match="is no name of a folder"):
        read_annotations(tmp_path / "images" / "train")
    save(tmp_path, {"train/a": LINE}, path="a\0b")
    assert len(read_annotations(tmp_path / "images" / "train")) == 1


def test_what_is_written_is_read(folder, tmp_path):
    persons = read_coco(save_coco(folder))
    assert write_yolo(persons, tmp_path / "out" / "data.yaml") == tmp_path / "out" / "images"
    again = read_annotations(tmp_path / "out" / "data.yaml")
    assert len(again) == len(persons) - 1  # the crowd
    assert again.skeleton.joints == persons.skeleton.joints
    np.testing.assert_allclose(again[0].joints, persons[0].joints)
    np.testing.assert_allclose(again[0].box, persons[0].box)
    assert split_folders(tmp_path / "out" / "data.yaml").keys() == {"train"}
    save_image(folder / "images" / "a.png")
    twice = save_coco(folder, lambda c: c["images"].append({"id": 9, "file_name": "a.png"}))
    with pytest.raises(DataError, match="share their labels"):
        write_yolo(read_coco(twice), tmp_path / "two" / "data.yaml")


def test_folders_named_images_in_the_names_are_read_again(folder, tmp_path):
    names = ["train/images/a.jpg", "val/images/a.jpg"]
    for name in names:
        save_image(folder / name)
    path = save_coco(folder, lambda c: [c["images"][n].update(file_name=name) for n, name in enumerate(names)])
    persons = read_coco(path, folder)
    write_yolo(persons, tmp_path / "out" / "data.yaml")
    again = read_annotations(tmp_path / "out" / "data.yaml")
    assert [Path(path).parts[-3] for path in again.instances.paths] == ["train", "train", "val"]


@pytest.mark.parametrize("name", ["labels/old.txt", "labels/train/old.txt", "images/train/labels/old.txt"])
def test_old_labels_are_not_mixed_with_new_ones(folder, tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).touch()
    with pytest.raises(ConfigError, match=rf"`out`: .*{name} exists, .* would mix; choose another folder"):
        write_yolo(read_coco(save_coco(folder)), out / "data.yaml")
    assert [path for path in out.rglob("*") if path.is_file()] == [out / name]


def test_other_images_of_the_same_names_are_not_replaced(folder, tmp_path):
    persons, out = read_coco(save_coco(folder)), tmp_path / "out"
    first, *_ = persons.image_paths.values()
    old = out / "images" / first.name
    old.parent.mkdir(parents=True)
    old.write_bytes(b"another image")
    with pytest.raises(ConfigError, match=rf"`out`: {old} exists and is another image than .*; choose another folder"):
        write_yolo(persons, out / "data.yaml")
    assert [path for path in out.rglob("*") if path.is_file()] == [old]
    assert old.read_bytes() == b"another image"
    shutil.copyfile(first, old)
    write_yolo(persons, out / "data.yaml")
