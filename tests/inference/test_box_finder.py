"""Boxes that a network finds in whole images, against plain computations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.data.crops import CropGeometry
from semipose.data.found_boxes import MARGIN, around_joints
from semipose.data.images import write_image
from semipose.inference.box_finder import (
    CONFIDENT,
    LOWEST_PEAK,
    NEAREST,
    CenterFinder,
    SubjectFinder,
    box_of_pose,
    boxes_of_peaks,
)
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
    finder = SubjectFinder(model.predictor(), model.geometry, BoxFacts("joints", 0.3, 0.2, 0.4))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    write_image(image, tmp_path / "a.png", 95)
    persons = PoseDataset(COCO, [Instance(tmp_path / "a.png", 1, -1, (0, 0, 64, 48))], "frames")
    (stored,), (in_memory,) = finder.in_images(persons).instances, finder.in_frame(image, persons).instances
    assert stored.box == in_memory.box == tuple(np.round(stored.box, 2))
    assert 0.2 * 64 - 0.01 <= max(stored.box[2:]) <= 0.4 * 64 + 0.01
    broken = PoseDataset(COCO, [Instance(tmp_path / "gone.png", 1, -1, (0, 0, 64, 48))], "frames")
    assert len(finder.in_images(broken)) == 1


def test_boxes_of_peaks_are_the_highest_that_are_apart():
    rng = np.random.default_rng(1)
    for _ in range(50):
        points, peaks = rng.uniform(0, 100, (8, 2)), np.sort(rng.uniform(0, 1, 8))[::-1]
        kept = []
        for x, y, height in zip(*points.T.tolist(), peaks.tolist(), strict=True):
            near = any(((x - a) ** 2 + (y - b) ** 2) ** 0.5 < NEAREST * 40 for a, b in kept)
            if height >= LOWEST_PEAK and not near and len(kept) < 3:
                kept.append((x, y))
        expected = [[round(x - 19.5, 2), round(y - 19.5, 2), 40, 40] for x, y in kept]
        np.testing.assert_allclose(boxes_of_peaks(points, peaks, 40.0, 3), np.reshape(expected, (-1, 4)), atol=0.011)


class Blobs(torch.nn.Module):
    """A network whose heatmaps are the brightness of each cell of 4×4 pixels."""

    def __init__(self, network):
        super().__init__()
        self.config = network.config
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward_main(self, images):
        gray = torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 4)
        return (gray - gray.amin()).expand(-1, 2, -1, -1) / 4


def test_every_bright_spot_gets_a_box_of_the_usual_size(model, tmp_path):
    limits = BoxFacts("found", 0.25, 0.2, 0.3)
    geometry = CropGeometry((64, 64), padding=1.0)
    finder = CenterFinder(replace(model.predictor(), networks=[Blobs(model.network)]), geometry, limits, 2)
    image = np.zeros((128, 128, 3), np.uint8)
    for x, y in ((36, 28), (92, 76)):
        image[y - 4 : y + 4, x - 4 : x + 4] = 255
    write_image(image, tmp_path / "a.png", 95)
    write_image(np.zeros((128, 128, 3), np.uint8), tmp_path / "empty.png", 95)
    whole = (0, 0, 128, 128)
    names = ("a.png", "a.png", "empty.png", "gone.png")
    persons = [Instance(tmp_path / name, name, -n - 1, whole) for n, name in enumerate(names)]
    dataset = finder.in_images(
        PoseDataset(COCO, persons[:2] + persons[3:], "frames", (("empty.png", persons[2].image),))
    )
    assert dataset.empty_images == (("empty.png", tmp_path / "empty.png"),)
    assert dataset.left_out == {"images in which the box network finds no subject": 1}
    found = dataset.instances
    assert [p.image_id for p in found] == ["a.png", "a.png", "gone.png"]
    assert found[2].box == whole  # reading it again reports it
    for box in (found[0].box, found[1].box):
        assert box[2:] == (32, 32)
    centers = sorted((p.box[0] + 15.5, p.box[1] + 15.5) for p in list(found)[:2])
    np.testing.assert_allclose(centers, [(35.5, 27.5), (91.5, 75.5)], atol=2.1)
    in_memory = finder.in_frame(image, PoseDataset(COCO, persons[:1], "frames")).instances
    assert [p.box for p in in_memory] == [p.box for p in list(found)[:2]]
    pose = replace(model, box_finder=finder).predict(np.zeros((128, 128, 3), np.uint8))
    assert pose.keypoints.shape == (0, len(model.skeleton), 2)
