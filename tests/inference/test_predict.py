"""Predictions of images, videos and COCO files: the files written, and the account of what was left out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

import semipose
from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import load_predictions
from semipose.data.video import list_videos


def test_predict_on_a_folder_writes_results_and_drawings(model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("b.jpg", "a.png")):
        cv2.imwrite(str(folder / name), np.full((50 + 30 * number, 80, 3), 40 * number, np.uint8))
    (folder / "c.jpg").write_bytes(b"broken")
    written = semipose.predict(model, folder, out=tmp_path / "found", draw=True)
    assert [path.name for path in written] == ["predictions.json", "a_pose.jpg", "b_pose.jpg"]
    found = json.loads(written[0].read_text())
    assert [p["file_name"] for p in found] == ["a.png", "b.jpg"]
    assert [len(p["keypoints"]) for p in found] == [51, 51]
    drawn = cv2.imread(str(written[1]))
    assert drawn.shape[0] == 80
    assert drawn.shape[1] > 80  # the legend
    with pytest.raises(semipose.ConfigError, match="`names`: it refers to drawings"):
        semipose.predict(model, folder, out=tmp_path / "found", names=True)
    assert "images" in json.loads((tmp_path / "found" / "dropped.json").read_text())
    with pytest.raises(semipose.DataError, match="`on_error`"):
        semipose.predict(model, folder, out=tmp_path / "strict", on_error="strict")


def test_predict_on_the_images_of_a_coco_list_writes_a_submission(model, small_people, tmp_path):
    persons = read_coco(small_people, PEOPLE / "images")
    image_list = tmp_path / "image_info_test-dev2017.json"
    image_list.write_text(json.dumps({**json.loads(small_people.read_text()), "annotations": []}))
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9} for p in persons.instances]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    parameters = {"images": PEOPLE / "images", "out": tmp_path / "found"}
    with pytest.raises(semipose.ConfigError):
        semipose.predict(model, image_list, **parameters)
    written = semipose.predict(model, image_list, boxes=tmp_path / "boxes.json", **parameters)
    assert written[1].name == "person_keypoints_test-dev2017_semipose_results.json"
    assert len(COCO(str(small_people)).loadRes(str(written[1])).getAnnIds()) == len(boxes)
    records = json.loads(written[1].read_text())
    assert {frozenset(r) for r in records} == {frozenset(("image_id", "category_id", "keypoints", "score"))}
    own = load_predictions(written[0], persons.skeleton)
    assert np.allclose(records[3]["keypoints"][0::3], own[3].joints[:, 0], atol=0.006)


def test_a_submission_has_no_duplicates(model, small_people, tmp_path, caplog):
    """Two equal boxes are one person for OKS-NMS; predictions.json keeps both."""
    caplog.set_level("INFO")
    persons = read_coco(small_people, PEOPLE / "images")
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9} for p in persons.instances]
    (tmp_path / "boxes.json").write_text(json.dumps([*boxes, boxes[0]]))
    given = {"images": PEOPLE / "images", "boxes": tmp_path / "boxes.json"}
    for kind, count in (("rescored", len(boxes)), ("mean", len(boxes) + 1)):
        written = semipose.predict(replace(model, instance_score=kind), small_people, out=tmp_path / kind, **given)
        assert len(json.loads(written[0].read_text())) == len(boxes) + 1
        assert len(json.loads(written[1].read_text())) == count
    assert caplog.text.count("OKS-NMS leaves out 1 prediction as duplicates") == 1


def test_predictions_keep_the_category_of_each_person(model, small_people, tmp_path):
    content = json.loads(small_people.read_text())
    content["categories"] = [content["categories"][0] | {"id": n, "name": name} for n, name in ((4, "cat"), (9, "dog"))]
    for record in content["annotations"]:
        record["category_id"] = 9 if record["id"] % 3 == 0 else 4
    small_people.write_text(json.dumps(content))
    (written, *_) = semipose.predict(model, small_people, images=PEOPLE / "images", out=tmp_path / "found")
    own = {record["id"]: record["category_id"] for record in content["annotations"]}
    found = json.loads(written.read_text())
    assert {p["annotation_id"]: p["category_id"] for p in found} == own
    evaluation = semipose.evaluate(written, small_people, images=PEOPLE / "images", category="all")
    assert evaluation.data.left_out == {}


def test_predict_on_an_image_with_boxes_of_a_detector(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    records = [{"image_id": "a.png", "category_id": 1, "bbox": [5, 5, 40 + n, 40], "score": n / 10} for n in range(10)]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    parameters = {"boxes": tmp_path / "boxes.json", "out": tmp_path / "found"}
    written = semipose.predict(model, tmp_path / "a.png", min_score=0.65, **parameters)
    assert [p["bbox"][2] for p in json.loads(written[0].read_text())] == [47, 48, 49]


def test_predict_on_a_video(model, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    written, _ = semipose.predict(model, tmp_path / "clip.avi", out=tmp_path / "found")
    assert len(json.loads(written.read_text())) == 3


def test_parameters_without_an_effect_and_outputs_over_inputs_are_refused(model, small_people, tmp_path):
    folder = PEOPLE / "images"
    boxes = tmp_path / "predictions.json"
    boxes.write_text("[]")
    for source, parameters, message in (
        (folder, {"images": folder}, "`images`: images is not an annotation file"),
        (folder, {"min_score": 0.5}, "`min_score`: .*`boxes`"),
        (folder, {"on_error": "ignore"}, "`on_error`"),
        (folder, {"device": "cuda:99"}, "`device`: 'cuda:99'"),
        (folder, {"network": "f"}, "`network`"),
        (folder, {"smooth": 4}, "`smooth` is 4"),
        (small_people, {"images": folder, "boxes": boxes}, "`out`: .*predictions.json is an input file"),
        (tmp_path, {"draw": True}, "`out`: drawings .* would be mixed"),
    ):
        with pytest.raises(semipose.ConfigError, match=message):
            semipose.predict(model, source, out=tmp_path, **parameters)
    assert boxes.read_text() == "[]"


def test_the_files_of_a_run_are_not_replaced(model, tmp_path):
    run = tmp_path / "run"
    (run / "last").mkdir(parents=True)
    for name in ("config.yaml", "predictions.json", "dropped.json"):
        (run / name).write_text("of the run")
    for out in (run, run / "table.csv"):
        with pytest.raises(semipose.ConfigError, match=r"`out`: .*run is the folder of a run"):
            semipose.predict(model, PEOPLE / "images", out=out)
    with pytest.raises(semipose.ConfigError, match=r"`out`: .*run is the folder of a run"):
        semipose.suggest(model, PEOPLE / "images", count=1, out=run)
    assert {path.read_text() for path in run.glob("*.*")} == {"of the run"}


def test_drawings_are_not_written_among_images(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(semipose.ConfigError, match=r"`out`: drawings .* would be mixed"):
        semipose.predict(model, tmp_path / "a.png", out=tmp_path, draw=True)
    semipose.predict(model, tmp_path / "a.png", out=tmp_path / "found", draw=True)


def test_drawings_are_not_written_among_the_images_of_an_annotation_file(model, small_people, tmp_path):
    images = [i["file_name"] for i in json.loads(small_people.read_text())["images"]]
    for name in images:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PEOPLE / "images" / name, tmp_path / "images" / name)
    before = sorted((tmp_path / "images").rglob("*"))
    for out in ("images", "images/table.csv"):
        with pytest.raises(semipose.ConfigError, match=r"`out`: drawings .* would be mixed"):
            semipose.predict(model, small_people, images=tmp_path / "images", out=tmp_path / out, draw=True)
    assert sorted((tmp_path / "images").rglob("*")) == before
    semipose.predict(model, small_people, images=tmp_path / "images", out=tmp_path / "found", draw=True)


def test_the_list_of_what_was_left_out_belongs_to_its_output(model, tmp_path):
    (tmp_path / "dropped.json").write_text("of another prediction")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "images" / "b.png").write_bytes(b"broken")
    semipose.predict(model, tmp_path / "images", out=tmp_path / "a.csv")
    assert "images" in json.loads((tmp_path / "a_dropped.json").read_text())
    (tmp_path / "images" / "b.png").unlink()
    semipose.predict(model, tmp_path / "images", out=tmp_path / "a.csv")
    assert not (tmp_path / "a_dropped.json").exists()
    assert (tmp_path / "dropped.json").read_text() == "of another prediction"


def test_the_account_counts_detections_that_are_left_out(model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((60, 80, 3), 90, np.uint8))
    usual = {"image_id": "a.png", "category_id": 1, "bbox": [5, 5, 40, 40], "score": 0.9}
    changes = [{}, {"score": 0.2}, {"category_id": 3}, {"bbox": [5, 5, 0, 9]}, {"image_id": "c.png"}, {"bbox": [1]}]
    (tmp_path / "boxes.json").write_text(json.dumps([usual | change for change in changes]))
    parameters = {"boxes": tmp_path / "boxes.json", "min_score": 0.5, "out": tmp_path / "found"}
    written = semipose.predict(model, folder, **parameters)
    assert written == [tmp_path / "found" / "predictions.json"]
    assert written.account.as_dict() == {
        "source": str(folder),
        "images": 2,
        "persons": 1,
        "used": {"predicted on": 1},
        "left_out": {
            "boxes of another category": 1,
            "boxes of no area": 1,
            "boxes of a lower score": 1,
            "boxes in other images": 1,
            "images without a box": 1,
            "broken records": 1,
        },
        "boxes_from_labels": 0,
    }


def test_a_table_has_a_row_for_each_image(model, small_people, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        cv2.imwrite(str(folder / f"{name}.png"), np.full((60, 80, 3), 90, np.uint8))
    record = {"image_id": "b.png", "category_id": 1, "bbox": [5, 5, 40, 40], "score": 0.9}
    (tmp_path / "boxes.json").write_text(json.dumps([record]))
    table, *_ = semipose.predict(model, folder, boxes=tmp_path / "boxes.json", out=tmp_path / "found.csv")
    rows = [line.split(",") for line in table.read_text().splitlines()[3:]]
    assert [(row[0], {*row[1:]} - {"", "nan"} != set()) for row in rows] == [
        ("a.png", False), ("b.png", True), ("c.png", False)
    ]  # fmt: skip
    content = json.loads(small_people.read_text())
    first, names = content["annotations"][0], [image["file_name"] for image in content["images"]]
    (tmp_path / "boxes.json").write_text(json.dumps([record | {"image_id": first["image_id"]}]))
    (one := tmp_path / "one.json").write_text(json.dumps(content | {"annotations": [first]}))
    for source, given in ((small_people, {"boxes": tmp_path / "boxes.json"}), (one, {})):
        table, *_ = semipose.predict(model, source, images=PEOPLE / "images", out=tmp_path / "found.csv", **given)
        rows = [line.split(",") for line in table.read_text().splitlines()[3:]]
        assert sorted(row[0] for row in rows) == sorted(names)
        assert sum({*row[1:]} - {"", "nan"} != set() for row in rows) == 1


def save_video(path: Path, length: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(length):
        writer.write(np.full((48, 64, 3), 40 * n, np.uint8))
    writer.release()
    return path


def test_an_unreadable_video_of_a_folder_is_left_out(model, tmp_path, caplog):
    for name in ("a", "c"):
        save_video(tmp_path / f"videos/{name}.avi", 2)
    (tmp_path / "videos/b.avi").write_bytes(b"broken")
    written = semipose.predict(model, tmp_path / "videos", out=tmp_path / "found")
    assert [p.name[:1] for p in written] == ["a", "a", "c", "c"]
    assert written.account.left_out == {"videos that can't be read": 1}
    (line,) = [message for message in caplog.messages if "b.avi" in message]
    assert line.endswith("left out")
    assert "b.avi" in (tmp_path / "found/b_dropped.json").read_text()
    assert not (tmp_path / "found/a_dropped.json").exists()
    with pytest.raises(semipose.DataError, match=r"b\.avi"):
        semipose.predict(model, tmp_path / "videos", out=tmp_path / "strict", on_error="strict")
    for name in ("a", "c"):
        (tmp_path / f"videos/{name}.avi").write_bytes(b"broken")
    with pytest.raises(semipose.DataError, match=r"no video can be predicted; the first: .*a\.avi"):
        semipose.predict(model, tmp_path / "videos", out=tmp_path / "found")


def test_predictions_of_one_video_in_one_folder(model, tmp_path, caplog):
    video, out = save_video(tmp_path / "v.avi", 2), tmp_path / "found"
    for table in ("a.csv", "b.csv"):
        written = semipose.predict(model, video, out=out / table, draw=True)
        assert [path.name for path in written] == [table, f"{table[0]}_scores.json", f"{table[0]}_pose.mp4"]
    assert len([*out.iterdir()]) == 6
    save_video(out / "v.avi", 2)
    assert list_videos(out) == [out / "v.avi"]
    assert not [message for message in caplog.messages if "replaced" in message]
    semipose.predict(model, video, out=out / "a.csv")
    assert f"{out / 'a.csv'}: earlier predictions are replaced" in caplog.messages
    with pytest.raises(semipose.ConfigError, match=r"a_pose\.mp4 is an input file"):
        semipose.predict(model, out / "a_pose.mp4", out=out / "a.csv", draw=True)


def test_drawings_of_images_are_replaced_with_a_warning(model, tmp_path, caplog):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "i.png"), np.zeros((48, 64, 3), np.uint8))
    for table in ("a.csv", "b.csv"):
        assert not [message for message in caplog.messages if "replaced" in message]
        semipose.predict(model, tmp_path / "images", out=tmp_path / table, draw=True)
    assert f"{tmp_path}: 1 drawing of earlier predictions replaced" in caplog.messages


def test_several_videos_have_files_of_their_names(model, tmp_path):
    for name, length in (("a", 3), ("b", 2)):
        save_video(tmp_path / f"videos/{name}.avi", length)
    (tmp_path / "videos/a.csv").write_text("labels of the user")
    written = semipose.predict(model, tmp_path / "videos", out=tmp_path / "videos", format="csv")
    tables = ["a_predictions.csv", "b_predictions.csv"]
    assert [path.name for path in written] == [tables[0], "a_scores.json", tables[1], "b_scores.json"]
    assert [len((tmp_path / "videos" / name).read_text().splitlines()) for name in tables] == [6, 5]
    assert (tmp_path / "videos/a.csv").read_text() == "labels of the user"
    assert (written.account.images, written.account.used) == (5, {"predicted on": 5})
    one = semipose.predict(model, tmp_path / "videos/b*.avi", out=tmp_path / "one", smooth=3)
    assert [path.name for path in one] == ["predictions.json", "b_scores.json"]
    with pytest.raises(semipose.ConfigError, match=r"`out`: .* has 2 videos; give a folder"):
        semipose.predict(model, tmp_path / "videos", out=tmp_path / "table.csv")
    semipose.predict(model, tmp_path / "videos", out=tmp_path / "whole", boxes="whole")
    with pytest.raises(semipose.ConfigError, match="`boxes`: its frame numbers belong to one video"):
        semipose.predict(model, tmp_path / "videos", out=tmp_path / "found", boxes=tmp_path / "boxes.json")
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(semipose.ConfigError, match=r"`smooth`: image\.png is no video"):
        semipose.predict(model, tmp_path / "image.png", out=tmp_path / "found", smooth=3)
