"""Labels and images that are probably wrong are listed, and counted by trainings and evaluations."""

import json

import numpy as np
import pytest
from PIL import Image

from semipose.data.checks import check_data
from semipose.data.datasets import PEOPLE
from semipose.data.formats.cvat_writer import write_cvat
from semipose.data.formats.registry import FORMATS, find_format, read_annotations
from semipose.data.formats.writers import write_annotations
from semipose.inference.evaluation import evaluate
from semipose.trainer import train


def test_labels_are_compared_with_decoded_images(small_people):
    content = json.loads(small_people.read_text())
    assert check_data(small_people, PEOPLE / "images", decode=True).suspicious == ()
    first, second, third = content["annotations"][:3]
    _, y, width, height = first["bbox"]
    first["bbox"] = [-2 * width, y, 2.5 * width, height]
    first["keypoints"] = [v for _ in range(17) for v in (-1, y + 1, 2)]
    second["keypoints"][:3] = [99999, 3, 0]  # not labeled
    image = content["images"][4]
    image["width"] += 7
    small_people.write_text(json.dumps(content))
    found = check_data(small_people, PEOPLE / "images", decode=True)
    text = "\n".join(found.suspicious)
    real = f"{image['width'] - 7}×{image['height']}"
    assert (
        f"image {image['id']} is {real} pixels, but {image['width']}×{image['height']} in its record; were joints "
        "labeled on another version?"
    ) in found.suspicious
    file_names = {i["id"]: i["file_name"] for i in content["images"]}
    own = f"annotation {first['id']} ({file_names[first['image_id']]})"
    assert f"{own}: most of box" in text
    assert f"{own}: nose (-1, {y + 1:.0f}), " in text
    assert f"annotation {second['id']} " not in text
    assert f"annotation {third['id']} " not in text
    assert found.problems == ()


def suspicions_after(change, path, folder=PEOPLE / "images", decode=False):
    """What is suspicious in a set whose annotations were changed one by one."""
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for annotation in content["annotations"]:
        box, joints = np.array(annotation["bbox"], float), np.array(annotation["keypoints"], float).reshape(-1, 3)
        change(annotation, box, joints, np.array(sizes[annotation["image_id"]]))
        annotation |= {"bbox": box.tolist(), "keypoints": joints.ravel().tolist()}
    path.write_text(json.dumps(content))
    return check_data(path, folder, decode=decode).suspicious_kinds


def at_origin(annotation, box, joints, size):
    joints[:, :2] *= joints[:, 2:] == 2  # occluded joints lose their place


def as_shares(annotation, box, joints, size):
    joints[:, :2] /= size
    box /= [*size, *size]


def as_shares_in_a_box_of_pixels(annotation, box, joints, size):
    joints[:, :2] /= size


def as_percent(annotation, box, joints, size):
    as_shares(annotation, box, joints, size)
    joints[:, :2] *= 100
    box *= 100


def as_corners(annotation, box, joints, size):
    box[2:] += box[:2]


def as_centers(annotation, box, joints, size):
    box[:2] += box[2:] / 2


def twice_as_large(annotation, box, joints, size):
    box *= 2
    joints[:, :2] *= 2


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (at_origin, "persons with joints at (0, 0): "),
        (as_shares, "persons with coordinates of at most 1: 60"),
        (as_shares_in_a_box_of_pixels, "persons with coordinates of at most 1: 60"),
        (as_percent, "persons with coordinates of at most 100: 60"),
        (as_corners, "boxes that seem to be corners: "),
        (as_centers, "boxes that seem to be centers: "),
        (twice_as_large, "persons with joints outside of their image: "),
    ],
)
def test_numbers_of_another_meaning_are_suspicious(small_people, change, kind):
    assert suspicions_after(lambda *_: None, small_people) == ""
    found = suspicions_after(change, small_people, decode=change is twice_as_large)
    assert kind in found
    assert "outside of their box" not in found


def test_joints_outside_of_their_box_are_suspicious(small_people):
    def move(annotation, box, joints, size):
        if annotation["id"] == 7:
            joints[joints[:, 2] > 0, 0] += 1000

    assert "joints outside of their box: 1" in suspicions_after(move, small_people)


def test_duplicates_are_listed(coco, tmp_path):
    path = coco({n: {"keypoints": [n, 1, 2, n, 9, 2], "bbox": [0, 0, 10, 10]} for n in range(0, 10, 2)})
    Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "b.jpg")
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["id"] % 2 == 0]
    path.write_text(json.dumps(content))
    assert check_data(path).suspicious == ()
    content["annotations"][1]["keypoints"] = [0.5, 1, 2, 0, 9.5, 2]
    content["images"].append({"id": 3, "file_name": "a.jpg"})
    (tmp_path / "c.jpg").write_bytes((tmp_path / "b.jpg").read_bytes())
    content["images"].append({"id": 4, "file_name": "c.jpg"})
    path.write_text(json.dumps(content))
    assert check_data(path).suspicious == (
        "images 1 (a.jpg), 3 (a.jpg) have the same content",
        "images 2 (b.jpg), 4 (c.jpg) have the same content",
        "annotations 0 and 2 are the same person",
    )


def test_a_training_and_an_evaluation_log_what_is_suspicious(small_people, tiny, tmp_path, caplog):
    suspicions_after(at_origin, small_people)
    config = tiny("supervised", **{"train.steps": 1})
    train(config, tmp_path / "run")
    evaluate(tmp_path / "run", small_people, images=PEOPLE / "images", device="cpu")
    lines = [record.message for record in caplog.records if "suspicious" in record.message]
    assert len(lines) == 2
    assert all("is suspicious (persons with joints at (0, 0): " in line for line in lines)


def ai_challenger_records():
    joints = [v for n in range(14) for v in (n + 1, n + 2, 1)]
    return [
        {"image_id": "a", "human_annotations": {"human1": [0, 0, 9, 9]}, "keypoint_annotations": {"human1": joints}}
    ]


def mpii_records():
    joints = [[n + 1, n + 2] for n in range(16)]
    return [{"image": "a.jpg", "center": [9, 9], "scale": 0.1, "joints": joints, "joints_vis": [1] * 16}]


def label_studio_records():
    value = {"x": 10, "y": 20, "keypointlabels": ["nose"]}
    region = {"type": "keypointlabels", "original_width": 20, "original_height": 20, "value": value}
    return [{"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": [region]}]}]


LISTS = {"ai_challenger": ai_challenger_records, "mpii": mpii_records, "label_studio": label_studio_records}
WRITTEN = {"deeplabcut": "set.csv", "sleap": "set.slp", "yolo": "set.yaml", "coco": "again.json"}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_checked(name, coco, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    path = coco()
    persons = read_annotations(path)
    if name in LISTS:
        path.write_text(json.dumps(LISTS[name]()))
    elif name == "lsp":
        path = tmp_path / "joints.mat"
        pytest.importorskip("scipy.io").savemat(path, {"joints": np.full((3, 14, 2), 9.0)})
        for n in (1, 2):
            Image.new("RGB", (20, 20)).save(tmp_path / f"im{n:04d}.jpg")
    elif name == "coco_zip":
        write_cvat(persons, path := tmp_path / "set.zip")
    else:
        write_annotations(persons.subset([0]), path := tmp_path / WRITTEN[name])
    assert find_format(path) is FORMATS[name]
    assert check_data(path, decode=True).persons
