"""Frames of videos: upright, extracted at intervals, without near duplicates."""

import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from semipose.data.video import count_frames, extract_frames, list_videos, read_frames
from semipose.errors import ConfigError, DataError, RunError

RATE = 10


def picture(x: int) -> np.ndarray:
    """A bright square, its left edge at x, on dark ground, (48, 96, 3)."""
    image = np.full((48, 96, 3), 30, np.uint8)
    image[16:32, x : x + 16] = 220
    return image


def clip(path: Path, pictures: list[np.ndarray], rotated: bool = False) -> Path:
    """A video of these pictures, ten a second; `rotated`: players rotate it by 90° clockwise, as phones write it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    if rotated:
        content = bytearray(path.read_bytes())
        start = content.index(b"tkhd") + 44  # the matrix of the track header: (a, b, u, c, d, v, x, y, w)
        matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, pictures[0].shape[0] << 16, 0, 1 << 30]
        content[start : start + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
        path.write_bytes(content)
    return path


def numbers(files: list[Path]) -> list[int]:
    return [int(file.stem.rpartition("_")[2]) for file in files]


def test_frames_come_in_order_with_their_times(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(4 * n) for n in range(20)])
    frames = list(read_frames(path))
    assert count_frames(path) == len(frames) == 20
    np.testing.assert_allclose([f.seconds for f in frames], np.arange(20) / RATE, atol=1e-6)
    assert frames[0].rate == RATE
    assert np.abs(frames[5].image.astype(int) - picture(20)).mean() < 3


def test_a_phone_s_video_is_upright(tmp_path):
    path = clip(tmp_path / "phone.mp4", [picture(0)] * 3, rotated=True)
    image = next(read_frames(path)).image
    assert image.shape == (96, 48, 3)
    assert np.abs(image.astype(int) - np.rot90(picture(0), -1)).mean() < 3


def test_at_most_one_frame_in_an_interval(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(2 * n) for n in range(40)])
    found, alike = extract_frames([path], tmp_path / "frames", every=1.0)
    assert (numbers(found), alike) == ([0, 10, 20, 30], 0)
    assert numbers(extract_frames([path], tmp_path / "all", every=0, min_change=0)[0]) == list(range(40))
    assert numbers(extract_frames([path], tmp_path / "odd", every=0.15, min_change=0)[0]) == list(range(0, 40, 2))
    image = cv2.imread(str(tmp_path / "frames/walk_000010.jpg"))
    assert np.abs(image.astype(int) - picture(20)).mean() < 3


def test_frames_that_are_alike_are_left_out(tmp_path):
    """Still for two seconds, then the square jumps, then still again; without an interval every frame is examined."""
    path = clip(tmp_path / "still.mp4", [picture(0)] * 20 + [picture(40)] * 10)
    assert extract_frames([path], tmp_path / "a", every=1.0)[0] == [
        tmp_path / "a/still_000000.jpg",
        tmp_path / "a/still_000020.jpg",
    ]
    found, alike = extract_frames([path], tmp_path / "b", every=0)
    assert (numbers(found), alike) == ([0, 20], 28)


def test_a_small_person_counts_as_change(tmp_path):
    """A fiftieth of the picture in each direction: a small difference on average, a large one in its cell."""
    pictures = [np.full((256, 256, 3), 90, np.uint8) for _ in range(2)]
    pictures[1][100:106, 100:106] = 200
    found, _ = extract_frames([clip(tmp_path / "far.mp4", pictures)], tmp_path / "frames", every=0)
    assert numbers(found) == [0, 1]


def test_all_videos_of_a_folder_are_used(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path / f"{name}.mp4", [picture(8 * n) for n in range(3)])
    (tmp_path / "notes.txt").touch()
    found, _ = extract_frames(list_videos(tmp_path), tmp_path / "frames", every=0)
    assert len(found) == 6
    (tmp_path / "broken.mp4").write_text("no video")
    assert len(extract_frames(list_videos(tmp_path), tmp_path / "again", every=0)[0]) == 6
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    with pytest.raises(DataError, match="a: two videos have this name"):
        extract_frames(list_videos(tmp_path), tmp_path / "frames")


def test_other_files_are_errors_of_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4 can't be read"):
        extract_frames([tmp_path / "text.mp4"], tmp_path / "frames")
    with pytest.raises(DataError, match=r"gone\.mp4 does not exist; check the path"):
        extract_frames([tmp_path / "gone.mp4"], tmp_path / "frames")
    (tmp_path / "more.mp4").touch()
    with pytest.raises(DataError, match="1 more have no frame"):
        extract_frames(list_videos(tmp_path), tmp_path / "frames")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no video"):
        list_videos(tmp_path / "empty")


@pytest.mark.parametrize("options", [{"every": -1.0}, {"every": float("nan")}, {"min_change": float("nan")}])
def test_options_that_are_not_numbers_are_errors(tmp_path, options):
    path = clip(tmp_path / "walk.mp4", [picture(0)])
    with pytest.raises(ConfigError, match="not a number of 0 or more"):
        extract_frames([path], tmp_path / "frames", **options)


def test_frames_of_two_calls_do_not_mix(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(8 * n) for n in range(5)])
    extract_frames([path], tmp_path / "frames", every=0)
    with pytest.raises(DataError, match=r"holds 5 frames of these videos already \(the first: walk_000000\.jpg\)"):
        extract_frames([path], tmp_path / "frames", every=1)
    other = clip(tmp_path / "walk_2.mp4", [picture(0)])
    assert len(extract_frames([other], tmp_path / "frames")[0]) == 1


def test_names_may_hold_colons(tmp_path, monkeypatch):
    clip(tmp_path / "plain.mp4", [picture(0)]).rename(tmp_path / "take1:2.mp4")
    monkeypatch.chdir(tmp_path)
    assert numbers(extract_frames([Path("take1:2.mp4")], tmp_path / "frames")[0]) == [0]


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


def test_frames_before_a_break_are_kept(tmp_path, monkeypatch, caplog):
    path = clip(tmp_path / "walk.mp4", [picture(8 * n) for n in range(10)])
    whole = list(read_frames(path))

    def breaks(source):
        yield from whole[:4]
        raise DataError(f"video {source} can't be read (cut off)")

    monkeypatch.setattr("semipose.data.video.read_frames", breaks)
    assert numbers(extract_frames([path], tmp_path / "frames", every=0.2)[0]) == [0, 2]
    assert "2 frames kept from before that" in caplog.text


def test_a_folder_that_can_not_be_written_is_named(tmp_path, monkeypatch):
    path = clip(tmp_path / "walk.mp4", [picture(0)])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write to folder"):
        extract_frames([path], tmp_path / "file/frames")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semipose.data.video.write_image", full)
    with pytest.raises(RunError, match="can't be written"):
        extract_frames([path], tmp_path / "frames")


def test_the_package_that_reads_videos_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs the package 'av'.*semipose\[video\]"):
        count_frames(tmp_path / "a.mp4")
