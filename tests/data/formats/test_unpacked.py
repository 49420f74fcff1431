"""Files are unpacked once into the cache."""

import os

import pytest

from semipose.data.formats.unpacked import unpacked
from semipose.errors import DataError


def test_once_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    path, calls = tmp_path / "a.zip", []
    path.write_text("one")
    assert unpacked(path, calls.append) == unpacked(path, calls.append)
    assert len(calls) == 1
    path.write_text("other")
    os.utime(path, ns=(1, 1))
    assert unpacked(path, calls.append) == calls[1] != calls[0]

    def broken(folder):
        raise OSError(28, "No space left on device")

    path.write_text("a third content")
    with pytest.raises(DataError, match="No space left"):
        unpacked(path, broken)
    assert unpacked(path, calls.append) == calls[2]
