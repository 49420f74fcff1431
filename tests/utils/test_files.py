"""Files are complete or do not exist, and paths that cannot be written are refused."""

import pytest

from semipose.errors import ConfigError
from semipose.utils.files import (
    check_new_file,
    check_output_file,
    files_below,
    is_file,
    is_run_folder,
    make_folder,
    replacing,
    write_text,
)


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    write_text(tmp_path / "a.json", "before")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.json") as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("half")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "before"}


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "é")
    assert (tmp_path / "a.txt").read_bytes() == "é".encode()


def test_output_files_replace_neither_folders_nor_inputs(tmp_path):
    (tmp_path / "input.json").touch()
    check_output_file(tmp_path / "new" / "a.json", tmp_path / "input.json")
    assert (tmp_path / "new").is_dir()
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "input.json", "is an input file")):
        with pytest.raises(ConfigError, match=f"`out`: .* {message}"):
            check_output_file(path, tmp_path / "gone.json", tmp_path / "input.json")
    with pytest.raises(ConfigError, match="`out`"):
        check_output_file(tmp_path / ("x" * 300))


def test_new_files_replace_nothing(tmp_path):
    for name in ("input.json", "old.json"):
        (tmp_path / name).touch()
    check_new_file(tmp_path / "new" / "a.json", tmp_path / "input.json")
    assert not (tmp_path / "new").exists()
    for name, message in ((".", "is a folder"), ("input.json", "is an input file"), ("old.json", "exists; remove it")):
        with pytest.raises(ConfigError, match=f"`out`: .* {message}"):
            check_new_file(tmp_path / name, tmp_path / "input.json")


def test_folders_that_can_not_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "null\0byte"):
        with pytest.raises(ConfigError, match="`out`: cannot write to folder"):
            make_folder(path)


def test_names_that_no_file_system_accepts_are_no_files(tmp_path):
    (tmp_path / "a").touch()
    assert is_file(tmp_path / "a")
    assert not is_file(tmp_path / ("x" * 300))
    assert not is_file(tmp_path / "null\0byte")


def test_a_run_folder_has_a_configuration_and_a_state_or_scores(tmp_path):
    (tmp_path / "config.yaml").touch()  # DeepLabCut's projects have one, too
    assert not is_run_folder(tmp_path)
    (tmp_path / "scores.json").touch()
    assert is_run_folder(tmp_path)
    (tmp_path / "config.yaml").unlink()
    assert not is_run_folder(tmp_path)
    assert not is_run_folder(tmp_path / "null\0byte")


def test_files_in_linked_folders_are_listed_once(tmp_path):
    folder = tmp_path / "photos"
    for name in ("photos/a.png", "photos/z/b.png", "disk/deep/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (folder / "again").symlink_to(folder / "z")
    (folder / "cam1").symlink_to(tmp_path / "disk")
    (folder / "cam2").symlink_to(tmp_path / "disk")
    (folder / "z" / "loop").symlink_to(folder)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    found = sorted(path.relative_to(folder).as_posix() for path in files_below(folder))
    assert found == ["a.png", "cam1/deep/c.png", "gone", "z/b.png"]
    assert [*files_below(tmp_path / "nowhere")] == []
