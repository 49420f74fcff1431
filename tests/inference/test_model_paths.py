"""What is given as a model and is none is named, with what to give instead."""

import pytest

from semipose.cli import app
from semipose.errors import WeightsError
from semipose.inference.pose_model import load_pose_model


def make_run(folder):
    (folder / "last").mkdir(parents=True)
    (folder / "config.yaml").touch()


@pytest.mark.parametrize(("name", "kind"), [("clip.MP4", "a video"), ("frame.png", "an image")])
def test_swapped_arguments(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b"\xff\xd8" * 100)
    make_run(tmp_path / "mouse")
    with pytest.raises(WeightsError, match=f"is {kind} and no model; the run folder or weights file comes first"):
        app(
            ["predict", str(tmp_path / name), str(tmp_path / "mouse"), "--out", str(tmp_path / "p")],
            standalone_mode=False,
        )


def test_a_folder_of_images_first(tmp_path):
    (tmp_path / "frame.png").touch()
    with pytest.raises(WeightsError, match=r"is no run, .*; the run folder or weights file comes first, then the im"):
        load_pose_model(tmp_path)


def test_onnx_files_are_for_other_programs(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07" * 50)
    with pytest.raises(WeightsError, match=r"model\.onnx is an ONNX file, .* run folder .* or its \.safetensors file"):
        load_pose_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("network", [None, "F"])
def test_similar_names_beside_a_missing_run(network, tmp_path):
    make_run(tmp_path / "mouse")
    make_run(tmp_path / "fly")
    with pytest.raises(WeightsError, match=r"no folder or file .*mouze; did you mean .*mouse\?$") as raised:
        load_pose_model(tmp_path / "mouze", network)
    assert "fly" not in str(raised.value)
    with pytest.raises(WeightsError, match=r"no folder or file .*; give a run folder or a \.safetensors file"):
        load_pose_model(tmp_path / "no" / "such" / "folder", network)


def test_a_run_that_was_stopped_in_its_box_network(tmp_path):
    make_run(tmp_path / "run" / "box_finder")
    (tmp_path / "run" / "config.yaml").touch()
    with pytest.raises(WeightsError, match="run was stopped while its box network was trained; resume the training"):
        load_pose_model(tmp_path / "run")


def test_a_folder_of_runs(tmp_path):
    for name in "abcde":
        make_run(tmp_path / "runs" / name)
    with pytest.raises(WeightsError, match=r"runs is no run, .*one of the runs in it: .*a, .*b, .*c and 2 more$"):
        load_pose_model(tmp_path / "runs")
    with pytest.raises(WeightsError, match=r"one of the runs in it: .*a, .*b, .*c and 2 more$"):
        load_pose_model(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"empty is no run, it has no best\.safetensors; give a run folder"):
        load_pose_model(tmp_path / "empty")
