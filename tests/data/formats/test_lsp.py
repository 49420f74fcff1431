"""LSP's and LSP Extended's joints.mat."""

import numpy as np
import pytest
from scipy.io import savemat

from semipose.data.formats.registry import read_annotations
from semipose.errors import DataError
from semipose.structures.skeletons import LSP
from tests.data.formats.conftest import save_image


def test_flags_of_lsp_mean_occluded(tmp_path):
    save_image(tmp_path / "images" / "im0001.jpg")
    joints = np.ones((3, 14, 2)) * 10
    joints[2] = 0
    joints[0, 3, 0], joints[2, 3, 0] = 30, 1
    savemat(tmp_path / "joints.mat", {"joints": joints})
    persons = read_annotations(tmp_path / "joints.mat")
    assert persons.skeleton is LSP
    assert persons[0].visibility.tolist() == [2, 2, 2, 1, *[2] * 10]
    np.testing.assert_array_equal(persons[0].joints[3], [29, 9])
    assert persons[1].image.name == "im0002.jpg"
    x, y, width, height = persons[0].box
    assert x < 9 < 29 < x + width
    assert y < 9 < y + height


def test_flags_of_lsp_extended_mean_labeled(tmp_path):
    save_image(tmp_path / "images" / "im00001.jpg")
    joints = np.zeros((14, 3, 1))
    joints[2, :, 0], joints[5, :, 0] = (11, 21, 1), (51, 61, 1)
    savemat(tmp_path / "joints.mat", {"joints": joints})
    (person,) = read_annotations(tmp_path / "joints.mat").instances
    assert np.flatnonzero(person.visibility).tolist() == [2, 5]
    np.testing.assert_array_equal(person.joints[5], [50, 60])
    np.testing.assert_allclose(person.box, [10 - 5, 20 - 5, 50, 50])


def test_broken_arrays(tmp_path):
    path = tmp_path / "joints.mat"
    savemat(path, {"joints": np.zeros((5, 5, 5))})
    with pytest.raises(DataError, match=r"\(5, 5, 5\)"):
        read_annotations(path)
    save_image(tmp_path / "images" / "im0002.jpg")
    joints = np.ones((3, 14, 2))
    joints[0, 0, 0] = np.nan
    savemat(path, {"joints": joints})
    with pytest.raises(DataError, match="person 1: joints has values that are not finite"):
        read_annotations(path)
    problems: list[str] = []
    assert [p.annotation_id for p in read_annotations(path, problems=problems).instances] == [1]
    assert len(problems) == 1
