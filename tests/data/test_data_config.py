"""The data section of the configuration: data files, skeleton files and absolute paths."""

from pathlib import Path

import pytest

from semipose.data.data_config import DataConfig, open_data_file, with_absolute_paths
from semipose.errors import DataError


def test_a_data_file_fills_what_is_not_set(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("train: labels.json\nimages: photos\nlabels: 20\nval: /data/val.json\n")
    config = open_data_file(DataConfig(train=str(path), labels=30))
    assert (config.train, config.images) == (str(tmp_path / "labels.json"), str(tmp_path / "photos"))
    assert (config.labels, config.val) == (30, "/data/val.json")
    plain = DataConfig(train="labels.json")
    assert open_data_file(plain) is plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: [", "is not YAML"),
        ("images: photos", "needs a key 'train'"),
        ("train: a.json\ncolor: red", "unknown key 'color'"),
        ("train: a.json\nlabels: 0", "labels: "),
    ],
)
def test_broken_data_files_are_errors(tmp_path, content, message):
    path = tmp_path / "data.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"data\.yaml.*{message}"):
        open_data_file(DataConfig(train=str(path)))
    with pytest.raises(DataError, match="gone"):
        open_data_file(DataConfig(train="gone.yaml"))


def test_paths_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(DataConfig(train="people", unlabeled="frames", val="/data/val.json"))
    assert (config.train, config.unlabeled, config.val) == ("people", str(tmp_path / "frames"), "/data/val.json")
    assert config.images is None


def test_a_skeleton_file_sets_what_is_not_set(tmp_path):
    (tmp_path / "skeleton.yaml").write_text("flip_pairs: [[a, b]]\nsigmas: {a: 0.5}\ncategory: mouse\n")
    config = open_data_file(DataConfig(train="a.json", skeleton=str(tmp_path / "skeleton.yaml"), sigmas={}))
    assert (config.skeleton, config.flip_pairs, config.sigmas) == ("own", [("a", "b")], {})
    assert config.category == "mouse"


def test_wrong_skeletons_are_one_line_errors(tmp_path):
    with pytest.raises(ValueError, match="nearest valid name is 'coco'"):
        DataConfig(train="a.json", skeleton="coca")
    (tmp_path / "skeleton.yaml").write_text("flip_pair: []\n")
    with pytest.raises(DataError, match=r"skeleton file .*flip_pair'; did you mean 'flip_pairs'"):
        open_data_file(DataConfig(train="a.json", skeleton=str(tmp_path / "skeleton.yaml")))


def test_a_folder_named_like_the_embedded_data_set_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(DataConfig(train="people", unlabeled="people"))
    assert (config.train, config.unlabeled) == ("people", str(tmp_path / "people"))


def test_words_are_no_paths():
    config = with_absolute_paths(DataConfig(train="people", boxes="auto", val="whole"))
    assert (config.train, config.boxes) == ("people", "auto")
    assert config.val == str(Path("whole").absolute())
