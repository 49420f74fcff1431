"""Numbers of the persons in a video, against the best assignment of all permutations."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from semipose.inference import tracking
from semipose.inference.tracking import MAX_GAP, MIN_OKS, Tracker, describe_subjects
from semipose.structures.predictions import Prediction

SIGMAS = (0.05, 0.1, 0.079)


def pose(frame, x, y=50.0, size=40.0) -> Prediction:
    joints = np.array([[x, y], [x + size / 3, y + size], [x - size / 4, y + size / 2]])
    box = (x - size / 2, y - 5, size, size + 10)
    return Prediction(frame, None, joints, np.ones(3), 0.9, box)


def plain_oks(before: Prediction, after: Prediction) -> float:
    area = 0.53 * before.box[2] * before.box[3]
    distances = [math.dist(a, b) ** 2 for a, b in zip(before.joints, after.joints, strict=True)]
    return sum(math.exp(-d / (2 * area * (2 * s) ** 2)) for d, s in zip(distances, SIGMAS, strict=True)) / 3


def test_the_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        before = [pose(0, *rng.uniform(40, 90, 2)) for _ in range(4)]
        after = [pose(1, *(p.joints[0] + rng.normal(0, 6, 2))) for p in before]
        order = rng.permutation(4).tolist()
        tracker = Tracker(SIGMAS)
        tracker.update(0, before)
        found = [p.track for p in tracker.update(1, [after[i] for i in order])]
        value = [[oks if (oks := plain_oks(b, after[i])) >= MIN_OKS else 0 for i in order] for b in before]
        best = max(itertools.permutations(range(4)), key=lambda rows: sum(value[r][c] for c, r in enumerate(rows)))
        expected = [row + 1 if value[row][column] else None for column, row in enumerate(best)]
        assert all(e in (None, f) for e, f in zip(expected, found, strict=True))
        assert all(f > 4 for e, f in zip(expected, found, strict=True) if e is None)


def test_persons_keep_their_number_when_boxes_change_their_order_and_after_a_gap():
    tracker = Tracker(SIGMAS)
    assert [p.track for p in tracker.update(0, [pose(0, 50), pose(0, 200)])] == [1, 2]
    assert [p.track for p in tracker.update(1, [pose(1, 203), pose(1, 52)])] == [2, 1]
    assert [p.track for p in tracker.update(2, [pose(2, 203), pose(2, 400)])] == [2, 3]
    assert tracker.update(3, []) == []
    assert [p.track for p in tracker.update(1 + MAX_GAP, [pose(1 + MAX_GAP, 52)])] == [1]
    assert [p.track for p in tracker.update(3 + 2 * MAX_GAP, [pose(3 + 2 * MAX_GAP, 52)])] == [4]


def test_without_scipy_nobody_is_numbered(monkeypatch, caplog):
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    tracker = Tracker(SIGMAS)
    assert [p.track for p in tracker.update(0, [pose(0, 50), pose(0, 200)])] == [None, None]
    assert "persons are not tracked: this needs the package 'scipy'" in caplog.text


def test_subjects_of_a_video_are_counted():
    tracker, found = Tracker(SIGMAS), []
    for frame, places in enumerate([(50, 200), (52, 203), (), (400,), (52,)]):
        found += tracker.update(frame, [pose(frame, x) for x in places])
    line = "3 tracks, at most 2 at once; of 5 frames 1 has 0 subjects, 2 have 1 subject, 2 have 2 subjects"
    assert describe_subjects(found, 5) == line
    untracked = [replace(p, track=None) for p in found]
    assert describe_subjects(untracked, 5).startswith("not tracked, at most 2 at once; of 5 frames")


@pytest.mark.parametrize("count", [1, 3])
def test_several_boxes_in_a_frame_are_tracked_in_every_file(model, tmp_path, count, caplog):
    import json

    import cv2

    import semipose

    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 48))
    for n in range(3):
        writer.write(np.random.default_rng(n).integers(0, 255, (48, 96, 3), np.uint8))
    writer.release()
    boxes = [{"image_id": f, "category_id": 1, "bbox": [30 * n, 4, 20, 30]} for f in range(3) for n in range(count)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    given = {"boxes": tmp_path / "boxes.json", "draw": True}
    caplog.set_level("INFO")
    written = semipose.predict(model, tmp_path / "clip.avi", out=tmp_path / "found", **given)
    records = json.loads(written[0].read_text())
    tracks = sorted({record["track_id"] for record in records if "track_id" in record})
    assert (len(tracks) >= 3) == (count == 3)
    assert (len(tracks) == 0) == (count == 1)
    counted = f"clip.avi: {len(tracks)} tracks, at most 3 at once; of 3 frames 3 have 3 subjects"
    assert (counted in caplog.text) == (count == 3)
    written = semipose.predict(model, tmp_path / "clip.avi", out=tmp_path / "t.csv", **given)
    header = written[0].read_text().splitlines()[1].split(",")
    names = list(dict.fromkeys(header[1:])) if header[0] == "individuals" else []
    assert names == [f"individual{track}" for track in tracks]
    pytest.importorskip("sleap_io")
    import sleap_io

    written = semipose.predict(model, tmp_path / "clip.avi", out=tmp_path / "t.slp", **given)
    assert {track.name for track in sleap_io.load_slp(str(written[0])).tracks} == set(names)


def test_joints_that_were_not_learned_do_not_count():
    """One person rests; the last two of three joints are anywhere."""
    rng = np.random.default_rng(0)
    tracker = Tracker(SIGMAS)
    for frame in range(20):
        still = pose(frame, 50)
        joints = still.joints + np.array([[0, 0], *rng.uniform(-200, 200, (2, 2))])
        (found,) = tracker.update(frame, [replace(still, joints=joints, scores=np.array([0.9, 0, 0]))])
        assert found.track == 1
