"""Several data sets become one."""

from pathlib import Path

import numpy as np
import pytest

from semipose.data.merge import merge
from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import infer_skeleton

TWO = infer_skeleton(["nose", "neck"], name="two")


def person(image: str, x: float, *, labeled: bool = True, crowd: bool = False) -> Instance:
    visibility = np.full(2, 2 if labeled else 0, np.int8)
    return Instance(Path(image), 7, 7, (0.0, 0.0, 9.0, 9.0), np.full((2, 2), x), visibility, is_crowd=crowd)


def positions(persons: PoseDataset) -> list[tuple[str, float]]:
    return [(p.image.name, float(p.joints[0, 0])) for p in persons.instances]


def test_later_labels_replace_earlier_ones():
    first = PoseDataset(TWO, [person("a", 1), person("a", 2), person("b", 3)], "first")
    other = [Instance(Path("c"), 8, 1, (0.0, 0.0, 9.0, 9.0), np.full((2, 2), 5.0), np.full(2, 1))]
    second = PoseDataset(TWO, [person("a", 4), *other], "second", ((9, Path("d")),))
    merged = merge([first, second])
    assert positions(merged.persons) == [("b", 3), ("a", 4), ("c", 5)]
    assert (merged.replaced, merged.kept) == (1, 0)
    assert [p.annotation_id for p in merged.persons.instances] == [1, 2, 3]
    assert len({p.image_id for p in merged.persons.instances}) == 3
    assert [image.name for _, image in merged.persons.empty_images] == ["d"]


def test_crowds_and_boxes_without_joints_replace_nothing():
    first = PoseDataset(TWO, [person("a", 1)], "first")
    for second in (person("a", 3, crowd=True), person("a", 4, labeled=False)):
        merged = merge([first, PoseDataset(TWO, [second], "second")])
        assert positions(merged.persons) == [("a", 1)]
        assert (merged.replaced, merged.kept) == (0, 1)


def test_joints_are_matched_by_name():
    swapped = infer_skeleton(["neck", "nose"], name="swapped")
    other = Instance(Path("b"), 1, 1, (0.0, 0.0, 9.0, 9.0), np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([1, 2]))
    merged = merge([PoseDataset(TWO, [person("a", 1)], "first"), PoseDataset(swapped, [other], "second")])
    np.testing.assert_array_equal(merged.persons[1].joints, [[2, 2], [1, 1]])
    np.testing.assert_array_equal(merged.persons[1].visibility, [2, 1])


def test_sets_with_different_joints_are_an_error():
    other = PoseDataset(infer_skeleton(["nose", "tail"], name="other"), [person("a", 1)], "other")
    with pytest.raises(ConfigError, match="'tail' only in other, 'neck' only in first; give both the same"):
        merge([PoseDataset(TWO, [person("a", 1)], "first"), other])


def test_a_copy_of_an_image_is_the_same_image(tmp_path):
    """As `suggest` copies images; copies within one set stay apart, and so do other images of the same size."""
    for name, content in (("old/a", b"1"), ("old/b", b"2"), ("old/again", b"2"), ("new/a", b"1"), ("new/c", b"3")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    old, new = (str(tmp_path / folder) for folder in ("old", "new"))
    first = PoseDataset(TWO, [person(f"{old}/a", 1), person(f"{old}/b", 2), person(f"{old}/again", 3)], "first")
    second = PoseDataset(TWO, [person(f"{new}/a", 4), person(f"{new}/c", 5)], "second")
    merged = merge([first, second])
    assert positions(merged.persons) == [("b", 2), ("again", 3), ("a", 4), ("c", 5)]
    assert merged.replaced == 1
    assert {p.image.parent.name for p in merged.persons.instances if p.image.name == "a"} == {"old"}
