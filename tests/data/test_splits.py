"""Splits: sizes, disjointness, nesting, reproducibility, and the saved file."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semipose.data.data_config import DataConfig
from semipose.data.datasets import load_splits
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_writer import write_coco
from semipose.data.splits import draw_at_most, draw_split, fingerprint
from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO
from tests.data.test_clips import write_frames

PEOPLE = Path(__file__).parents[2] / "src" / "semipose" / "people"


def labeled_persons(count: int, first: int = 100) -> PoseDataset:
    """`count` labeled persons with annotation ids from `first`."""
    joints, visibility = np.ones((17, 2)), np.full(17, 2)
    persons = [Instance(Path(f"{i}.jpg"), i, first + i, (0.0, 0.0, 9.0, 9.0), joints, visibility) for i in range(count)]
    return PoseDataset(COCO, tuple(persons), "drawn")


@st.composite
def requests(draw) -> tuple[int, int | None, int, int]:
    """(persons, labels, validation, seed) that is possible."""
    count = draw(st.integers(2, 60))
    validation = draw(st.integers(0, count - 1))
    labels = draw(st.none() | st.integers(1, count - validation))
    return count, labels, validation, draw(st.integers(0, 2**32))


@given(requests(), st.booleans())
def test_parts(request_, including):
    count, labels, validation, seed = request_
    persons = labeled_persons(count)
    split = draw_split(persons, labels, seed=seed, validation=validation, unlabeled_includes_labeled=including)
    labeled, unlabeled, held_out = set(split.labeled), set(split.unlabeled), set(split.validation)
    assert len(labeled) == len(split.labeled) == (count - validation if labels is None else labels)
    assert len(held_out) == len(split.validation) == validation
    assert len(unlabeled) == len(split.unlabeled)
    assert not held_out & (labeled | unlabeled)
    assert labeled | unlabeled | held_out == set(range(count))
    assert labeled <= unlabeled if including else not labeled & unlabeled
    again = draw_split(persons, labels, seed=seed, validation=validation, unlabeled_includes_labeled=including)
    assert split == again
    assert split.hash == again.hash


@given(requests(), st.data())
def test_smaller_choice_is_part_of_larger(request_, data):
    count, labels, validation, seed = request_
    larger = draw_split(labeled_persons(count), labels, seed=seed, validation=validation)
    fewer = data.draw(st.integers(1, len(larger.labeled)))
    smaller = draw_split(labeled_persons(count), fewer, seed=seed, validation=validation)
    assert set(smaller.labeled) <= set(larger.labeled)
    assert smaller.validation == larger.validation


def test_nested_whatever_the_validation():
    smaller = draw_split(labeled_persons(200), 20, seed=0, validation=2)
    larger = draw_split(labeled_persons(200), 40, seed=0, validation=4)
    assert set(smaller.labeled) <= set(larger.labeled)


def test_seeds_differ():
    assert draw_split(labeled_persons(200), 20, seed=0).labeled != draw_split(labeled_persons(200), 20, seed=1).labeled


@pytest.mark.parametrize("labels", [0, -1, 11])
def test_too_many_or_too_few(labels):
    with pytest.raises(ConfigError, match="10"):
        draw_split(labeled_persons(10), labels, seed=0)


def test_held_out_persons_are_not_available():
    with pytest.raises(ConfigError, match="validation"):
        draw_split(labeled_persons(10), 8, seed=0, validation=3)
    with pytest.raises(ConfigError, match="validation"):
        draw_split(labeled_persons(10), None, seed=0, validation=10)


def test_persons_in_images_of_held_out_ones_take_no_part():
    dataset = labeled_persons(60)
    image = np.arange(60, dtype=np.int32) // 3
    columns = replace(dataset.instances, images=tuple((i, f"{i}.jpg") for i in range(20)), image_index=image)
    groups = PoseDataset(COCO, columns, "groups")
    split = draw_split(groups, 12, seed=3, validation=6)
    held = {int(image[i]) for i in split.validation}
    assert not held & {int(image[i]) for i in (*split.labeled, *split.unlabeled)}
    assert len(split.labeled) == 12
    assert len(split.validation) == 6
    assert len(held) == 2, "whole images are held out"
    assert len(draw_split(groups, None, seed=3, validation=6).labeled) == 54, "so no label is lost"
    with pytest.raises(ConfigError, match="other images than those"):
        draw_split(groups, 50, seed=3, validation=10)
    with pytest.raises(ConfigError, match=r"`data.validation`: .* has 0 labeled persons in other .*; set a smaller"):
        draw_split(groups, None, seed=0, validation=59)


@pytest.mark.parametrize("copied", [False, True])
def test_persons_in_copies_of_held_out_images_take_no_part(tmp_path, copied):
    """Each image has two ids, of one file or of two files with the same content."""
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(bytes([number % 10] * (50 + number // 5 % 2)) if copied else b"same")
    plain = labeled_persons(20)
    paths = [tmp_path / f"{i}.jpg" if copied else Path(f"{i % 10}.jpg") for i in range(20)]
    contents = [path.read_bytes() if copied else path for path in paths]
    dataset = PoseDataset(COCO, [replace(p, image=path) for p, path in zip(plain.instances, paths, strict=True)], "two")
    split = draw_split(dataset, 8, seed=1, validation=4)
    held_out = {contents[i] for i in split.validation}
    assert not held_out & {contents[i] for i in (*split.labeled, *split.unlabeled)}
    assert (len(split.labeled), len(split.validation)) == (8, 4)
    if copied:
        assert split.validation == draw_split(plain, 8, seed=1, validation=4).validation
    else:
        assert len(held_out) == 2, "both persons of a file are held out"


def test_persons_in_images_that_roboflow_made_of_held_out_ones_take_no_part():
    """Three images are made of one; the third copy of the last one has no room in the validation of five."""
    names = [f"{n // 3}_jpg.rf.{n:032x}.jpg" for n in range(30)]
    persons = [replace(p, image=Path(name)) for p, name in zip(labeled_persons(30).instances, names, strict=True)]
    split = draw_split(PoseDataset(COCO, persons, "augmented"), None, seed=0, validation=5)
    assert not {i // 3 for i in split.validation} & {i // 3 for i in (*split.labeled, *split.unlabeled)}
    assert (len(split.validation), len(split.labeled)) == (5, 24)


def test_only_trainable_persons_keep_labels():
    plain = labeled_persons(10)
    unlabeled = plain.subset([0]).without_labels()
    split = draw_split(plain.subset(range(1, 10)).concat(unlabeled), None, seed=0)
    assert 9 not in split.labeled


def test_hash_depends_on_content():
    split = draw_split(labeled_persons(50), 10, seed=0)
    assert len(split.hash) == 12
    assert set(split.hash) <= set("0123456789abcdef")
    others = [
        draw_split(labeled_persons(50), 11, seed=0),
        draw_split(labeled_persons(50), 10, seed=1),
        draw_split(labeled_persons(50), 10, seed=0, validation=1),
        draw_split(labeled_persons(50, first=500), 10, seed=0),
    ]
    assert len({split.hash, *(o.hash for o in others)}) == 5


def test_the_saved_file_holds_the_split_and_its_hash(tmp_path):
    split = draw_split(labeled_persons(50), 10, seed=3, validation=5)
    split.save(tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["hash"] == split.hash
    assert tuple(content["labeled"]) == split.labeled


def test_fingerprints_change_with_names_boxes_and_joints(tmp_path):
    dataset = labeled_persons(5)
    columns = dataset.instances
    moved = replace(columns, images=tuple((i, f"elsewhere/{path}") for i, path in columns.images))
    assert fingerprint(PoseDataset(COCO, moved, "other source")) == fingerprint(dataset)
    changes = {
        "images": tuple((i, f"other_{path}") for i, path in columns.images),
        "boxes": columns.boxes + 1,
        "joints": columns.joints + np.float32(0.5),
        "visibility": np.ones_like(columns.visibility),
    }
    others = [PoseDataset(COCO, replace(columns, **{name: value}), "x") for name, value in changes.items()]
    assert len({fingerprint(dataset), *map(fingerprint, others)}) == 5
    raw = replace(columns, images=tuple((i, os.fsdecode(b"caf\xe9") + path) for i, path in columns.images))
    assert len(fingerprint(PoseDataset(COCO, raw, "names that are not UTF-8"))) == 12


def test_embedded_people():
    persons = read_coco(PEOPLE / "train.json")
    split = draw_split(persons, 100, seed=0, validation=10)
    assert (len(split.labeled), len(split.unlabeled), len(split.validation)) == (100, 1588, 10)


@given(st.lists(st.integers(), unique=True, max_size=40), st.integers(0, 50), st.integers(0, 9))
def test_smaller_draw_is_part_of_larger(indices, wanted, seed):
    indices = sorted(indices)
    assert draw_at_most(None, indices, seed) == indices
    drawn = draw_at_most(wanted, indices, seed)
    assert drawn == sorted(drawn)
    assert len(drawn) == min(wanted, len(indices))
    assert set(drawn) <= set(draw_at_most(wanted + 1, indices, seed)) <= set(indices)


def in_images(images: list[Path]) -> PoseDataset:
    persons = labeled_persons(len(images))
    return PoseDataset(COCO, [replace(p, image=images[n]) for n, p in enumerate(persons.instances)], "drawn")


@pytest.mark.parametrize("seed", range(5))
def test_validation_takes_no_neighbor_of_a_training_frame(tmp_path, seed):
    """Drawn singly, nearly every validation frame has a training frame on each side."""
    frames = write_frames(tmp_path, range(48))
    split = draw_split(in_images(frames), None, seed=seed, validation=6)
    assert len(split.validation) == 6
    held_out, trained = set(split.validation), {*split.labeled, *split.unlabeled}
    assert all(abs(a - b) > 1 for a in held_out for b in trained)
    assert len(trained) >= 48 - 6 - 2
    smaller = draw_split(in_images(frames), 20, seed=seed, validation=6)
    assert smaller.validation == split.validation
    assert set(smaller.labeled) <= set(split.labeled)


def test_numbered_photographs_are_drawn_singly(tmp_path):
    photos = write_frames(tmp_path, range(60), alike=False)
    split = draw_split(in_images(photos), None, seed=0, validation=6)
    assert split == draw_split(labeled_persons(60), None, seed=0, validation=6)
    assert len(split.labeled) == 54


def test_frames_next_to_the_validation_are_not_unlabeled_images(tmp_path):
    """They were once: a training on all labels then had an unlabeled set, which was its labeled set."""
    write_coco(in_images(write_frames(tmp_path, range(48))), tmp_path / "train.json")
    splits = load_splits(DataConfig(train=str(tmp_path / "train.json"), images=str(tmp_path), validation=6))
    assert splits.unlabeled is None
    assert sum(splits.account.used.values()) + sum(splits.account.left_out.values()) == 48
