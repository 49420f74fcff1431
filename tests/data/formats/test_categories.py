"""Files with several categories, and categories with pairs and sigmas of their own."""

import json
import logging
import shutil

import pytest

from semipose.data.datasets import PEOPLE
from semipose.data.formats.categories import CategoryChoice
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.detections import apply_detections
from semipose.data.merge import merge
from semipose.errors import DataError
from semipose.structures.categories import Category
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.structures.skeletons import COCO

CAT_AND_DOG = Category(4, "cat + dog", (Category(4, "cat"), Category(9, "dog")))


@pytest.fixture
def animals(tmp_path):
    """A writer of six embedded persons, every second a `dog` (id 9) and the others a `cat` (id 4)."""
    write_coco(read_coco(PEOPLE / "val.json", PEOPLE / "images").subset(range(6)), tmp_path / "animals.json")
    content = json.loads((tmp_path / "animals.json").read_text())
    (joints,) = content["categories"]
    content["categories"] = [{**joints, "id": 4, "name": "cat"}, {**joints, "id": 9, "name": "dog"}]
    for n, record in enumerate(content["annotations"]):
        record["category_id"] = (4, 9)[n % 2]

    def write(change=lambda content: None):
        changed = json.loads(json.dumps(content))
        change(changed)
        (tmp_path / "animals.json").write_text(json.dumps(changed))
        return tmp_path / "animals.json"

    return write


def read(path, name=None, **options):
    return read_coco(path, PEOPLE / "images", category=CategoryChoice(name), **options)


def test_several_categories_need_a_choice(animals, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(DataError, match=r"cat \(id 4\), dog \(id 9\); name one as `category`"):
        read(animals())
    with pytest.raises(DataError, match=r"no category 'dgo'.*did you mean 'dog'"):
        read(animals(), "dgo")
    assert not caplog.records
    dogs = read(animals(), "dog")
    assert (len(dogs), dogs.category) == (3, Category(9, "dog"))
    assert "category dog of cat (id 4), dog (id 9)" in caplog.text
    both = read(animals(), "all")
    assert (len(both), both.category) == (6, CAT_AND_DOG)
    assert "read as one" in caplog.text
    assert read(animals(), "cat + dog").category == CAT_AND_DOG  # what a network that was trained on both asks for


@pytest.mark.parametrize(("first", "name"), [("cat", "animal"), ("person", "person")])
def test_many_categories_that_are_read_as_one(animals, first, name):
    def change(content):
        joints, _ = content["categories"]
        content["categories"] = [{**joints, "id": n, "name": c} for n, c in enumerate((first, "b", "c", "d"), 4)]
        content["annotations"] = content["annotations"][:1]

    assert read(animals(change), "all").category.name == name


def test_the_only_category_with_annotations_is_read(animals):
    found = read(animals(lambda c: [r.update(category_id=9) for r in c["annotations"]]))
    assert found.category == Category(9, "dog")


def test_boxes_of_all_categories_are_read_without_a_choice(animals):
    assert len(read(animals(), labels=False, skeleton=COCO)) == 6
    assert len(read(animals(), "dog", labels=False, skeleton=COCO)) == 3


def test_category_survives_everything_that_changes_a_set(animals, tmp_path):
    dogs = read(animals(), "dog")
    for changed in (dogs.subset([0]), dogs.usable(), dogs.without_labels(), dogs.concat(dogs), dogs.trainable()):
        assert changed.category == dogs.category
    shutil.copytree(PEOPLE / "images", tmp_path / "images")
    write_coco(dogs, tmp_path / "again.json")
    assert read(tmp_path / "again.json").category == dogs.category


def test_persons_keep_their_own_category(animals, tmp_path):
    path = animals()
    own = [4, 9] * 3
    both = read(path, "all")
    for changed in (both, both.without_labels(), both.usable(), both.concat(both).subset(range(6))):
        assert [changed.category_id_of(p) for p in changed.instances] == own
    assert [p.category_id for p in ground_truth_as_predictions(both)] == own
    shutil.copytree(PEOPLE / "images", tmp_path / "images")
    write_coco(both, tmp_path / "again.json")
    content = json.loads((tmp_path / "again.json").read_text())
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(4, "cat"), (9, "dog")]
    assert [r["category_id"] for r in content["annotations"]] == own
    assert read(tmp_path / "again.json", "all").category == CAT_AND_DOG


def test_merged_persons_get_the_category_of_their_name(animals, tmp_path):
    first = read(animals(), "all")

    def change(content):
        content["categories"][0]["name"] = "dog"
        content["categories"][1]["name"] = "horse"

    second = read(animals(change), "all")
    merged = merge([first.subset(range(3)), second.subset(range(3, 6))]).persons
    assert merged.category == CAT_AND_DOG
    assert [merged.category_id_of(p) for p in merged.instances] == [4, 9, 4, 4, 9, 4]  # horses become the first: cats


def test_detections_keep_their_own_category(animals, tmp_path):
    both = read(animals(), "all")
    boxes = [
        {"image_id": p.image_id, "category_id": category, "bbox": list(p.box), "score": 1}
        for p, category in zip(both.instances, ("4", 9, "Dog", 9, 4, 7), strict=True)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    found = apply_detections(both, tmp_path / "boxes.json")
    assert [found.category_id_of(p) for p in found.instances] == [4, 9, 9, 9, 4]
    assert found.left_out["boxes of another category"] == 1


def test_pairs_and_sigmas_of_the_category(animals, tmp_path):
    def change(content):
        for category in content["categories"]:
            category |= {"flip_pairs": [["left_eye", "right_eye"]], "sigmas": {"nose": 0.5}}

    found = read(animals(change), "cat")
    assert found.skeleton.flip_pairs == ((1, 2),)
    assert found.skeleton.sigmas == (0.5, *COCO.sigmas[1:])
    write_coco(found, tmp_path / "again.json")
    assert read(tmp_path / "again.json").skeleton == found.skeleton
    numbers = [0.01] * 17
    assert read(animals(lambda c: c["categories"][0].update(sigmas=numbers)), "cat").skeleton.sigmas == (0.01,) * 17


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip_pairs": [[1, 2]]}, "'flip_pairs'.*joint names"),
        ({"flip_pairs": [["left_eye", "right_eyes"]]}, "did you mean 'right_eye'"),
        ({"sigmas": [0.1]}, "'sigmas'"),
    ],
)
def test_wrong_properties_of_the_category(animals, changes, message):
    with pytest.raises(DataError, match=message):
        read(animals(lambda c: c["categories"][0].update(changes)), "cat")
