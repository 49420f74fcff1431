"""Frames of videos: upright, in order, with their times."""

import sys

import av
import numpy as np
import pytest

from semipose.data.video import count_frames, has_videos, is_video_source, list_videos, read_frames
from semipose.errors import ConfigError, DataError
from tests.data.make_video import RATE, clip, picture


def test_frames_come_in_order_with_their_times(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(4 * n) for n in range(20)])
    frames = list(read_frames(path))
    assert count_frames(path) == len(frames) == 20
    np.testing.assert_allclose([f.seconds for f in frames], np.arange(20) / RATE, atol=1e-6)
    assert frames[0].rate == RATE
    assert np.abs(frames[5].image.astype(int) - picture(20)).mean() < 3


def test_a_phone_s_video_is_upright(tmp_path):
    path = clip(tmp_path / "phone.mp4", [picture(0)] * 3, (0, 1, -1, 0))
    image = next(read_frames(path)).image
    assert image.shape == (96, 48, 3)
    assert np.abs(image.astype(int) - np.rot90(picture(0), -1)).mean() < 3


def test_times_of_joined_recordings_never_decrease(tmp_path):
    """Times start again in the middle of a transport stream."""
    for name in ("a", "b"):
        with av.open(str(tmp_path / f"{name}.ts"), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 96, "yuv420p"
            for n in range(50):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(n), format="rgb24")))
            container.mux(stream.encode())
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in ("a", "b")))
    seconds = np.array([frame.seconds for frame in read_frames(joined)])
    assert len(seconds) >= 98
    assert seconds[0] == 0
    assert (np.diff(seconds) >= 0).all()
    assert seconds[-1] == pytest.approx(4, abs=0.3)


def test_packets_that_can_not_be_decoded_are_skipped(tmp_path, caplog):
    """One image of a video of PNGs is overwritten."""
    path = tmp_path / "noisy.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 48, 96, "rgb24"
        for n in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(8 * n), format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    starts = [n for n in range(len(content)) if content[n : n + 4] == b"\x89PNG"]
    content[starts[4] : starts[4] + 60] = bytes(60)
    path.write_bytes(content)
    frames = list(read_frames(path))
    assert 8 <= len(frames) <= 9  # PyAV may drop the one decoded at the same time
    assert np.abs(frames[-1].image.astype(int) - picture(72)).mean() < 6
    assert "1 packet can't be decoded" in caplog.text


def test_a_video_that_ends_early_gives_a_warning(tmp_path, caplog):
    content = clip(tmp_path / "whole.mkv", [picture(n % 60) for n in range(300)]).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 3])
    assert 0 < len(list(read_frames(tmp_path / "cut.mkv"))) < 200
    assert "but its file says 30 s" in caplog.text
    caplog.clear()
    list(read_frames(tmp_path / "whole.mkv"))
    assert caplog.text == ""


def test_the_package_that_reads_videos_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs the package 'av'.*semipose\[video\]"):
        count_frames(tmp_path / "a.mp4")


def test_a_video_a_folder_or_a_pattern(tmp_path):
    folder = tmp_path / "videos"
    for name in ("a.mp4", "b.avi", "below/c.mp4", ".hidden/d.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "notes.txt").touch()

    def names(source):
        assert is_video_source(source)
        return [path.name for path in list_videos(source)]

    assert names(folder) == ["a.mp4", "b.avi", "c.mp4"]
    assert names(folder / "a.mp4") == names(folder / "*.mp4") == ["a.mp4"]
    assert names(folder / "**/*.mp4") == ["a.mp4", "c.mp4"]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cam1").symlink_to(folder)
    assert has_videos(tmp_path / "linked")
    assert names(tmp_path / "linked") == ["a.mp4", "b.avi", "c.mp4"]
    (folder / "e[1].mp4").touch()
    assert names(folder / "e[1].mp4") == ["e[1].mp4"]
    (folder / "below/a.mp4").touch()
    with pytest.raises(DataError, match="results would mix"):
        list_videos(folder)
    (folder / "image.png").touch()
    assert not is_video_source(folder)
    assert not is_video_source(folder / "image.png")
    for missing, message in (("no.mp4", "does not exist"), ("*.mov", "as a pattern it names no video")):
        with pytest.raises(DataError, match=message):
            list_videos(folder / missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no video"):
        list_videos(tmp_path / "empty")


def test_drawn_videos_are_no_sources(tmp_path, caplog):
    for name in ("a.AVI", "a_pose.mp4", "b_pose.mp4", "[c]_pose.mp4", "[c].mov", "d_pose.mp4", "d_scores.json"):
        (tmp_path / name).touch()
    assert [path.name for path in list_videos(tmp_path / "*.mp4")] == ["b_pose.mp4"]
    assert caplog.messages == [
        f"{tmp_path / '*.mp4'}: 3 videos with drawn poses left out, the first is {tmp_path / '[c]_pose.mp4'}"
    ]
    assert [path.name for path in list_videos(tmp_path)] == ["[c].mov", "a.AVI", "b_pose.mp4"]
    assert list_videos(tmp_path / "a_pose.mp4") == [tmp_path / "a_pose.mp4"]
    (tmp_path / "lab [1]").mkdir()
    (tmp_path / "lab [1]" / "e.mp4").touch()
    assert [path.name for path in list_videos(tmp_path / "lab [1]" / "*.mp4")] == ["e.mp4"]
    (tmp_path / "lab [1]" / "e.mp4").unlink()
    (tmp_path / "d").mkdir()
    for name in ("mDLC_Resnet50_mouseshuffle1_snapshot_100_p60_labeled.mp4", "m.mp4", "m_labeled.mp4"):
        (tmp_path / "d" / name).touch()
    assert [path.name for path in list_videos(tmp_path / "d")] == ["m.mp4", "m_labeled.mp4"]


def test_frames_are_counted_where_the_file_states_no_number(tmp_path):
    assert count_frames(clip(tmp_path / "walk.mkv", [picture(4 * n) for n in range(20)])) == 20
    (tmp_path / "text.mkv").write_text("no video")
    assert count_frames(tmp_path / "text.mkv") == 0


@pytest.mark.parametrize(
    ("matrix", "move"),
    [
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, -1, 1, 0), np.rot90),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_frames_are_as_a_player_shows_them(tmp_path, matrix, move):
    image = next(read_frames(clip(tmp_path / "a.mp4", [picture(0)] * 3, matrix))).image
    assert np.abs(image.astype(int) - move(picture(0))).mean() < 3
