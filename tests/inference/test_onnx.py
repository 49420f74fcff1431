"""Export: the file gives the heatmaps of the network, and its description is complete."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from semipose.errors import ConfigError, RunError
from semipose.inference import onnx
from semipose.inference.onnx import export_onnx
from tests.inference.conftest import untrained

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
def test_the_file_gives_the_mean_heatmaps_of_an_ensemble(model, tmp_path):
    ensemble = replace(model, ensemble_members=(untrained(seed=1),))
    path = export_onnx(ensemble, str(tmp_path / "pose.onnx"))
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    with torch.inference_mode():
        expected = sum(m.criterion.heatmaps(m.network.forward_main(images)) for m in (model, untrained(seed=1))) / 2
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    usage = json.loads((tmp_path / "pose.onnx.json").read_text())
    assert usage["joints"] == list(model.skeleton.joints)
    assert usage["unlearned_joints"] == []
    assert (usage["input"]["height"], usage["input"]["width"]) == (64, 64)


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match="differs from the network"):
        export_onnx(model, tmp_path / "pose.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unusable_names_are_refused(model, tmp_path):
    with pytest.raises(ConfigError, match=r"`out`: .*pose\.pt does not end in \.onnx"):
        export_onnx(model, tmp_path / "pose.pt")
    (tmp_path / "dir.onnx").mkdir()
    with pytest.raises(ConfigError, match=r"`out`: .* is a folder"):
        export_onnx(model, tmp_path / "dir.onnx")
