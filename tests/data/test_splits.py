"""Splits: sizes, disjointness, nesting, reproducibility, and the saved file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semipose.data.formats.coco import read_coco
from semipose.data.splits import keep_labels, load_split
from semipose.errors import ConfigError, DataError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO

PEOPLE = Path(__file__).parents[2] / "src" / "semipose" / "people"


def people(count: int, first: int = 100) -> PoseDataset:
    """`count` labeled persons with annotation ids from `first`."""
    joints, visibility = np.ones((17, 2)), np.full(17, 2)
    persons = [Instance(Path(f"{i}.jpg"), i, first + i, (0.0, 0.0, 9.0, 9.0), joints, visibility) for i in range(count)]
    return PoseDataset(COCO, tuple(persons), "drawn")


@st.composite
def requests(draw) -> tuple[int, int | None, int, int]:
    """(persons, labels, validation, seed) that can be met."""
    count = draw(st.integers(2, 60))
    validation = draw(st.integers(0, count - 1))
    labels = draw(st.none() | st.integers(1, count - validation))
    return count, labels, validation, draw(st.integers(0, 2**32))


@given(requests(), st.booleans())
def test_parts(request_, including):
    count, labels, validation, seed = request_
    persons = people(count)
    split = keep_labels(persons, labels, seed=seed, validation=validation, unlabeled_includes_labeled=including)
    labeled, unlabeled, held_out = set(split.labeled), set(split.unlabeled), set(split.validation)
    assert len(labeled) == len(split.labeled) == (count - validation if labels is None else labels)
    assert len(held_out) == len(split.validation) == validation
    assert len(unlabeled) == len(split.unlabeled)
    assert not held_out & (labeled | unlabeled)
    assert labeled | unlabeled | held_out == set(range(count))
    assert labeled <= unlabeled if including else not labeled & unlabeled
    again = keep_labels(persons, labels, seed=seed, validation=validation, unlabeled_includes_labeled=including)
    assert split == again
    assert split.hash == again.hash


@given(requests(), st.data())
def test_smaller_choice_is_part_of_larger(request_, data):
    count, labels, validation, seed = request_
    larger = keep_labels(people(count), labels, seed=seed, validation=validation)
    fewer = data.draw(st.integers(1, len(larger.labeled)))
    smaller = keep_labels(people(count), fewer, seed=seed, validation=validation)
    assert set(smaller.labeled) <= set(larger.labeled)
    assert smaller.validation == larger.validation


def test_nested_whatever_the_validation():
    smaller = keep_labels(people(200), 20, seed=0, validation=2)
    larger = keep_labels(people(200), 40, seed=0, validation=4)
    assert set(smaller.labeled) <= set(larger.labeled)


def test_seeds_differ():
    assert keep_labels(people(200), 20, seed=0).labeled != keep_labels(people(200), 20, seed=1).labeled


@pytest.mark.parametrize("labels", [0, -1, 11])
def test_too_many_or_too_few(labels):
    with pytest.raises(ConfigError, match="10"):
        keep_labels(people(10), labels, seed=0)


def test_validation_takes_its_part():
    with pytest.raises(ConfigError, match="validation"):
        keep_labels(people(10), 8, seed=0, validation=3)
    with pytest.raises(ConfigError, match="validation"):
        keep_labels(people(10), None, seed=0, validation=10)


def test_nobody_is_learned_from_beside_somebody_held_out():
    three_each = people(60)
    image = np.arange(60, dtype=np.int32) // 3
    columns = replace(three_each.instances, images=tuple((i, f"{i}.jpg") for i in range(20)), image_index=image)
    crowd = PoseDataset(COCO, columns, "groups")
    split = keep_labels(crowd, 12, seed=3, validation=6)
    held = {int(image[i]) for i in split.validation}
    assert not held & {int(image[i]) for i in (*split.labeled, *split.unlabeled)}
    assert len(split.labeled) == 12
    assert len(split.validation) == 6
    with pytest.raises(ConfigError, match="photographs other than those"):
        keep_labels(crowd, 50, seed=3, validation=10)


def test_only_trainable_persons_keep_labels():
    plain = people(10)
    unlabeled = plain.subset([0]).without_labels()
    split = keep_labels(plain.subset(range(1, 10)).concat(unlabeled), None, seed=0)
    assert 9 not in split.labeled


def test_hash_depends_on_content():
    split = keep_labels(people(50), 10, seed=0)
    assert len(split.hash) == 12
    assert set(split.hash) <= set("0123456789abcdef")
    others = [
        keep_labels(people(50), 11, seed=0),
        keep_labels(people(50), 10, seed=1),
        keep_labels(people(50), 10, seed=0, validation=1),
        keep_labels(people(50, first=500), 10, seed=0),
    ]
    assert len({split.hash, *(o.hash for o in others)}) == 5


def test_saved_and_loaded(tmp_path):
    split = keep_labels(people(50), 10, seed=3, validation=5)
    split.save(tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split


def test_changed_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    keep_labels(people(50), 10, seed=3).save(path)
    content = json.loads(path.read_text())
    content["labeled"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed"):
        load_split(path)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"hash": 3}', '{"hash": "a", "labeled": 1, "more": 2}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"split\.json"):
        load_split(path)


def test_embedded_people():
    persons = read_coco(PEOPLE / "train.json")
    split = keep_labels(persons, 100, seed=0, validation=10)
    assert (len(split.labeled), len(split.unlabeled), len(split.validation)) == (100, 1588, 10)
