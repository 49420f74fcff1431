"""Several animals in an image, without boxes: from labels to tracked predictions of a video."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

import semipose
from semipose.config import load_config
from semipose.data.data_config import DataConfig
from semipose.data.datasets import load_splits, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.data.found_boxes import centers_in_images
from semipose.structures.instances import PoseDataset
from semipose.trainer import train
from tests.conftest import NO_TEST, TINY

BODYPARTS = ("head", "tail")
SIZE = 96


def positions(frame):
    """Head and tail of two animals, which move past each other without touching; the second leaves in the end."""
    animals = [[(8 + 2 * frame, 20), (24 + 2 * frame, 20)], [(84 - 2 * frame, 70), (68 - 2 * frame, 70)]]
    return animals if frame < 24 else animals[:1]


def draw(frame):
    image = np.full((SIZE, SIZE, 3), 30, np.uint8)
    for head, tail in positions(frame):
        cv2.line(image, head, tail, (255, 255, 255), 5)
        cv2.circle(image, head, 6, (0, 0, 255), -1)
    return image


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A DeepLabCut project of two animals with 12 labeled frames, and the video."""
    folder = tmp_path_factory.mktemp("several")
    labels = folder / "labeled-data" / "arena"
    labels.mkdir(parents=True)
    individuals = ["one", "two"]
    (folder / "config.yaml").write_text(
        "Task: arena\nscorer: lab\nmultianimalproject: true\nvideo_sets: {}\n"
        f"individuals: {individuals}\nmultianimalbodyparts: {list(BODYPARTS)}\nuniquebodyparts: []\nbodyparts: MULTI!\n"
    )
    columns = pd.MultiIndex.from_product(
        [["lab"], individuals, BODYPARTS, ["x", "y"]], names=["scorer", "individuals", "bodyparts", "coords"]
    )
    table = pd.DataFrame(columns=columns, dtype=float)
    for frame in range(0, 24, 2):
        name = f"labeled-data/arena/img{frame:03d}.png"
        cv2.imwrite(str(folder / name), draw(frame))
        table.loc[name] = np.ravel(positions(frame)).astype(float)
    table.to_csv(labels / "CollectedData_lab.csv")
    writer = cv2.VideoWriter(str(folder / "arena.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (SIZE, SIZE))
    for frame in range(28):
        writer.write(draw(frame))
    writer.release()
    return folder


@pytest.fixture(scope="module")
def run(project):
    options = {
        "data.train": str(project),
        "data.unlabeled": str(project / "arena.avi"),
        "data.boxes": "auto",
        "data.labels": None,
        "data.validation": 2,
        "input.height": 32,
        "input.width": 32,
        "loss.sigma": 1.0,
        "method": "mean_teacher",
        "train.batch": 8,
        "train.lr": 0.01,
        "train.steps": 80,
        "train.select": "last",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semipose.auto.SEVERAL_SIDE", 64)
        train(load_config(None, {**TINY, **NO_TEST, **options}), project / "run")
    return project / "run"


def test_the_boxes_of_both_animals_are_found_and_tracked(run, project, tmp_path):
    found = json.loads((run / "boxes.json").read_text())
    assert list(found) == ["unlabeled"]
    assert np.mean([len(boxes) for boxes in found["unlabeled"]]) > 1.6
    written = semipose.predict(run, project / "arena.avi", out=tmp_path, draw=True)
    records = json.loads(written[0].read_text())
    counts = np.bincount([record["image_id"] for record in records], minlength=28)
    assert counts.max() == 2  # at most as many as labels show
    assert (counts[:24] == 2).mean() > 0.8
    assert (counts[24:] == 1).mean() > 0.5
    off = []
    for record in records:
        x, y, width, height = record["bbox"]
        middle = (x + width / 2, y + height / 2)
        off.append(min(np.linalg.norm(np.mean(animal, axis=0) - middle) for animal in positions(record["image_id"])))
    assert np.median(off) < 4
    assert {record["track_id"] for record in records} >= {1, 2}


def test_labels_are_evaluated_in_found_boxes(run, project):
    evaluation = semipose.evaluate(run, project)
    assert "boxes: found by the box network of the run" in evaluation.protocol.describe()
    assert evaluation.scores.counts["persons"] == 24
    assert evaluation.scores.counts["no_prediction"] <= 4
    own = json.loads((run / "scores.json").read_text())
    assert "boxes: around the labels" in own["protocol"]  # of the validation persons


def test_labels_of_few_animals_teach_all_in_their_images(project):
    """Labels are drawn by animal: before, the other animals of an image were taught to be background."""
    for seed in range(4):
        config = DataConfig(train=str(project), boxes="auto", labels=3, validation=0, split_seed=seed)
        splits = load_splits(config)
        assert (centers_in_images(splits.shown).instances.visibility > 0).all()
        assert len(centers_in_images(splits.shown).skeleton) == 2


def test_images_without_a_subject_are_counted(run, project, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "empty.png"), np.full((SIZE, SIZE, 3), 30, np.uint8))
    with pytest.raises(semipose.DataError, match="finds no subject in any image"):
        semipose.predict(run, images, out=tmp_path / "none.csv")
    cv2.imwrite(str(images / "full.png"), draw(3))
    written = semipose.predict(run, images, out=tmp_path / "some.csv")
    assert written.account.left_out == {"images in which the box network finds no subject": 1}
    assert len(pd.read_csv(tmp_path / "some.csv", header=[0, 1, 2, 3], index_col=0)) == 2
    suggested = semipose.suggest(run, images, count=1, out=tmp_path / "label")
    assert suggested.account.left_out["images in which the box network finds no subject"] == 1


def test_labels_are_checked(run, project, caplog):
    """The run of the box network sees no joints, so the run itself checks them."""
    content = read_dataset(str(project), None)
    twice = PoseDataset(content.skeleton, [*content.instances, replace(content[0], annotation_id=999)], "twice")
    write_coco(twice, project / "twice.json")
    options = {
        "data.train": str(project / "twice.json"),
        "data.images": str(project / "labeled-data" / "arena"),
        "data.boxes": "auto",
    }
    options |= {"data.labels": None, "data.validation": 0, "method": "supervised", "train.steps": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semipose.auto.SEVERAL_SIDE", 64)
        train(load_config(None, {**TINY, **NO_TEST, **options, "train.select": "last"}), project / "twice")
    assert "annotated again" in caplog.text


def test_suggestions_and_images_have_the_boxes_of_all_animals(run, project, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for frame in (1, 5):
        cv2.imwrite(str(images / f"{frame}.png"), draw(frame))
    written = semipose.predict(run, images, out=tmp_path / "found")
    assert len(json.loads(written[0].read_text())) == 4
    poses = semipose.load(run).predict(draw(5)[:, :, ::-1].copy())
    assert len(poses.boxes) == len(poses.keypoints) == 2
    semipose.suggest(run, images, count=1, out=tmp_path / "label")
    assert len(json.loads((run / "suggested.json").read_text())) >= 1
