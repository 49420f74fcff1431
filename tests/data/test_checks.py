"""`check_data` reports all broken records and suspicious labels at once."""

import json

import pytest
from PIL import Image

from semipose.cli import app
from semipose.data.checks import check_data
from semipose.data.datasets import PEOPLE
from semipose.data.formats.registry import read_annotations
from semipose.errors import ConfigError, DataError


def test_a_correct_data_set(coco):
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
    (tmp_path / "b.jpg").write_bytes(b"not an image")
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
    assert len(found.problems) == found.problem_count == 7
    with pytest.raises(DataError, match="annotation 1"):
        read_annotations(path)  # without a list of problems the first one is an error
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


def test_images_with_exif_orientation_are_counted(coco, tmp_path):
    path = coco()
    with Image.open(tmp_path / "a.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "a.jpg", exif=exif)
    assert check_data(path).rotated_images is None
    assert check_data(path, decode=True).rotated_images == 1


def test_images_that_two_sets_share_are_found_by_content(coco, tmp_path):
    path = coco()
    (tmp_path / "test").mkdir()
    other = {**json.loads(path.read_text()), "images": [{"id": 1, "file_name": "renamed.jpg"}]}
    (tmp_path / "test" / "set.json").write_text(json.dumps(other))
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "test" / "renamed.jpg").write_bytes(content)
    found = check_data(tmp_path / "test" / "set.json", against=path)
    assert [p for p in found.problems if "is also in" in p and "renamed.jpg" in p and "a.jpg" in p]
    (tmp_path / "test" / "renamed.jpg").write_bytes(content[:-1] + b"x")  # the same size, another content
    found = check_data(tmp_path / "test" / "set.json", against=path)
    assert (found.problems, found.shared_images) == ((), 0)
    assert check_data(path).shared_images is None
    with pytest.raises(ConfigError, match="`against_images`"):
        check_data(path, against_images=tmp_path)


def test_a_wrong_image_folder_is_one_problem_that_counts_its_images(small_people, tmp_path):
    (tmp_path / "wrong").mkdir()
    persons = read_annotations(small_people, PEOPLE / "images")
    (tmp_path / "wrong" / persons[0].image.name).symlink_to(persons[0].image)
    found = check_data(small_people, tmp_path / "wrong")
    assert len(found.problems) == 1
    assert found.problems[0].startswith("59 of 60 images are missing (")
    assert found.problems[0].endswith(", …); is `images` the right folder?")
    assert found.problem_count == 59
