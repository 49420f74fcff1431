"""Boxes of torchvision's detectors with random weights from a file, and the file that keeps them."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import semipose
from semipose.errors import ConfigError, DataError
from semipose.inference import detector as module
from semipose.inference.detector import Detector, detect_images, detect_video

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights that take everything for a person (id 1), or a dog (id 18)."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(NAME, weights=None, weights_backbone=None)
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.zero_()
        network.roi_heads.box_predictor.cls_score.bias.fill_(-9.0)[[1, 18]] = torch.tensor([2.0, 1.0])
    path = tmp_path_factory.mktemp("weights") / f"{NAME}-0000.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def detector(weights) -> Detector:
    return Detector(str(weights), torch.device("cpu"))


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        noise = np.random.default_rng(number).integers(0, 255, (60, 80, 3), np.uint8)
        cv2.imwrite(str(folder / name), noise)
    return folder


def video(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(3):
        writer.write(np.random.default_rng(n).integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


def test_records_are_those_of_torchvision(detector):
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    records = detector.detect(image, "a.png")
    with torch.inference_mode():
        (found,) = detector.network([torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))])
    assert len(records) == len(found["scores"]) > 0
    for record, corners, label in zip(records, found["boxes"].tolist(), found["labels"].tolist(), strict=True):
        left, top, right, bottom = corners
        assert record["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.006)
        assert (record["image_id"], record["category_id"]) == ("a.png", label)
        assert record["category_name"] == {1: "person", 18: "dog"}[label]


def test_boxes_are_found_once(detector, images, tmp_path, monkeypatch):
    found = {"a.png": images / "a.png", "gone.png": images / "gone.png"}
    path = detect_images(detector, found, images)
    assert path.parent == images
    records = json.loads(path.read_text())
    assert {record["image_id"] for record in records} == {"a.png"}
    clip = detect_video(detector, video(tmp_path / "clip.avi"))
    assert (clip.parent, clip.name.startswith("clip_boxes_")) == (tmp_path, True)
    assert {record["image_id"] for record in json.loads(clip.read_text())} == {0, 1, 2}
    monkeypatch.setattr(Detector, "detect", lambda *_: pytest.fail("detected again"))
    assert detect_images(detector, found, images) == path
    assert detect_video(detector, tmp_path / "clip.avi") == clip
    monkeypatch.setattr(Detector, "detect", lambda *_: [])
    os.utime(images / "a.png", ns=(0, 0))
    with pytest.raises(DataError, match="finds nothing; give boxes as `boxes`"):
        detect_images(detector, found, images)


def test_boxes_of_a_folder_that_is_read_only_are_in_the_cache(detector, tmp_path, monkeypatch):
    def read_only(*folders):
        def make_folder(folder):
            if folder in folders:
                raise ConfigError("read-only")
            folder.mkdir(parents=True, exist_ok=True)

        monkeypatch.setattr(module, "make_folder", make_folder)

    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    clip = video(tmp_path / "clip.avi")
    detect = Detector.detect
    monkeypatch.setattr(Detector, "detect", lambda *_: pytest.fail("detected before the folder was checked"))
    read_only(tmp_path, tmp_path / "cache/boxes")
    with pytest.raises(DataError, match="can be written to; set SEMIPOSE_CACHE"):
        detect_video(detector, clip)
    monkeypatch.setattr(Detector, "detect", detect)
    read_only(tmp_path)
    path = detect_video(detector, clip)
    assert path.parent == tmp_path / "cache/boxes"
    assert detect_video(detector, clip) == path


def test_categories_have_names_and_ids(detector, caplog):
    assert [detector.category(name) for name in (None, "Dog", 18, "18")] == ["person", "dog", "dog", "dog"]
    with pytest.raises(ConfigError, match="`box_category`: the detector has no 'unicorn', but person, bicycle"):
        detector.category("unicorn")
    assert not caplog.messages
    assert detector.category("mouse") == "mouse"
    assert "COCO's mouse is a computer mouse" in caplog.text


def test_weights_that_cannot_be_used(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    with pytest.raises(ConfigError, match="`detector`: yolo is neither"):
        Detector("yolo", cpu)
    (tmp_path / f"{NAME}-1.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="has no weights of torchvision's"):
        Detector(str(tmp_path / f"{NAME}-1.pth"), cpu)

    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.get_model", no_network)
    with pytest.raises(ConfigError, match=rf"the weights of {NAME} can't be downloaded \(no network\); give"):
        Detector(None, cpu)


def test_predictions_in_detected_boxes(model, weights, images, tmp_path, caplog):
    given = {"detect": True, "detector": str(weights)}
    written = semipose.predict(model, images, out=tmp_path / "found", **given)
    records = json.loads(written[0].read_text())
    (kept,) = images.glob("boxes_*.json")
    persons = [d for d in json.loads(kept.read_text()) if d["category_id"] == 1 and d["score"] >= module.MIN_SCORE]
    assert [r["bbox"] for r in records] == [pytest.approx(d["bbox"], abs=0.01) for d in persons]
    assert {r["category_id"] for r in records} == {model.category.id}
    again = semipose.predict(model, images, out=tmp_path / "file", boxes=kept, min_score=module.MIN_SCORE)
    assert json.loads(again[0].read_text()) == records
    options = {**given, "box_category": "Person", "min_score": 0.1}
    frames = semipose.predict(model, video(tmp_path / "clip.avi"), out=tmp_path / "frames", **options)
    assert {record["image_id"] for record in json.loads(frames[0].read_text())} == {0, 1, 2}
    with pytest.raises(DataError, match="no detection is of category dog"):
        semipose.predict(model, tmp_path / "clip.avi", out=tmp_path / "dogs", **given, box_category="dog")
    with pytest.raises(ConfigError, match="`boxes`: boxes are to be detected"):
        semipose.predict(model, images, out=tmp_path / "both", boxes=kept, **given)
    with pytest.raises(ConfigError, match="`detector`: nothing is to be detected"):
        semipose.predict(model, images, out=tmp_path / "none", detector=str(weights))


def test_images_of_an_annotation_file(model, weights, tmp_path):
    from semipose.data.datasets import PEOPLE, read_dataset
    from semipose.data.formats.coco_writer import write_coco

    few = tmp_path / "few.json"
    write_coco(read_dataset("people", None).subset(range(2)), few)
    given = {"images": PEOPLE / "images", "detect": True, "detector": str(weights), "min_score": 0.1}
    written = semipose.predict(model, few, out=tmp_path / "found", **given)
    ids = {image["id"] for image in json.loads(few.read_text())["images"]}
    assert {record["image_id"] for record in json.loads(written[0].read_text())} == ids
    assert len([*tmp_path.glob("few_boxes_*.json")]) == 1
