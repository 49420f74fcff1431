"""Frames of videos as images: their number, their difference, their names, and the cache."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.data.video import read_frames
from semipose.data.video_frames import cached_frames, extract_frames, frame_number, frames_dataset, shares
from semipose.errors import ConfigError, DataError, RunError
from semipose.structures.skeletons import COCO
from tests.data.make_video import clip, picture


def numbers(files: list[Path]) -> list[int]:
    return [number for file in files if (number := frame_number(file)) is not None]


@pytest.mark.parametrize("rate", [10, 250])
def test_the_number_of_frames_does_not_depend_on_the_frame_rate(tmp_path, rate):
    """One frame a second would be 8 frames of one of these videos and one of the other."""
    path = clip(tmp_path / "walk.mp4", [picture(n) for n in range(80)], rate=rate)
    found, _ = extract_frames([path], tmp_path / "frames", count=20)
    spread = np.array(numbers(found))
    assert len(spread) == 20
    assert np.diff(np.concatenate([[0], spread, [79]])).max() <= 16
    image = cv2.imread(str(found[10]))
    assert np.abs(image.astype(int) - picture(spread[10])).mean() < 3


def test_every_frame_where_there_are_few(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(2 * n) for n in range(12)])
    found, alike = extract_frames([path], tmp_path / "frames")
    assert (numbers(found), alike) == (list(range(12)), 0)


def test_frames_that_are_alike_are_left_out(tmp_path):
    """Still for two seconds, then the square jumps, then still again."""
    path = clip(tmp_path / "still.mp4", [picture(0)] * 20 + [picture(40)] * 10)
    found, alike = extract_frames([path], tmp_path / "frames", count=10)
    assert len(found) == 2
    assert numbers(found)[0] < 20 <= numbers(found)[1]
    assert alike == 28


def test_rare_poses_are_taken(tmp_path):
    """Of a hundred frames, four show another position; frames at even distances would have one of them."""
    pictures = [picture(n % 2) for n in range(100)]
    for n in range(10, 100, 25):
        pictures[n] = picture(20 + n // 2)
    found, _ = extract_frames([clip(tmp_path / "rare.mp4", pictures)], tmp_path / "frames", count=25)
    assert {10, 35, 60, 85} <= set(numbers(found))


def test_a_small_person_counts_as_change(tmp_path):
    """A fiftieth of the picture in each direction: a small difference on average, a large one in its cell."""
    pictures = [np.full((256, 256, 3), 90, np.uint8) for _ in range(2)]
    pictures[1][100:106, 100:106] = 200
    found, _ = extract_frames([clip(tmp_path / "far.mp4", pictures)], tmp_path / "frames")
    assert numbers(found) == [0, 1]


def test_all_videos_have_a_share(tmp_path):
    lengths = {"short": 3, "long": 60, "longer": 75}
    paths = [clip(tmp_path / f"{name}.mp4", [picture(n) for n in range(length)]) for name, length in lengths.items()]
    found, _ = extract_frames(paths, tmp_path / "frames", count=23)
    assert [sum(file.stem.startswith(f"{name}_") for file in found) for name in lengths] == [3, 10, 10]
    assert shares(10, [100, 0, 2]) == [4, 4, 2]
    assert shares(2, [5, 5, 5]) == [1, 1, 0]
    (tmp_path / "broken.mp4").write_text("no video")
    assert len(extract_frames([*paths, tmp_path / "broken.mp4"], tmp_path / "again", count=4)[0]) == 3


def test_the_frame_after_each_one(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(n) for n in range(60)])
    found, _ = extract_frames([path], tmp_path / "frames", count=5, following=tmp_path / "next")
    after = sorted((tmp_path / "next").iterdir())
    assert numbers(after) == [n + 1 for n in numbers(found) if n < 59]
    assert {p.name for p in (tmp_path / "frames").iterdir()} == {p.name for p in found}


def test_other_files_are_errors_of_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4 can't be read"):
        extract_frames([tmp_path / "text.mp4"], tmp_path / "frames")
    with pytest.raises(DataError, match=r"gone\.mp4 does not exist; check the path"):
        extract_frames([tmp_path / "gone.mp4"], tmp_path / "frames")
    (tmp_path / "more.mp4").touch()
    with pytest.raises(DataError, match="1 more have no frame"):
        extract_frames([tmp_path / "text.mp4", tmp_path / "more.mp4"], tmp_path / "frames")


@pytest.mark.parametrize("options", [{"count": 0}, {"min_change": -1.0}, {"min_change": float("nan")}])
def test_options_out_of_range_are_errors(tmp_path, options):
    path = clip(tmp_path / "walk.mp4", [picture(0)])
    with pytest.raises(ConfigError, match=next(iter(options))):
        extract_frames([path], tmp_path / "frames", **options)


def test_frames_of_two_calls_do_not_mix(tmp_path):
    path = clip(tmp_path / "walk.mp4", [picture(8 * n) for n in range(5)])
    extract_frames([path], tmp_path / "frames")
    with pytest.raises(DataError, match=r"holds 5 frames of these videos already \(the first: walk_000000\.jpg\)"):
        extract_frames([path], tmp_path / "frames", count=1)
    other = clip(tmp_path / "walk_2.mp4", [picture(0)])
    assert len(extract_frames([other], tmp_path / "frames")[0]) == 1


def test_names_may_hold_colons(tmp_path, monkeypatch):
    clip(tmp_path / "plain.mp4", [picture(0)]).rename(tmp_path / "take1:2.mp4")
    monkeypatch.chdir(tmp_path)
    assert numbers(extract_frames([Path("take1:2.mp4")], tmp_path / "frames")[0]) == [0]


def test_frames_before_a_break_are_kept(tmp_path, monkeypatch, caplog):
    path = clip(tmp_path / "walk.mp4", [picture(8 * n) for n in range(10)])
    whole = list(read_frames(path))

    def breaks(source):
        yield from whole[:4]
        raise DataError(f"video {source} can't be read (cut off)")

    monkeypatch.setattr("semipose.data.video_frames.read_frames", breaks)
    assert numbers(extract_frames([path], tmp_path / "frames")[0]) == [0, 1, 2, 3]
    assert "4 frames kept from before that" in caplog.text


def test_a_folder_that_can_not_be_written_is_named(tmp_path, monkeypatch):
    path = clip(tmp_path / "walk.mp4", [picture(0)])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write to folder"):
        extract_frames([path], tmp_path / "file/frames")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semipose.data.video_frames.write_image", full)
    with pytest.raises(RunError, match="can't be written"):
        extract_frames([path], tmp_path / "frames")


def test_frames_in_the_cache_are_extracted_once(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    clip(tmp_path / "a.mp4", [picture(8 * n) for n in range(6)])
    first = cached_frames(tmp_path / "*.mp4", 4)
    assert len(first) == 4
    assert "4 frames taken" in caplog.text
    (first[0].parent / ".complete").unlink()  # as if the first call had been stopped
    assert cached_frames(tmp_path / "a.mp4", 4) == first
    caplog.clear()
    assert cached_frames(tmp_path / "a.mp4", 4) == first
    assert caplog.text == ""
    assert len(cached_frames(tmp_path / "a.mp4", 5)) == 5


def test_boxes_belong_to_frame_numbers(tmp_path, caplog):
    paths = [clip(tmp_path / f"{name}.mp4", [picture(8 * n) for n in range(6)]) for name in "ab"]
    frames, _ = extract_frames(paths[:1], tmp_path / "frames", count=3)
    whole = frames_dataset(frames, paths[0], COCO)
    assert [tuple(p.box) for p in whole.instances] == [(0, 0, 96, 48)] * 3
    records = [{"image_id": n, "category_id": 1, "bbox": [n, 2, 30, 40], "score": 0.9} for n in range(6)]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    boxed = frames_dataset(frames, paths[0], COCO, boxes=tmp_path / "boxes.json")
    assert [p.box[0] for p in boxed.instances] == numbers(frames)
    assert [frame_number(p.image) for p in boxed.instances] == numbers(frames)
    assert boxed.left_out == {"boxes in frames that were not taken": 3}
    assert "outside" not in caplog.text  # as with every video
    both, _ = extract_frames(paths, tmp_path / "both")
    with pytest.raises(ConfigError, match="frame numbers belong to one video"):
        frames_dataset(both, tmp_path, COCO, boxes=tmp_path / "boxes.json")
