"""Leakage: images that a training used are found by content, under any name."""

import json

import pytest

from semipose.data.leakage import (
    TrainingImages,
    describe_leakage,
    digest_files,
    find_training_images,
    image_paths,
    read_training_images,
    shared_images,
)
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO

USED = TrainingImages(labeled=("a", "b"), unlabeled=("c",), validation=("d",))


def test_images_are_counted_by_purpose(tmp_path):
    assert USED.count(["a", "c", "x", "x"]) == {"labeled": 1, "unlabeled": 1, "validation": 0, "of": 3}
    both = USED.union(TrainingImages(("b", "e"), (), ("a",)))
    assert both == TrainingImages(("a", "b", "e"), ("c",), ("a", "d"))
    assert USED.unused({tmp_path / "1": "a", tmp_path / "2": "x"}) == [tmp_path / "2"]


def test_a_run_folder_holds_the_digests(tmp_path):
    USED.write(tmp_path)
    assert set(json.loads((tmp_path / "images.json").read_text())) == {"labeled", "unlabeled", "validation"}
    assert read_training_images(tmp_path) == USED
    for path in (tmp_path, tmp_path / "best.safetensors", tmp_path / "weights" / "f.safetensors"):
        assert find_training_images(path) == USED


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"labeled": 3, "unlabeled": [], "validation": []}'])
def test_missing_and_broken_files_mean_unknown(tmp_path, content):
    if content is not None:
        (tmp_path / "images.json").write_text(content)
    assert find_training_images(tmp_path / "best.safetensors") is None


def test_descriptions_name_what_was_used():
    assert describe_leakage(USED.count("xy")) == "none of its 2 images was used in training"
    assert describe_leakage(USED.count("abdx")) == (
        "LEAKAGE: of 4 images 2 were trained on with labels, 1 were validation images"
    )
    assert "not known" in describe_leakage(None)


def test_shared_images_have_the_same_content(tmp_path):
    content = {"a/1": b"one", "a/2": b"two", "a/3": b"", "b/renamed": b"one", "b/other": b"owt", "b/empty": b""}
    for name, value in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(value)
    first, second = ([tmp_path / name for name in content if name[0] == folder] for folder in "ab")
    assert shared_images([*first, tmp_path / "gone"], [*second, tmp_path / "away"]) == [(first[0], second[0])]
    assert len(digest_files([*first, *first, tmp_path / "gone"])) == 2
    assert digest_files([first[0]]) == digest_files([second[0]])


def test_every_image_of_a_set_is_listed_once(tmp_path):
    persons = [Instance(tmp_path / name, name, n, (0.0, 0.0, 9.0, 9.0)) for n, name in enumerate("aab")]
    dataset = PoseDataset(COCO, persons, "set", (("c", tmp_path / "c"), ("b2", tmp_path / "b")))
    assert image_paths(dataset) == [tmp_path / name for name in "abc"]
