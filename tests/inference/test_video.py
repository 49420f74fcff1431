"""Videos: a prediction per frame and person, drawings, and what is kept of a video that breaks off."""

import json
import logging
from fractions import Fraction

import cv2
import numpy as np
import pytest

from semipose.data.video import Frame
from semipose.errors import BrokenDataError, ConfigError, DataError
from semipose.inference.parameters import data_errors_for
from semipose.inference.video import predict_video

av = pytest.importorskip("av")
make_video = pytest.importorskip("tests.data.make_video")


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
    assert [path.name for path in written] == ["predictions.json", "clip_scores.json", "clip_pose.mp4"]
    assert [p["image_id"] for p in predictions(tmp_path)] == [0, 1, 2, 3, 4]
    with av.open(str(written[2])) as container:
        frames = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert {height for _, height in frames} == {48}  # H.264 needs even numbers
    assert min(width for width, _ in frames) > 64  # the legend beside the frame


def test_boxes_belong_to_frames_by_number(model, clip, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    records = [{"image_id": n, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9} for n in (1, 1, 3, 9, "x.jpg")]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    account = predict_video(model, clip, tmp_path, boxes=tmp_path / "boxes.json").account
    assert [p["image_id"] for p in predictions(tmp_path)] == [1, 1, 3]
    assert (account.images, account.persons, account.used) == (5, 3, {"predicted on": 3})
    assert account.left_out == {
        "boxes without a frame number": 1,
        "boxes of frames that the video does not have": 1,
        "frames without a box": 3,
    }
    assert "3 persons in 5 images; 3 predicted on" in caplog.text
    assert "1 detections without a frame number" in caplog.text
    (tmp_path / "boxes.json").write_text(json.dumps(records[4:]))
    with pytest.raises(DataError, match="no detection has a frame number"):
        predict_video(model, clip, tmp_path, boxes=tmp_path / "boxes.json")


@pytest.mark.parametrize("draw", [False, True])
def test_boxes_of_no_frame_are_an_error(model, clip, tmp_path, draw):
    boxes, out = tmp_path / "boxes.json", tmp_path / "found"
    out.mkdir()
    boxes.write_text(json.dumps([{"image_id": 5, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9}]))
    with pytest.raises(DataError, match=r"`boxes`: no box of .*boxes\.json is of one of the 5 frames of clip\.avi"):
        predict_video(model, clip, out, boxes=boxes, draw=draw)
    assert not any(out.iterdir())


def test_what_can_not_be_smoothed_is_refused_before_the_first_frame(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("semipose.inference.video.read_frames", lambda *_: pytest.fail("read"))
    records = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9}] * 2
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    with pytest.raises(ConfigError, match="`smooth` is 4; give an odd number"):
        predict_video(model, clip, tmp_path, smooth=4)
    with pytest.raises(ConfigError, match="`smooth`: it is for videos with one person"):
        predict_video(model, clip, tmp_path, smooth=3, boxes=tmp_path / "boxes.json")


def test_a_video_that_breaks_off_keeps_its_predictions(model, tmp_path, monkeypatch, caplog):
    def frames(source, problems):
        for n in range(2):
            decoded = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            yield Frame(decoded, Fraction(n, 10), Fraction(10), Fraction(1, 10))
        raise DataError(f"video {source} can't be read (cut off)")

    monkeypatch.setattr("semipose.inference.video.read_frames", frames)
    monkeypatch.setattr("semipose.inference.video.count_frames", lambda source: 0)
    predict_video(model, tmp_path / "clip.mp4", tmp_path)
    assert len(predictions(tmp_path)) == 2
    assert "its first 2 frames are kept" in caplog.text
    with pytest.raises(BrokenDataError, match=r"1 broken entry: .*cut off.*`on_error`=skip"):
        predict_video(model, tmp_path / "clip.mp4", tmp_path, errors=data_errors_for("strict"))


def test_broken_boxes_and_a_video_that_ends_early_follow_the_policy(model, tmp_path):
    content = make_video.clip(tmp_path / "v.mkv", [make_video.picture(n) for n in range(60)]).read_bytes()
    (tmp_path / "v.mkv").write_bytes(content[: len(content) // 2])
    record = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9}
    (tmp_path / "boxes.json").write_text(json.dumps([record, record | {"bbox": [1]}]))
    given = {"draw": True, "boxes": tmp_path / "boxes.json"}
    written = predict_video(model, tmp_path / "v.mkv", tmp_path, **given)
    assert written.account.left_out["broken records"] == 2
    for changed, message in ((given, "needs a 'bbox'"), ({"draw": True}, "its file says 6 s")):
        (out := tmp_path / message).mkdir()
        with pytest.raises(BrokenDataError, match=message):
            predict_video(model, tmp_path / "v.mkv", out, errors=data_errors_for("strict"), **changed)
        assert not any(out.iterdir())


def test_a_file_without_frames_is_refused(model, tmp_path):
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(DataError, match=r"clip\.mp4"):
        predict_video(model, tmp_path / "clip.mp4", tmp_path)


def write_video(path, ticks, time_base, rate):
    """A video of 64×48 pixels whose frames are shown at these multiples of the time base."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base, stream.codec_context.max_b_frames = time_base, 0
        for n, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * n % 250, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            frame.duration = [*ticks, ticks[-1] + round(1 / (rate * time_base))][n + 1] - tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def times_and_duration(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(video=0)]
        return times, Fraction(container.duration, av.time_base)


NTSC = Fraction(30000, 1001)
VARIABLE = [0, 33, 66, 100, 400, 420, 1420, 1453, 2453, 2500]


@pytest.mark.parametrize(
    ("name", "ticks", "time_base", "rate"),
    [
        ("a.mp4", range(0, 90 * 1001, 1001), Fraction(1, 30000), NTSC),
        ("b.mkv", [round(n * 1000 / NTSC) for n in range(90)], Fraction(1, 1000), NTSC),
        ("c.mp4", [n * 1001 for n in range(48)], Fraction(1, 24000), Fraction(24000, 1001)),
        ("d.mp4", [7 * n for n in range(30)], Fraction(1, 100), Fraction(100, 7)),
        ("e.mp4", [90 * t for t in VARIABLE], Fraction(1, 90000), Fraction(30)),
        ("f.mkv", VARIABLE, Fraction(1, 1000), Fraction(30)),
        ("g.mp4", [9000 + 3000 * n for n in range(20)], Fraction(1, 90000), Fraction(30)),  # does not start at 0
        ("h.mp4", [2 * n for n in range(5)], Fraction(1, 1), Fraction(1, 2)),  # time lapse, one frame in two seconds
    ],
)
def test_drawn_videos_keep_the_times_of_their_frames(model, tmp_path, name, ticks, time_base, rate):
    source = write_video(tmp_path / name, ticks, time_base, rate)
    (tmp_path / "out").mkdir()
    *_, written = predict_video(model, source, tmp_path / "out", draw=True)
    drawn, duration = times_and_duration(written)
    expected = [float((tick - ticks[0]) * time_base) for tick in ticks]
    np.testing.assert_allclose([float(t) for t in drawn], expected, rtol=0, atol=1e-3)
    assert abs(float(duration) - expected[-1] - 1 / rate) <= 1 / rate


def test_scores_that_need_no_labels_are_written_and_the_table_can_be_smoothed(model, clip, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    predict_video(model, clip, tmp_path)
    plain = [p["keypoints"] for p in predictions(tmp_path)]
    scores = json.loads((tmp_path / "clip_scores.json").read_text())
    assert (scores["video"], scores["model"], scores["frames"]) == ("clip.avi", "f", 5)
    assert "clip.avi: 5 frames: joints that jump" in caplog.text
    predict_video(model, clip, tmp_path, smooth=3)
    smooth = [p["keypoints"] for p in predictions(tmp_path)]
    np.testing.assert_allclose(np.array(smooth)[2, ::3], np.median(np.array(plain)[1:4, ::3], axis=0), atol=0.01)
    assert json.loads((tmp_path / "clip_scores.json").read_text()) == scores
