"""`semipose data check` and `convert`: all that is broken, in one reading."""

import json

import pytest
from PIL import Image

from semipose.cli import app
from semipose.data.checks import check_data
from semipose.data.formats.registry import read_annotations
from semipose.data.prepare import convert
from semipose.errors import ConfigError, DataError
from semipose.structures.skeletons import UNION
from semipose.trainer import train


@pytest.fixture
def coco(tmp_path):
    """A container of ten persons of two joints; `spoil` changes annotations by number."""

    def make(spoil=None):
        for name in ("a.jpg", "b.jpg"):
            Image.new("RGB", (20, 20)).save(tmp_path / name)
        records = [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10 + i, 10], "keypoints": [1, 1, 2, 3, 3, i % 2]}
            for i in range(10)
        ]
        for number, change in (spoil or {}).items():
            records[number].update(change)
        content = {
            "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
            "annotations": records,
            "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye"]}],
        }
        path = tmp_path / "set.json"
        path.write_text(json.dumps(content))
        return path

    return make


def test_a_sound_set(coco):
    found = check_data(coco(), decode=True)
    assert (found.persons, found.trainable, found.crowds, found.images, found.empty_images) == (10, 10, 0, 2, 1)
    assert found.joints == {"nose": (10, 0, 0), "left_eye": (0, 5, 5)}
    assert found.box_sides == (10, 14.5, 19)
    assert found.problems == ()


def test_every_broken_record_is_listed(coco, tmp_path):
    path = coco(
        {
            1: {"keypoints": [1, 1, 2]},
            3: {"bbox": [0, 0, -1, 5]},
            4: {"id": 0},
            6: {"image_id": 77},
            7: {"keypoints": [1, 1, 5, 0, 0, 0]},
            8: {"bbox": [0, 0, 0, 5]},
        }
    )
    (tmp_path / "b.jpg").write_bytes(b"no image")
    found = check_data(path, decode=True)
    assert found.persons == 5
    text = "\n".join(found.problems)
    for part in (
        "annotation 1: needs 6",
        "annotation 3: 'bbox'",
        "annotation 0: the id",
        "id 77",
        "annotation 7",
        "b.jpg",
    ):
        assert part in text
    assert "annotation 8: the box has no area" in text
    assert len(found.problems) == 7
    with pytest.raises(DataError, match="annotation 1"):
        read_annotations(path)  # a training stays strict
    (tmp_path / "b.jpg").unlink()
    assert any("b.jpg is missing" in problem for problem in check_data(path).problems)


def test_the_command_exits_with_2(coco, capsys):
    path = coco()
    app(["data", "check", str(path)], standalone_mode=False)
    assert "no broken record" in capsys.readouterr().out
    code = app(["data", "check", str(coco({2: {"bbox": [1]}})), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert code == 2
    assert found["persons"] == 9
    assert "annotation 2" in found["problems"][0]


def test_photographs_stored_turned_are_counted(coco, tmp_path, capsys):
    path = coco()
    with Image.open(tmp_path / "a.jpg") as image:
        turned = image.getexif()
        turned[0x0112] = 6
        image.save(tmp_path / "a.jpg", exif=turned)
    assert check_data(path).turned is None
    assert check_data(path, decode=True).turned == 1
    app(["data", "check", str(path), "--decode"], standalone_mode=False)
    assert "1 image stored turned" in capsys.readouterr().out


def test_convert(coco, tmp_path):
    out = tmp_path / "union.json"
    convert(coco(), out, skeleton="union")
    persons = read_annotations(out, tmp_path)
    assert persons.skeleton is UNION
    assert persons[1].visibility[UNION.index("left_eye")] == 1
    assert len(persons) == 10
    with pytest.raises(ConfigError, match="unknown skeleton 'dog'"):
        convert(coco(), out, skeleton="dog")


def test_photographs_that_two_sets_share_are_found_by_content(coco, tmp_path, capsys):
    path = coco()
    (tmp_path / "test").mkdir()
    other = {**json.loads(path.read_text()), "images": [{"id": 1, "file_name": "renamed.jpg"}]}
    (tmp_path / "test" / "set.json").write_text(json.dumps(other))
    photograph = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "test" / "renamed.jpg").write_bytes(photograph)
    found = check_data(tmp_path / "test" / "set.json", against=path)
    assert [p for p in found.problems if "is also in" in p and "renamed.jpg" in p and "a.jpg" in p]
    (tmp_path / "test" / "renamed.jpg").write_bytes(photograph[:-1] + b"x")  # the same size, another content
    assert check_data(tmp_path / "test" / "set.json", against=path).problems == ()
    app(["data", "check", str(tmp_path / "test" / "set.json"), "--against", str(path)], standalone_mode=False)
    assert "no photograph in common" in capsys.readouterr().out


def test_what_looks_wrong_is_told_where_images_are_opened(small_people, capsys):
    from semipose.data.datasets import PEOPLE

    content = json.loads(small_people.read_text())
    assert check_data(small_people, PEOPLE / "images", decode=True).doubts == ()
    first, second, third = content["annotations"][:3]
    first["keypoints"][:3] = [99999, 3, 2]
    second["bbox"] = [5000, 5000, 10, 10]
    third["keypoints"][:3] = [99999, 3, 0]  # not labeled
    image = content["images"][4]
    image["width"] += 7
    small_people.write_text(json.dumps(content))
    assert check_data(small_people, PEOPLE / "images").doubts == ()
    found = check_data(small_people, PEOPLE / "images", decode=True)
    sizes = {i["id"]: f"{i['width']}×{i['height']}" for i in content["images"]}
    told, real = f"{image['width']}×{image['height']}", f"{image['width'] - 7}×{image['height']}"
    assert found.doubts == (
        f"image {image['id']} is {real} pixels, its record says {told}: were joints set on another?",
        f"annotation {first['id']}: nose (99999, 3) outside of its image of {sizes[first['image_id']]}",
        f"annotation {second['id']}: the box [5000, 5000, 10, 10] lies outside of its image of "
        f"{sizes[second['image_id']]}",
    )
    assert found.problems == ()
    app(["data", "check", str(small_people), "--images", str(PEOPLE / "images"), "--decode"], standalone_mode=False)
    assert "doubtful: annotation" in capsys.readouterr().out


def test_a_wrong_folder_is_told_first(small_people, tmp_path):
    from semipose.data.datasets import PEOPLE

    (tmp_path / "wrong").mkdir()
    persons = read_annotations(small_people, PEOPLE / "images")
    (tmp_path / "wrong" / persons[0].image.name).symlink_to(persons[0].image)
    found = check_data(small_people, tmp_path / "wrong")
    assert found.problems[0] == "59 of 60 images are missing: is --images the right folder?"


def test_few_persons_for_validation_are_told(tiny, tmp_path, capsys):
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "few")
    assert "8 persons for validation: too few to choose weights by" in capsys.readouterr().err
    train(tiny("supervised", **{"train.steps": 1, "train.select": "last"}), tmp_path / "last")
    assert "too few" not in capsys.readouterr().err
    train(tiny("supervised", **{"train.steps": 1, "data.validation": 10}), tmp_path / "enough")
    assert "too few" not in capsys.readouterr().err


def test_conversion_tells_joints_that_are_lost(small_people, tmp_path, capsys):
    from semipose.data.datasets import PEOPLE

    convert(small_people, tmp_path / "lsp.json", images=PEOPLE / "images", skeleton="lsp")
    assert "lsp has no nose, left_eye, right_eye, left_ear, right_ear; left out" in capsys.readouterr().err


def test_a_run_names_joints_that_nobody_shows(tiny, small_people, tmp_path, capsys):
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "all")
    assert "no labeled person shows" not in capsys.readouterr().err
    content = json.loads(small_people.read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"][:3] = [0, 0, 0]
    small_people.write_text(json.dumps(content))
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "fewer")
    assert "no labeled person shows nose: what" in capsys.readouterr().err
