"""Weights files: one file with everything, which survives a round trip exactly and refuses damage in one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from semipose.errors import WeightsError
from semipose.inference.pose_model import PoseModel, load_pose_model
from semipose.inference.weights import read_description, read_weights
from semipose.structures.boxes import BoxFacts


@pytest.fixture
def saved(model: PoseModel, tmp_path: Path) -> Path:
    model.save(tmp_path / "f.safetensors")
    return tmp_path / "f.safetensors"


def test_one_file_holds_tensors_and_description(model, saved):
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    description, state = read_weights(saved)
    assert description == read_description(saved)
    assert (description.network, description.skeleton) == ("f", model.skeleton)
    assert description.model == model.network.config
    assert state.keys() == model.network.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())
    assert all(torch.equal(value, state[name]) for name, value in load_file(saved).items())
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["semipose"])["sha256"] == description.sha256


def test_files_of_before_are_read(model, saved):
    """They do not say how many subjects an image of the labels has, nor why there is no calibration."""
    replace(model, boxes=BoxFacts("joints", 0.3, 0.2, 0.4, 2)).save(saved)
    assert read_description(saved).boxes.subjects == 2
    with safe_open(saved, "pt") as file:
        content = json.loads(file.metadata()["semipose"])
    del content["boxes"]["subjects"], content["not_calibrated"]
    save_file(load_file(saved), saved, {"semipose": json.dumps(content)})
    old = load_pose_model(saved)
    assert (old.boxes.subjects, old.not_calibrated) == (1, {})


def test_a_changed_tensor_is_refused(saved):
    content = bytearray(saved.read_bytes())
    content[-3] ^= 1
    saved.write_bytes(content)
    with pytest.raises(WeightsError, match=r"f\.safetensors is damaged: the SHA-256"):
        read_weights(saved)


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_file_that_is_cut_off_is_refused(saved, cut):
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"f\.safetensors cannot be read") as caught:
        read_weights(saved)
    assert "\n" not in str(caught.value)


def test_files_of_others_are_refused(saved, tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights at all, only text")
    for name in ("other", "text"):
        with pytest.raises(WeightsError, match=rf"{name}\.safetensors has no description"):
            read_description(tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"gone\.safetensors cannot be read"):
        read_description(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "has format 99, but this version reads 1"), ({"decoder": "magic"}, "invalid .*decoder")],
)
def test_descriptions_of_other_versions_are_refused(saved, change, message):
    with safe_open(saved, "pt") as file:
        content = json.loads(file.metadata()["semipose"])
    save_file(load_file(saved), saved, {"semipose": json.dumps(content | change)})
    with pytest.raises(WeightsError, match=message):
        read_weights(saved)
