"""Boxes around the joints that a network finds in whole images, against a plain computation."""

from pathlib import Path

import numpy as np
import pytest

from semipose.data.found_boxes import MARGIN, around_joints
from semipose.data.images import write_image
from semipose.inference.box_finder import CONFIDENT, BoxFinder, box_of_pose
from semipose.structures.boxes import BoxFacts
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO, infer_skeleton

ANY = BoxFacts("joints", 0.3, 0.0001, 100.0)


def plain_box(joints, scores, size, limits):
    points = [p for p, score in zip(joints.tolist(), scores, strict=True) if score >= CONFIDENT * max(scores)]
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    top, bottom = min(p[1] for p in points), max(p[1] for p in points)
    margin = MARGIN * max(right - left, bottom - top) + 1
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    relative = max(width, height) / max(size)
    factor = min(max(relative, limits.low), limits.high) / relative
    x, y = min(max((left + right) / 2, 0), size[0] - 1), min(max((top + bottom) / 2, 0), size[1] - 1)
    width, height = factor * width, factor * height
    return x - width / 2, y - height / 2, width, height


def test_boxes_are_those_of_a_plain_computation():
    rng = np.random.default_rng(0)
    for low, high in ((0.0001, 100.0), (0.2, 0.25), (0.5, 0.6)):
        limits = BoxFacts("joints", low, low, high)
        for _ in range(20):
            joints, scores = rng.uniform(-5, 70, (6, 2)), rng.uniform(0, 1, 6)
            size = (64.0, 48.0)
            assert box_of_pose(joints, scores, size, limits) == pytest.approx(plain_box(joints, scores, size, limits))


def test_confident_joints_at_the_labels_give_the_box_of_the_labels():
    joints = np.array([[10.0, 12], [30, 20], [60, 1]])
    person = Instance(Path("a.png"), 1, 1, (0, 0, 64, 48), joints, np.array([2, 2, 0], np.int8))
    (labeled,) = around_joints(PoseDataset(infer_skeleton(["a", "b", "c"]), [person], "labels")).instances
    assert box_of_pose(joints, np.array([0.9, 0.5, 0.4]), (64, 48), ANY) == pytest.approx(labeled.box)


def test_one_confident_joint_has_a_box_of_the_usual_size():
    limits = BoxFacts("joints", 0.3, 0.3, 0.4)
    joints, scores = np.array([[20.0, 20], [60, 40]]), np.array([0.9, 0.1])
    x, y, width, height = box_of_pose(joints, scores, (100, 100), limits)
    assert (width, height) == pytest.approx((30, 30))
    assert (x + width / 2, y + height / 2) == pytest.approx((20, 20))


def test_images_in_files_and_in_memory(model, tmp_path):
    finder = BoxFinder(model.predictor(), model.geometry, BoxFacts("joints", 0.3, 0.2, 0.4))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    write_image(image, tmp_path / "a.png", 95)
    persons = PoseDataset(COCO, [Instance(tmp_path / "a.png", 1, -1, (0, 0, 64, 48))], "frames")
    (stored,), (in_memory,) = finder.in_images(persons).instances, finder.in_frame(image, persons).instances
    assert stored.box == in_memory.box == tuple(np.round(stored.box, 2))
    assert 0.2 * 64 - 0.01 <= max(stored.box[2:]) <= 0.4 * 64 + 0.01
    broken = PoseDataset(COCO, [Instance(tmp_path / "gone.png", 1, -1, (0, 0, 64, 48))], "frames")
    assert len(finder.in_images(broken)) == 1
