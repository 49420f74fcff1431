"""MATLAB files become arrays, or one clear error."""

import sys

import numpy as np
import pytest
from scipy.io import savemat

from semipose.data.formats.matlab import is_matlab, load_mat
from semipose.errors import ConfigError, DataError


def test_arrays_are_float64(tmp_path):
    path = tmp_path / "a.bin"
    savemat(path, {"joints": np.arange(3, dtype=np.uint8)}, appendmat=False)
    assert is_matlab(path)
    assert not is_matlab(tmp_path / "missing.bin")
    assert load_mat(path, ("joints",))["joints"].dtype == np.float64


def test_broken_files(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(DataError, match="can't be read"):
        load_mat(path, ("joints",))
    path.write_bytes(b"MATLAB 5.0 but not really")
    with pytest.raises(DataError, match="not a MATLAB file"):
        load_mat(path, ("joints",))
    savemat(path, {"other": np.zeros(3)})
    with pytest.raises(DataError, match="no array 'joints'; it has: other"):
        load_mat(path, ("joints",))
    savemat(path, {"joints": np.array(["a"])})
    with pytest.raises(DataError, match="not an array of numbers"):
        load_mat(path, ("joints",))


def test_without_scipy_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ConfigError, match=r"semipose\[formats\]"):
        load_mat(tmp_path / "a.mat", ("joints",))
