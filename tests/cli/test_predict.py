"""semipose predict."""

import json
import shutil

import cv2
import numpy as np

from semipose.data.datasets import PEOPLE
from tests.cli.conftest import one_line


def test_files_written(cli, trained, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("b.jpg", "a.png")):
        cv2.imwrite(str(folder / name), np.full((50 + 30 * number, 80, 3), 40 * number, np.uint8))
    code, out, err = cli("predict", trained, folder, "--out", tmp_path / "found", "--draw", "--network", "G")
    assert code == 0, err
    assert out.split() == [str(tmp_path / "found" / n) for n in ("predictions.json", "a_pose.jpg", "b_pose.jpg")]
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [len(prediction["keypoints"]) for prediction in found] == [51, 51]


def test_many_files_are_a_folder_and_their_number(cli, trained, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((50, 80, 3), 40, np.uint8))
    code, out, err = cli("predict", trained, folder, "--out", tmp_path / "found", "--draw")
    assert code == 0, err
    found = tmp_path / "found"
    assert out.splitlines() == [str(found / "predictions.json"), f"{found}: 11 files"]


def test_json(cli, trained, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((50, 80, 3), 40, np.uint8))
    (folder / "b.png").write_bytes(b"broken")
    code, out, err = cli("predict", trained, folder, "--out", tmp_path / "found", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "files": [str(tmp_path / "found" / "predictions.json")],
        "data": {
            "source": str(folder),
            "images": 1,
            "persons": 1,
            "used": {"predicted on": 1},
            "left_out": {"broken records": 1},
            "boxes_from_labels": 0,
        },
    }


def test_annotated_boxes_of_a_coco_file(cli, trained, test_set, tmp_path):
    code, _, err = cli("predict", trained, *test_set[1:], "--out", tmp_path / "found", "--flip-test")
    assert code == 0, err
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())) == 60


def test_options_without_effect_are_refused(cli, trained, tmp_path):
    photos = PEOPLE / "images"
    one_line(cli("predict", trained, photos, "--images", photos), "--images")
    one_line(cli("predict", trained, photos, "--min-score", 0.5), "--min-score")
    one_line(cli("predict", trained, photos, "--network", "H"), "F, G, R1, R2, ensemble")
    one_line(cli("predict", tmp_path / "gone", photos, "--network", "G"), "gone")


def test_no_input_is_replaced(cli, trained, test_set, tmp_path):
    boxes = tmp_path / "predictions.json"
    boxes.write_text("[]")
    one_line(cli("predict", trained, *test_set[1:], "--boxes", boxes, "--out", tmp_path), "--out")
    photos = tmp_path / "photos"
    shutil.copytree(PEOPLE / "images", photos, ignore=lambda _, names: sorted(names)[1:])
    one_line(cli("predict", trained, photos, "--draw", "--out", photos / "below"), "--out")
    (tmp_path / "file").touch()
    one_line(cli("predict", trained, photos, "--out", tmp_path / "file"), "--out")


def test_predictions_of_equal_names_in_two_folders_get_the_score_of_the_network(cli, trained, tmp_path):
    """`file_name` holds the folder, and predictions for images that the set does not list are left out."""
    content = json.loads((PEOPLE / "val.json").read_text())
    first = {image["id"]: number for number, image in enumerate(content["images"][:12])}
    for image in content["images"][:12]:
        number = first[image["id"]]
        name = f"cam{number % 2}/{number // 2:03}.jpg"
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PEOPLE / "images" / image["file_name"], tmp_path / "images" / name)
        image["file_name"] = name
    content["images"] = content["images"][:12]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in first]
    (tmp_path / "all.json").write_text(json.dumps(content))
    content["images"] = content["images"][::2]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (tmp_path / "half.json").write_text(json.dumps(content))
    code, _, err = cli("predict", trained, tmp_path / "all.json", "--out", tmp_path / "found")
    assert code == 0, err

    for data in ("all.json", "half.json"):
        scores = []
        for source in (trained, tmp_path / "found" / "predictions.json"):
            code, out, err = cli("evaluate", source, "--data", tmp_path / data, "--json")
            assert code == 0, err
            scores.append({name: json.loads(out)[name] for name in ("AP", "PCK@0.2")})
        assert scores[0] == scores[1]
    assert "predictions are for images outside" in err


def test_a_table_is_a_file(cli, trained, tmp_path):
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.full((50, 80, 3), 40, np.uint8))
    code, out, err = cli("predict", trained, tmp_path / "photos", "--format", "dlc", "--out", tmp_path / "t.csv")
    assert (code, out.split()) == (0, [str(tmp_path / "t.csv")]), err
    assert (tmp_path / "t.csv").read_text().startswith("scorer,semipose,")
    one_line(cli("predict", trained, tmp_path / "photos", "--format", "slp", "--out", tmp_path / "t.csv"), "--out")
    one_line(cli("predict", trained, tmp_path / "photos", "--format", "xml"), "--format")
