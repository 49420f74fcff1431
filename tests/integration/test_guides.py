"""The guides and the notebook run as they are written, with few steps of a tiny network and short videos."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import sleap_io as sio
import torch
from torch import nn

import semipose
from semipose.cli import main
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.deeplabcut import write_labels

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
LAB = Path(os.environ.get("SEMIPOSE_DATA", "/nowhere")) / "lab"
TINY = {
    "data.validation": 10,
    "data.max_unlabeled": 8,
    "input.height": 32,
    "input.width": 32,
    "model.backbone": "test_resnet",
    "model.weights": "none",
    "model.head_channels": 8,
    "method.burn_in": 0.5,
    "train.steps": 2,
    "train.batch": 4,
    "train.unlabeled_batch": 4,
    "train.device": "cpu",
}
SIZES = {"--labels": "8", "--count": "3"}


def blocks(guide, language):
    """The blocks of a guide in a language; commands have none."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for own, block in found if own == language]


def commands(guide):
    """The commands of a guide as words, in its order, with small sizes."""
    for line in "".join(blocks(guide, "")).splitlines():
        words = shlex.split(line, comments=True)
        words = [SIZES.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        yield words + [f"{key}={value}" for key, value in TINY.items()] if words[:2] == ["semipose", "train"] else words


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the words of a `semipose` command and returns what it prints."""

    def run_command(words):
        monkeypatch.setattr(sys, "argv", words)
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, (words, capsys.readouterr().err)
        return capsys.readouterr().out

    return run_command


def write_video(path, images):
    path.parent.mkdir(exist_ok=True)
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (width, height))
    for image in images:
        writer.write(image)
    writer.release()


def mouse_of_people(folder):
    """The files of the guide, with rendered people in place of the mouse."""
    images = folder / "labeled-data"
    images.mkdir()
    people = read_dataset("people", None).subset(range(30))
    for path in people.image_paths.values():
        shutil.copy(path, images)
    write_coco(people, images / "labels.json")
    write_labels(read_dataset(str(images / "labels.json"), str(images)), folder / "CollectedData.csv")
    write_video(folder / "videos" / "test_vid.mp4", [cv2.imread(str(p)) for p in sorted(images.glob("*.jpg"))[:12]])
    return people.skeleton.joints


def lightning_pose_mouse(folder):
    """The files of the guide as they are, with the beginning of the video."""
    source = LAB / "mirror-mouse"
    shutil.copy(source / "CollectedData.csv", folder)
    shutil.copytree(source / "labeled-data", folder / "labeled-data")
    video = cv2.VideoCapture(str(source / "videos" / "test_vid.mp4"))
    write_video(folder / "videos" / "test_vid.mp4", [video.read()[1] for _ in range(12)])
    labels = pd.read_csv(folder / "CollectedData.csv", header=[0, 1, 2], index_col=0)
    return tuple(labels.columns.get_level_values("bodyparts")[::2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "prepare",
    [
        mouse_of_people,
        pytest.param(
            lightning_pose_mouse,
            marks=pytest.mark.skipif(not LAB.is_dir(), reason="SEMIPOSE_DATA does not name the data folder"),
        ),
    ],
)
def test_a_mouse(prepare, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    joints = prepare(tmp_path)
    for words in commands("mouse.md"):
        if words[:3] == ["semipose", "data", "merge"]:  # the pre-labels were right
            shutil.copy("to_label/annotations.json", "to_label/corrected.json")
        if words[0] == "semipose":
            run([*words, "--no-report"] if "train.start=runs/mouse" in words else words)
    values = {}
    exec(blocks("mouse.md", "python")[0], values)
    assert values["x"].shape == (12, len(joints))
    assert tuple(values["x"].columns.get_level_values("bodyparts")) == joints
    assert (tmp_path / "found" / "mouse_pose.mp4").stat().st_size > 1000
    assert "What to do next" in (tmp_path / "runs" / "mouse" / "report.html").read_text(encoding="utf-8")
    assert len(json.loads((tmp_path / "to_label" / "annotations.json").read_text())["images"]) == 3
    assert (tmp_path / "runs" / "mouse-2" / "best.safetensors").is_file()


class FakeDetector(nn.Module):
    """A detector that finds one person in the middle of an image, and a dog."""

    def forward(self, images):
        boxes = torch.tensor([[0.2, 0.1, 0.8, 0.9], [0, 0, 0.5, 0.5]]) * images[0].shape[-1]
        return [{"boxes": boxes, "labels": torch.tensor([1, 18]), "scores": torch.tensor([0.9, 0.9])}]


def test_people_in_a_gym(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semipose.inference.detector._from_hub", lambda _: FakeDetector())
    people = read_dataset("people", None)
    write_coco(people.subset(range(30)), tmp_path / "labels.json")
    (tmp_path / "photos").symlink_to(PEOPLE / "images")
    write_video(tmp_path / "videos" / "squat.mp4", [cv2.imread(str(p.image)) for p in people.instances[30:42]])
    for words in commands("gym.md"):
        if words[0] == "semipose":
            run([found for word in words for found in ([str(p) for p in Path().glob(word)] if "*" in word else [word])])
    table = pd.read_csv(tmp_path / "found" / "squat.csv", header=[0, 1, 2], index_col=0)
    assert table.shape == (12, 3 * 17)
    assert (tmp_path / "found" / "squat_pose.mp4").stat().st_size > 1000
    assert (tmp_path / "to_label" / "cvat.zip").is_file()
    assert "What to do next" in (tmp_path / "runs" / "gym" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_several_animals_without_a_detector(tmp_path, monkeypatch, run):
    """From SLEAP's labels of two animals to a table; a short training finds any spots, so the lowest peak is 0 here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semipose.inference.box_finder.LOWEST_PEAK", 0.0)
    monkeypatch.setattr("semipose.auto.SEVERAL_SIDE", 64)
    images, labels = [], []
    for number in range(32):
        image = np.full((120, 160, 3), 220, np.uint8)
        centers = [(18 + 4 * number, 30), (142 - 4 * number, 85)]
        for x, y in centers:
            cv2.ellipse(image, (x, y), (15, 7), 0, 0, 360, (30, 30, 30), -1)
        images.append(image)
        labels.append([np.array([[x + 14, y], [x, y - 5], [x - 14, y]], float) for x, y in centers])
    write_video(tmp_path / "arena.mp4", images)
    write_slp(tmp_path / "mice.slp", images, labels)
    section = (GUIDES / "videos.md").read_text(encoding="utf-8").split("### Several animals without a detector\n")[1]
    (tmp_path / "section.md").write_text(section.split("\n## ")[0])
    train, predict = commands(tmp_path / "section.md")
    run([*train, "--steps", "4", "--no-report"])
    run(predict)
    table = pd.read_csv(tmp_path / "tracks.csv", header=[0, 1, 2, 3], index_col=0)
    assert len(table) == 32
    assert list(table.columns.get_level_values("bodyparts").unique()) == ["nose", "back", "tail"]
    assert (tmp_path / "tracks_pose.mp4").stat().st_size > 1000
    assert semipose.load(tmp_path / "runs" / "mice").boxes.subjects == 2


def write_slp(path, images, labels):
    """A SLEAP package with the animals of some images."""
    skeleton = sio.Skeleton(["nose", "back", "tail"])
    names = [str(path.parent / "frames" / f"{n:03d}.png") for n in range(0, len(images), 2)]
    (path.parent / "frames").mkdir()
    for name, image in zip(names, images[::2], strict=True):
        cv2.imwrite(name, image)
    video = sio.Video.from_filename(names)
    frames = [
        sio.LabeledFrame(
            video=video, frame_idx=n, instances=[sio.Instance.from_numpy(a, skeleton=skeleton) for a in of]
        )
        for n, of in enumerate(labels[::2])
    ]
    sio.save_file(sio.Labels(labeled_frames=frames, videos=[video], skeletons=[skeleton]), str(path))


@pytest.mark.slow
def test_the_notebook(tmp_path, monkeypatch, capsys):
    """Cells are run in order; the value of the last one is the picture."""
    notebook = json.loads((GUIDES / "first-steps.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    load_config, options = (
        semipose.load_config,
        {**TINY, "data.test": "test.json", "data.test_images": str(PEOPLE / "images")},
    )
    write_coco(read_dataset("people", None, "val").subset(range(12)), tmp_path / "test.json")
    monkeypatch.setattr(semipose, "load_config", lambda name, **sections: load_config(name, options, **sections))
    monkeypatch.chdir(tmp_path)
    values = {}
    for cell in cells:
        exec(cell, values)
    assert "unlabeled images: " in capsys.readouterr().out
    assert (tmp_path / "runs" / "first-steps" / "report.html").is_file()
    picture = np.asarray(eval(cells[-1].splitlines()[-1], values))
    assert picture.shape[0] == 2 * 192
    assert picture.shape[1] > 2 * 192  # the legend
