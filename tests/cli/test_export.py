"""semipose export."""

import json

import numpy as np
import pytest
import torch

import semipose
from tests.cli.conftest import one_line


@pytest.mark.slow
def test_the_mean_of_an_ensemble(cli, trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, out, err = cli("export", trained, "--out", tmp_path / "pose.onnx", "--network", "ensemble", "--json")
    assert code == 0, err
    assert json.loads(out) == {"path": str(tmp_path / "pose.onnx")}
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    (maps,) = onnxruntime.InferenceSession(tmp_path / "pose.onnx").run(None, {"images": images})
    models = [semipose.load(trained, network=name) for name in ("G", "F")]
    with torch.inference_mode():
        raw = [model.network.forward_main(torch.from_numpy(images)) for model in models]
        found = [m.loss.build().heatmaps(r).double().numpy() for m, r in zip(models, raw, strict=True)]
    assert np.allclose(maps, (found[0] + found[1]) / 2, atol=1e-4)
    usage = json.loads((tmp_path / "pose.onnx.json").read_text())
    assert usage["joints"][0] == "nose"


def test_places_that_are_refused(cli, trained, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    one_line(cli("export", trained, "--out", tmp_path / "folder.onnx"), "--out")
    weights = trained / "weights" / "F.safetensors"
    one_line(cli("export", weights, "--out", tmp_path / "pose.onnx", "--network", "F"), "--network")
