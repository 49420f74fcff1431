"""Candidates: images of a folder, and frames of a video with those after them."""

import json

import cv2
import numpy as np

from semipose.data.video_frames import frame_number
from semipose.inference.candidates import next_frames, read_candidates
from tests.data.test_clips import write_frames


def test_frames_of_a_folder_have_those_before_and_after(model, tmp_path):
    images = write_frames(tmp_path / "v", (1, 2, 3, 5, 9, 10))
    around = next_frames(images)
    assert {frame_number_of(a): [frame_number_of(b) for b in near] for a, near in around.items()} == {
        1: [2],
        2: [1, 3],
        3: [2],
        9: [10],
        10: [9],
    }
    candidates = read_candidates(model, tmp_path / "v", tmp_path / "empty", 3, [])
    assert (candidates.around, candidates.further) == (around, frozenset())
    assert len(candidates.persons) == 6
    record = {"image_id": images[0].name, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.9}
    (tmp_path / "boxes.json").write_text(json.dumps([record]))
    boxed = read_candidates(model, tmp_path / "v", tmp_path / "empty", 3, [], boxes=tmp_path / "boxes.json")
    assert [*boxed.persons.image_paths.values()] == images[:1]


def frame_number_of(image):
    return int(image.stem[3:])


def test_frames_of_a_video_have_the_one_after(model, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(400):
        image = np.zeros((48, 64, 3), np.uint8)
        image[10:30, n % 44 : n % 44 + 20] = 50 + n // 2
        writer.write(image)
    writer.release()
    candidates = read_candidates(model, tmp_path / "clip.avi", tmp_path / "frames", 3, [])
    own = {image for image in candidates.persons.image_paths.values() if image not in candidates.further}
    assert len(own) == 300
    assert {frame_number(image) + 1 for image in own if image in candidates.around} == {
        frame_number(image) for image in candidates.further
    }
    for image, near in candidates.around.items():
        assert [frame_number(other) for other in near] == [frame_number(image) + 1]
