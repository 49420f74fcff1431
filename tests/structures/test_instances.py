"""Instances as columns against lists of Instance objects."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semipose.structures import instances
from semipose.structures.instances import Instance, Instances, PoseDataset
from semipose.structures.skeletons import infer_skeleton

FACE = infer_skeleton(["nose", "left_eye", "right_eye"], name="face")
LARGER = infer_skeleton(["left_eye", "neck", "nose", "right_eye"], name="larger")
numbers = st.floats(-1e9, 1e9)
ids = st.integers(-(2**70), 2**70) | st.sampled_from(["1", "a"])


@st.composite
def persons(draw) -> Instance:
    """An instance with any values that a file can contain."""
    annotated = draw(st.booleans())
    coordinates = draw(st.sampled_from([numbers, st.integers(0, 4000)]))
    joints = [[draw(coordinates), draw(coordinates)] for _ in FACE.joints]
    return Instance(
        image=Path("images") / draw(st.sampled_from(["a.jpg", "b.jpg"])),
        image_id=draw(ids),
        annotation_id=draw(st.integers(-(2**65), 2**65)),
        box=(draw(numbers), draw(numbers), draw(numbers), draw(numbers)),
        joints=np.array(joints, np.float64) if annotated else None,
        visibility=np.array([draw(st.integers(0, 2)) for _ in FACE.joints], np.int8) if annotated else None,
        area=draw(numbers),
        score=draw(numbers),
        is_crowd=draw(st.booleans()),
        head_size=draw(st.none() | numbers),
        category_id=draw(st.none() | ids),
        individual=draw(st.none() | st.text()),
    )


several = st.lists(persons(), max_size=9)


def assert_equal(found: Instance, expected: Instance) -> None:
    """Compares every field and its type."""
    for field in fields(Instance):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert (type(a), a) == (type(b), b), field.name


@given(several)
def test_columns_return_the_given_instances(expected):
    whole = PoseDataset(FACE, iter(expected), "drawn")
    assert len(whole) == len(whole.instances) == len(expected)
    for found, person in zip(whole.instances, expected, strict=True):
        assert_equal(found, person)
    assert whole.instances.labeled.tolist() == [p.labeled for p in expected]
    assert whole.instances.image_ids == [p.image_id for p in expected]
    assert whole.instances.paths == [str(p.image) for p in expected]
    assert set(whole.instances.images) == {(p.image_id, str(p.image)) for p in expected}


@given(several, several, st.data())
def test_subset_and_concat_equal_those_of_lists(first, second, data):
    joined = PoseDataset(FACE, first, "a").concat(PoseDataset(FACE, second, "b"))
    everyone = first + second
    for found, person in zip(joined.instances, everyone, strict=True):
        assert_equal(found, person)
    indices = data.draw(st.lists(st.integers(0, len(everyone) - 1))) if everyone else []
    part = joined.subset(indices)
    for found, i in zip(part.instances, indices, strict=True):
        assert_equal(found, everyone[i])
    assert set(part.instances.images) == {(everyone[i].image_id, str(everyone[i].image)) for i in indices}
    for found, person in zip(part.without_labels().instances[1:], part.instances[1:], strict=True):
        assert_equal(found, person.without_labels())


@given(several)
def test_to_skeleton_matches_joints_by_name(expected):
    mapped = PoseDataset(FACE, expected, "drawn").to_skeleton(LARGER)
    for found, person in zip(mapped.instances, expected, strict=True):
        if person.joints is None:
            assert found.joints is None
            continue
        for name, joint, flag in zip(LARGER.joints, found.joints, found.visibility, strict=True):
            known = name in FACE.joints and person.visibility[FACE.index(name)]
            assert flag == known
            np.testing.assert_array_equal(joint, person.joints[FACE.index(name)] if known else [0, 0])


def test_joints_without_labels_are_named_and_left_out() -> None:
    skeleton = infer_skeleton(["nose", "left_wrist", "right_wrist"])
    joints = np.array([[1.0, 2], [3, 4], [0, 0]])
    first = Instance(Path("a.jpg"), 1, 1, (0, 0, 9, 9), joints, np.array([2, 1, 0]), area=50.0)
    second = Instance(Path("a.jpg"), 1, 2, (0, 0, 9, 9), joints, np.array([2, 0, 0]), area=50.0)
    data = PoseDataset(skeleton, (first, second), "two", left_out={"crowds": 1})
    assert data.instances.labeled_joints.tolist() == [True, True, False]
    assert data.unlabeled_joints == ("right_wrist",)
    assert data.without_labels().unlabeled_joints == ()
    assert data.without_joints(data.unlabeled_joints) is data
    found = data.without_joints(("nose",))
    assert found.instances.visibility.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert found.instances.joints[0].tolist() == [[0, 0], [3, 4], [0, 0]]
    assert found.instances.labeled.tolist() == [True, False]
    assert (found.source, found.left_out) == ("two", {"crowds": 1})


def test_joints_match_wherever_their_names_have_the_side():
    paws = infer_skeleton(["nose", "front_left_paw", "front_right_paw"])
    joints = np.arange(6.0).reshape(3, 2)
    person = Instance(Path("a"), 1, 1, (0, 0, 9, 9), joints, np.full(3, 2, np.int8))
    other = infer_skeleton(["right_front_paw", "FrontPaw.L", "nose"])
    mapped = PoseDataset(paws, [person], "set").to_skeleton(other)
    assert mapped.skeleton.joints == other.joints
    np.testing.assert_array_equal(mapped[0].joints, joints[[2, 1, 0]])
    assert (mapped[0].visibility == 2).all()


def test_coordinates_are_float32_where_that_is_exact():
    for value, dtype in ((3.25, np.float32), (639.0, np.float32), (0.1, np.float64), (2.0**24 + 1, np.float64)):
        joints = np.full((3, 2), value)
        one = PoseDataset(FACE, [Instance(Path("a"), 1, 1, (0, 0, 9, 9), joints, np.full(3, 2, np.int8))], "one")
        assert one.instances.joints.dtype == dtype
        np.testing.assert_array_equal(one[0].joints, joints)


def test_columns_are_built_in_chunks(monkeypatch):
    monkeypatch.setattr(instances, "CHUNK_SIZE", 10)
    alive = peak = 0

    class Counted(Instance):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Iterator[Instance]:
        nonlocal alive, peak
        for n in range(100):
            alive += 1
            peak = max(peak, alive)
            yield Counted(Path("a"), n, n, (0.0, 0.0, 1.0, 1.0))

    assert len(Instances.from_instances(stream(), 3)) == 100
    assert peak <= 25


def test_repr_shows_counts():
    joints = np.ones((3, 2))
    persons = [Instance(Path("a"), 1, n, (0, 0, 9, 9), joints, np.full(3, 2 * n, np.int8)) for n in range(2)]
    dataset = PoseDataset(FACE, persons, "labels.json", ((2, Path("b")),))
    assert repr(dataset) == "PoseDataset('labels.json': 2 persons in 2 images, 1 labeled, skeleton 'face')"
    assert repr(dataset.instances) == "Instances(2 persons in 1 image, 1 labeled, 3 joints)"


def test_data_sets_are_read_without_importing_torch():
    """Importing torch takes seconds."""
    code = "import sys, semipose.data.datasets, semipose.data.checks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_other_boxes_leave_everything_else():
    persons = [Instance(Path("a"), 1, n, (0, 0, 9, 9), np.ones((3, 2)), np.full(3, 2, np.int8)) for n in range(2)]
    before = PoseDataset(FACE, persons, "labels.json", ((2, Path("b")),), left_out={"crowds": 3})
    after = before.with_boxes(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), from_labels=True)
    assert [p.box for p in after.instances] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert (after.boxes_from_labels, before.boxes_from_labels) == (2, 0)
    assert (after.empty_images, after.left_out) == (before.empty_images, before.left_out)
    np.testing.assert_array_equal(after.instances.joints, before.instances.joints)
