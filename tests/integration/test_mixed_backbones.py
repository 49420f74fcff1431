"""Two-network methods whose networks have different backbones: each is scored, saved, loaded and exported by name."""

import json

import pytest

import semipose
from semipose.data.datasets import read_dataset
from semipose.trainer import train

OTHER = "test_efficientnet"
CASES = {
    "dual": ("f2", {"method": "dual", "method.backbones": {"f2": OTHER}}),
    "multi_augs": ("f2", {"method": "multi_augs", "method.networks": 2, "method.backbones": {"f2": OTHER}}),
    "sspcm": ("S", {"method": "sspcm", "method.backbones": {"S": OTHER}}),
    "trs": ("F", {"method": "trs", "method.backbones": {"F": OTHER}}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_network_is_loaded_by_its_name(case, tiny, small_people, tmp_path):
    name, changes = CASES[case]
    config = tiny(changes["method"], **{k: v for k, v in changes.items() if k != "method"}, **{"train.steps": 3})
    result = train(config, tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["scores"]
    backbones = {}
    for file in sorted((tmp_path / "run" / "weights").glob("*.safetensors")):
        model = semipose.load(file)
        backbones[model.name] = model.network.config.backbone
        assert sum(p.numel() for p in model.network.parameters()) > 0
    assert backbones.pop(name) == OTHER
    follower = {"F": "R2"}.get(name)
    if follower:
        assert backbones.pop(follower) == OTHER
    assert set(backbones.values()) == {"test_resnet"}
    assert {name, *backbones} <= set(scores)
    assert set(result.headline_networks) <= set(scores)
    if len(result.headline_networks) > 1:
        assert {"mean", "ensemble"} <= set(scores)


@pytest.mark.slow
def test_the_other_network_evaluates_and_exports_by_its_file(tiny, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    name, changes = CASES["trs"]
    run = tmp_path / "run"
    config = tiny("trs", **{"method.backbones": changes["method.backbones"], "train.steps": 2, "data.test": "people"})
    train(config, run)
    weights = run / "weights" / f"{name}.safetensors"
    found = semipose.evaluate(weights, "people").scores.as_dict()
    expected = json.loads((run / "scores.json").read_text())["scores"][name]
    # The crops of the run went through JPEG.
    assert found.pop("pixel_error") == pytest.approx(expected.pop("pixel_error"), abs=0.5)
    assert found == pytest.approx(expected, abs=0.005)
    exported = semipose.export(weights, tmp_path / "F.onnx")
    joints = len(read_dataset("people", None).skeleton)
    session = onnxruntime.InferenceSession(str(exported))
    assert [list(o.shape)[1] for o in session.get_outputs()] == [joints]
