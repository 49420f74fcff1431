"""Evaluation on a video without labels: the scores of its predictions, for two models."""

import json

import cv2
import numpy as np
import pytest

from semipose.errors import ConfigError
from semipose.inference.video import predict_video
from semipose.inference.video_evaluation import evaluate_video
from tests.inference.conftest import untrained

pytest.importorskip("av")


def test_two_models_on_one_video(model, tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
        for _ in range(4):
            writer.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        writer.release()
    other = untrained(seed=1, name="g")
    found = evaluate_video(model, tmp_path / "a.avi", against=other, device="cpu")
    assert (found.name, found.against.name) == ("f", "g")
    for one, evaluation in ((model, found), (other, found.against)):
        predict_video(one, tmp_path / "a.avi", tmp_path)
        written = json.loads((tmp_path / "a_scores.json").read_text())
        assert evaluation.scores.as_dict() == {k: v for k, v in written.items() if k not in ("video", "model")}
    assert found.as_dict()["against"] == found.against.as_dict()
    assert found.scores != found.against.scores
    with pytest.raises(ConfigError, match="has 2 videos; give one"):
        evaluate_video(model, tmp_path / "*.avi")
