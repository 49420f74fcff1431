"""Videos: a prediction per frame and person, drawings, and what is kept of a video that breaks off."""

import json

import cv2
import numpy as np
import pytest

from semipose.data.video import Frame
from semipose.errors import DataError
from semipose.inference.video import predict_video

av = pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path):
    """Five frames of 65×49 pixels."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (65, 49))
    for n in range(5):
        writer.write(np.full((49, 65, 3), 40 * n, np.uint8))
    writer.release()
    return path


def predictions(folder):
    return json.loads((folder / "predictions.json").read_text())


def test_every_frame_is_predicted_and_drawn(model, clip, tmp_path):
    written = predict_video(model, clip, tmp_path, draw=True)
    assert [path.name for path in written] == ["predictions.json", "clip_pose.mp4"]
    assert [p["image_id"] for p in predictions(tmp_path)] == [0, 1, 2, 3, 4]
    with av.open(str(written[1])) as container:
        frames = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert frames == [(64, 48)] * 5  # H.264 needs even numbers


def test_boxes_belong_to_frames_by_number(model, clip, tmp_path, caplog):
    records = [{"image_id": n, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9} for n in (1, 1, 3, "x.jpg")]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    predict_video(model, clip, tmp_path, boxes=tmp_path / "boxes.json")
    assert [p["image_id"] for p in predictions(tmp_path)] == [1, 1, 3]
    assert "1 detections without a frame number" in caplog.text
    (tmp_path / "boxes.json").write_text(json.dumps(records[3:]))
    with pytest.raises(DataError, match="no detection has a frame number"):
        predict_video(model, clip, tmp_path, boxes=tmp_path / "boxes.json")


def test_a_video_that_breaks_off_keeps_its_predictions(model, tmp_path, monkeypatch, caplog):
    def frames(source):
        for n in range(2):
            yield Frame(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"), n / 10, 10)
        raise DataError(f"video {source} can't be read (cut off)")

    monkeypatch.setattr("semipose.inference.video.read_frames", frames)
    monkeypatch.setattr("semipose.inference.video.count_frames", lambda source: 0)
    predict_video(model, tmp_path / "clip.mp4", tmp_path)
    assert len(predictions(tmp_path)) == 2
    assert "its first 2 frames are kept" in caplog.text


def test_a_file_without_frames_is_refused(model, tmp_path):
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(DataError, match=r"clip\.mp4"):
        predict_video(model, tmp_path / "clip.mp4", tmp_path)
