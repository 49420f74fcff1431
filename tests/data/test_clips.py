"""Clips: found by names, confirmed by content; neighbors in them."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest

import semipose.data.clips
from semipose.data.clips import PAIRS, clips, frame_of, held_out_neighbors, near_pairs, neighbors
from semipose.data.datasets import PEOPLE


def write_frames(folder: Path, numbers, name="img{:04d}.png", alike=True) -> list[Path]:
    """Frames of a slowly moving square, or unrelated images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for n in numbers:
        image = np.full((48, 64, 3), 40, np.uint8)
        image[8:40, n % 48 : n % 48 + 16] = 220
        paths.append(folder / name.format(n))
        cv2.imwrite(str(paths[-1]), image if alike else rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    return paths


def test_names_give_clip_and_number():
    assert frame_of(Path("a/img0012.png")) == ((Path("a"), "img"), 12)
    assert frame_of(Path("a/cam2_7.jpg")) == ((Path("a"), "cam2_"), 7)
    assert frame_of(Path("000005.jpg")) == ((Path(), ""), 5)
    assert frame_of(Path("a/photo.jpg")) is None
    assert frame_of(Path("a/1a2b3c4d-mouse_0012.jpg")) == ((Path("a"), "mouse_"), 12)
    assert frame_of(Path(f"a/mouse_0012_jpg.rf.{'0a1b' * 8}.jpg")) == ((Path("a"), "mouse_"), 12)
    assert frame_of(Path("a/frame0012_cam1.jpg")) == ((Path("a"), "frame_cam1"), 12)
    assert frame_of(Path("a/top_view2.jpg")) == ((Path("a"), "top_view"), 2)
    assert frame_of(Path("a/20240131-mouse_0012.jpg")) == ((Path("a"), "20240131-mouse_"), 12)
    found = clips(map(Path, ["b/x10.png", "b/x9.png", "a/x1.png", "b/y1.png", "b/z.png"]))
    assert {clip: [path.name for path in images] for clip, images in found.items()} == {
        (Path("b"), "x"): ["x9.png", "x10.png"],
        (Path("a"), "x"): ["x1.png"],
        (Path("b"), "y"): ["y1.png"],
    }


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 2, 3, 5], [(1, 2), (2, 3)]),
        ([0, 6, 12, 18, 40], [(0, 6), (6, 12), (12, 18)]),
        ([0, 300, 600, 605], [(600, 605)]),
        ([7], []),
        ([0, 20, 40, 41, 42], [(40, 41), (40, 42), (41, 42)]),
    ],
)
def test_neighbors_are_no_farther_apart_than_ten_and_than_usual_in_the_clip(numbers, expected):
    pairs = near_pairs([Path(f"img{n}.png") for n in numbers])
    assert [(frame_of(a)[1], frame_of(b)[1]) for a, b in pairs] == expected
    limit = min(10, np.median(np.diff(numbers))) if len(numbers) > 1 else 0
    assert expected == [(a, b) for a in numbers for b in numbers if 0 < b - a <= limit]


def test_augmented_copies_of_a_frame_are_neighbors():
    copies = [Path(f"img{n}_png.rf.{hash_ * 32}.png") for n in (1, 2, 9) for hash_ in "abc"]
    numbers = [(frame_of(a)[1], frame_of(b)[1]) for a, b in near_pairs(copies)]
    assert {n: numbers.count(n) for n in numbers} == {(1, 1): 3, (1, 2): 9, (2, 2): 3, (9, 9): 3}


def test_frames_that_look_alike_are_neighbors(tmp_path):
    frames = write_frames(tmp_path / "v", range(20))
    found = neighbors(frames)
    assert found[frames[0]] == {frames[1]}
    assert found[frames[5]] == {frames[4], frames[6]}
    assert set(found) == set(frames)


def test_numbered_photographs_are_no_clip(tmp_path):
    assert neighbors(write_frames(tmp_path / "lsp", range(20), alike=False)) == {}
    assert neighbors([Path(f"missing{n}.png") for n in range(20)]) == {}
    photos = write_frames(tmp_path / "sizes", range(20))
    for n, path in enumerate(photos):
        cv2.imwrite(str(path), np.zeros((20 + n, 30, 3), np.uint8))
    assert neighbors(photos) == {}


def test_short_clips_are_compared_with_all_images(tmp_path):
    """Two frames alone say nothing; beside other videos they are more alike than images of different videos."""
    frames = [write_frames(tmp_path / f"v{n}", (20 * n, 20 * n + 1)) for n in range(8)]
    found = neighbors([image for pair in frames for image in pair])
    assert found == {a: {b} for pair in frames for a, b in (pair, pair[::-1])}
    assert neighbors(frames[0]) == {}


def test_many_short_clips_share_one_comparison(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(semipose.data.clips, "_difference", lambda *pair: calls.append(pair) or 0.0)
    neighbors([tmp_path / f"v{n}" / f"{k}.png" for n in range(50) for k in (1, 2)])
    assert len(calls) == 50 + PAIRS


def test_held_out_images_next_to_images_of_the_training(tmp_path):
    frames = write_frames(tmp_path, range(24))
    assert held_out_neighbors(frames[:16], frames[16:]) == [frames[16]]
    assert held_out_neighbors(frames[:15], frames[16:]) == []
    assert held_out_neighbors(frames[:16], frames[10:20]) == [frames[16]]  # shared images are leakage, told elsewhere


def test_few_images_are_no_clip(tmp_path):
    assert neighbors(write_frames(tmp_path, range(7))) == {}
    assert neighbors(write_frames(tmp_path, range(9)))


def test_numbered_photographs_are_no_clip_by_chance():
    images = sorted((PEOPLE / "images").iterdir())
    for seed in range(3):
        assert not neighbors(random.Random(seed).sample(images, 300)), seed
