"""Files are whole or not there, and SHA256SUMS knows them at every moment."""

import hashlib

import pytest

from semipose.utils.files import SUMS, replacing, unchanged, write_text


def test_sums_know_what_was_written(tmp_path):
    (tmp_path / "weights").mkdir()
    write_text(tmp_path / "a.json", "one", tmp_path)
    write_text(tmp_path / "weights" / "b.json", "two", tmp_path)
    write_text(tmp_path / "a.json", "three", tmp_path)
    expected = "".join(
        f"{hashlib.sha256(text).hexdigest()}  {name}\n"
        for name, text in (("a.json", b"three"), ("weights/b.json", b"two"))
    )
    assert (tmp_path / SUMS).read_text() == expected
    assert unchanged(tmp_path / "a.json") is True
    assert unchanged(tmp_path / "weights" / "b.json") is True
    (tmp_path / "a.json").write_text("four")
    assert unchanged(tmp_path / "a.json") is False
    assert unchanged(tmp_path / SUMS) is None


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_ends_around_the_renaming_leaves_a_known_file(tmp_path, monkeypatch, moment):
    path = tmp_path / "a.json"
    write_text(path, "one", tmp_path)

    class Killed(BaseException):
        pass

    from pathlib import Path

    rename = Path.replace

    def dying(self, target):
        if target == path and moment == "before":
            raise Killed
        found = rename(self, target)
        if target == path:
            raise Killed
        return found

    monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(Killed):
        write_text(path, "two", tmp_path)
    monkeypatch.undo()
    assert path.read_text() == ("one" if moment == "before" else "two")
    assert unchanged(path) is True
    write_text(path, "three", tmp_path)
    assert len((tmp_path / SUMS).read_text().splitlines()) == 1


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.json", tmp_path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
