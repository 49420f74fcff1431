"""The picture of the demo: test persons where labels alone and the result differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semipose.data.datasets import read_dataset
from semipose.data.images import read_image
from semipose.inference.draw import RED, comparison_sheet, draw_pose, draw_rings, save_image
from semipose.inference.pose_model import PoseModel, load_pose_model
from semipose.metrics.pck import torso_diagonal
from semipose.metrics.registry import value_text
from semipose.structures.instances import PoseDataset
from semipose.structures.poses import Poses
from semipose.training.result import TrainResult

PERSONS = 8
"""Persons in the picture."""
DIFFERENCE = 2
"""One network has at least this many more right joints than the other."""
SCALE = 3.0
"""Enlargement of the close-ups."""


def save_picture(run: TrainResult, path: Path) -> str:
    """Draws ground truth and the joints of both networks on persons of the gym's test split, drawn at random.

    Red rings mark joints that are wrong by PCK@0.2. The titles are the scores on all test persons.

    Args:
        run: A run of `late_teacher` on the gym.
        path: The image file to write.

    Returns:
        What the picture shows, in one sentence.
    """
    truth = read_dataset("gym", None, "val")
    names = ("labels_alone", run.headline_networks[0])
    titles = [
        f"{title}: {value_text('PCK@0.2', run.scores[name]['PCK@0.2'])} % right"
        for title, name in zip(("labels alone", "with unlabeled"), names, strict=True)
    ]
    poses = [_predict(truth, load_pose_model(run.folder, name)) for name in names]
    wrong = [
        [wrong_joints(truth, index, pose.keypoints[0]) for index, pose in enumerate(of_network)] for of_network in poses
    ]
    numbers = np.array([[joints.sum() for joints in of_network] for of_network in wrong])
    fewer_wrong = numbers[0] - numbers[1]
    chosen, least = draw_persons(fewer_wrong)
    rows = [
        _row(truth, index, [(pose[index], joints[index]) for pose, joints in zip(poses, wrong, strict=True)])
        for index in chosen
    ]
    save_image(comparison_sheet(rows, ["ground truth", *titles]), path)
    differing = fewer_wrong[np.abs(fewer_wrong) >= least]
    return (
        f"{path}: {len(chosen)} of the {len(differing)} test persons where the networks differ by {least} joints or "
        f"more, drawn at random; with unlabeled images {(differing > 0).sum()} of the {len(differing)} are better"
    )


def draw_persons(difference: np.ndarray) -> tuple[list[int], int]:
    """Draws persons where the numbers of right joints of the two networks differ.

    Args:
        difference: (N,) right joints of one network minus those of the other, by person.

    Returns:
        Indices of the persons, ascending, and the least difference among which they were drawn: `DIFFERENCE`, or 0 if
        too few persons differ by that much.
    """
    least = DIFFERENCE if (np.abs(difference) >= DIFFERENCE).sum() >= PERSONS else 0
    candidates = np.flatnonzero(np.abs(difference) >= least)
    chosen = np.random.default_rng(7).choice(candidates, min(PERSONS, len(candidates)), replace=False)
    return sorted(chosen.tolist()), least


def wrong_joints(truth: PoseDataset, index: int, joints: np.ndarray) -> np.ndarray:
    """Returns (K,) bool, the labeled joints that are wrong by PCK@0.2; none for a person without a labeled torso."""
    person = truth[index]
    assert person.joints is not None and person.visibility is not None
    limit = 0.2 * (torso_diagonal(person, truth.skeleton) or np.inf)
    return (person.visibility > 0) & (np.linalg.norm(joints - person.joints, axis=1) > limit)


def _predict(truth: PoseDataset, model: PoseModel) -> list[Poses]:
    """Returns the poses in the boxes of the labels."""
    people = (truth[index] for index in range(len(truth)))
    return [model.predict(read_image(person.image), np.array([person.box])) for person in people]


def _row(truth: PoseDataset, index: int, networks: Sequence[tuple[Poses, np.ndarray]]) -> list[np.ndarray]:
    """Returns close-ups of one person with the labeled joints and with those of each network, the wrong ones ringed."""
    person = truth[index]
    assert person.joints is not None and person.visibility is not None
    image = read_image(person.image)
    x, y, width, height = person.box
    side = int(min(*image.shape[:2], 1.25 * max(width, height)))
    space = (image.shape[1] - side, image.shape[0] - side)
    left, top = (int(v) for v in np.clip((x + (width - side) / 2, y + (height - side) / 2), 0, space))
    close_up, corner = image[top : top + side, left : left + side], (left, top)
    labeled = person.visibility > 0
    tiles = [draw_pose(close_up, (person.joints - corner)[None], labeled[None] * 1.0, truth.skeleton, scale=SCALE)]
    for poses, wrong in networks:
        joints = poses.keypoints - corner
        tile = draw_pose(close_up, joints, poses.scores, truth.skeleton, min_score=0.0, scale=SCALE)
        tiles.append(draw_rings(tile, (joints[0, wrong] + 0.5) * SCALE - 0.5, RED, radius=9))
    return tiles
