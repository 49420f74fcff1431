"""Several annotation files as one: every person once, in its photograph, whatever ids the files had."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from semipose.data.formats.coco import read_coco
from semipose.data.prepare import join
from semipose.errors import ConfigError

NAMES = ["head", "left_hand", "right_hand"]


def photograph(path: Path, size=(40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 9, 9)).save(path)


def container(path: Path, people: dict[str, list[float]], names=NAMES, empty=()) -> Path:
    """One person a photograph, whose joints all lie at one x; ids start at 1 in every file."""
    images = [{"id": n, "file_name": name} for n, name in enumerate([*people, *empty], start=1)]
    annotations = []
    for n, (_, xs) in enumerate(people.items(), start=1):
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
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/deep/3.jpg", "b/nobody.jpg"):
        photograph(tmp_path / name)
    first = container(tmp_path / "first.json", {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]})
    turned = [NAMES[0], NAMES[2], NAMES[1]]
    second = container(tmp_path / "second.json", {"1.jpg": [4.0], "deep/3.jpg": [5.25]}, turned, ["nobody.jpg"])
    return first, second


def found(path: Path, root: Path) -> dict[str, list[float]]:
    persons = read_coco(path, root)
    people: dict[str, list[float]] = {}
    for person in persons.instances:
        people.setdefault(person.image.relative_to(root).as_posix(), []).append(float(person.joints[0, 0]))
    return people


def test_every_person_stays_in_its_photograph(two, tmp_path, capsys):
    out = join(two, tmp_path / "all.json", images=[tmp_path / "a", tmp_path / "b"])
    assert found(out, tmp_path) == {"a/1.jpg": [1.0, 2.0], "a/2.jpg": [3.0], "b/1.jpg": [4.0], "b/deep/3.jpg": [5.25]}
    assert str(tmp_path) in capsys.readouterr().err
    content = json.loads(out.read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4, 5]
    assert sorted(i["id"] for i in content["images"]) == [1, 2, 3, 4, 5]
    assert {(i["width"], i["height"]) for i in content["images"]} == {(40, 30)}
    assert "b/nobody.jpg" in [i["file_name"] for i in content["images"]]
    peer = COCO(out)
    assert peer.loadCats(1)[0]["keypoints"] == NAMES
    assert len(peer.getAnnIds()) == 5


def test_joints_are_taken_by_name(two, tmp_path):
    content = json.loads(two[1].read_text())
    content["annotations"][0]["keypoints"] = [1, 1, 2, 20, 20, 1, 30, 30, 2]  # head, right hand, left hand
    two[1].write_text(json.dumps(content))
    out = join(two, tmp_path / "all.json", images=[tmp_path / "a", tmp_path / "b"])
    persons = read_coco(out, tmp_path)
    person = next(p for p in persons.instances if p.image.parent.name == "b" and p.image.name == "1.jpg")
    assert np.array_equal(person.joints, [[1, 1], [30, 30], [20, 20]])
    assert np.array_equal(person.visibility, [2, 2, 1])


def test_corrected_photographs_replace_the_ones_before(two, tmp_path, capsys):
    corrected = container(tmp_path / "corrected.json", {"1.jpg": [11.0], "2.jpg": [12.0, 13.0]})
    out = join([*two, corrected], tmp_path / "all.json", images=[tmp_path / n for n in "aba"])
    assert found(out, tmp_path) == {
        "b/1.jpg": [4.0],
        "b/deep/3.jpg": [5.25],
        "a/1.jpg": [11.0],
        "a/2.jpg": [12.0, 13.0],
    }
    assert "of 2 photographs with labeled people in several files those of the last count" in capsys.readouterr().err
    out = join([corrected, two[0]], tmp_path / "all.json", images=[tmp_path / "a"])
    assert found(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}


def test_crowds_boxes_without_joints_and_empty_photographs_replace_nobody(two, tmp_path, capsys):
    later = container(tmp_path / "later.json", {"1.jpg": [11.0], "2.jpg": [12.0]})
    content = json.loads(later.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["keypoints"] = [0] * 9
    later.write_text(json.dumps(content))
    out = join([two[0], later], tmp_path / "all.json", images=[tmp_path / "a"])
    assert found(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}
    told = capsys.readouterr().err
    assert "in 2 photographs where a later file labels nobody the people of an earlier one stay" in told
    assert "several files" not in told
    out = join([later, two[0]], tmp_path / "all.json", images=[tmp_path / "a"])
    assert found(out, tmp_path / "a") == {"1.jpg": [1.0, 2.0], "2.jpg": [3.0]}
    assert "photographs" not in capsys.readouterr().err


def test_folders_beside_and_above(two, tmp_path, monkeypatch):
    """Names in a container are relative and lead nowhere else, however the folders were given."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    out = join(two, Path("all.json"), images=[Path("../a"), tmp_path / "project" / ".." / "b"])
    assert found(out, tmp_path) == {"a/1.jpg": [1.0, 2.0], "a/2.jpg": [3.0], "b/1.jpg": [4.0], "b/deep/3.jpg": [5.25]}


def test_a_link_is_the_photograph_it_leads_to(two, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    corrected = container(tmp_path / "corrected.json", {"1.jpg": [11.0]})
    out = join([two[0], corrected], tmp_path / "all.json", images=[tmp_path / "a", tmp_path / "c"])
    assert found(out, tmp_path / "a") == {"2.jpg": [3.0], "1.jpg": [11.0]}


def test_what_can_not_be_joined(two, tmp_path):
    other = container(tmp_path / "other.json", {"1.jpg": [1.0]}, ["head", "tail"])
    with pytest.raises(ConfigError, match=r"different joints \(one of them: left_hand\).*--skeleton"):
        join([two[0], other], tmp_path / "all.json", images=[tmp_path / "a"])
    with pytest.raises(ConfigError, match="--skeleton: coco has no joint of"):
        join(
            [container(tmp_path / "beak.json", {"1.jpg": [1.0]}, ["beak"])],
            tmp_path / "o.json",
            images=[tmp_path / "a"],
            skeleton="coco",
        )
    with pytest.raises(ConfigError, match="2 folders for 3 files"):
        join([two[0]] * 3, tmp_path / "all.json", images=[tmp_path / "a"] * 2)
    before = shutil.copy(two[0], tmp_path / "before.json")
    with pytest.raises(ConfigError, match="is what is read"):
        join([two[0], two[0]], two[0], images=[tmp_path / "a"])
    assert two[0].read_bytes() == Path(before).read_bytes()
