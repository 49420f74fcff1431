"""The command line as a user meets it: what it prints and what it leaves."""

import json
import os
import shutil
import signal
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import yaml
from pycocotools.coco import COCO

import semipose
from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import load_predictions, save_predictions
from semipose.data.video import Frame
from semipose.errors import DataError
from semipose.structures.predictions import ground_truth_as_predictions
from tests.cli.conftest import TINY, one_line


def test_train_leaves_a_run_folder(trained):
    names = {p.name for p in trained.iterdir()}
    assert {"config.yaml", "split.json", "metrics.jsonl", "last", "weights", "best.safetensors", "model.json"} <= names
    assert {"scores.json", "predictions.json", "events"} <= names
    assert {p.stem for p in (trained / "weights").glob("*.safetensors")} == {"G", "F", "R1", "R2"}
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["method"]["name"] == "trs"
    assert config["train"]["steps"] == 4
    kinds = {json.loads(line)["kind"] for line in (trained / "metrics.jsonl").read_text().splitlines()}
    assert {"train", "validation/G", "validation/mean", "validation/ensemble"} <= kinds


def test_config_alone_reproduces_the_run(cli, trained, tmp_path):
    code, out, err = cli("train", trained / "config.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    best = json.loads((tmp_path / "again" / "scores.json").read_text())["best"]
    assert best in ("G", "F", "R1", "R2")
    assert f"best.safetensors is {best}" in out
    first, second = (json.loads((p / "scores.json").read_text())["scores"] for p in (trained, tmp_path / "again"))
    assert first == second
    assert "</html>" in (tmp_path / "again" / "report.html").read_text()


def test_resume(cli, trained):
    before = (trained / "metrics.jsonl").read_bytes(), (trained / "scores.json").read_bytes()
    code, _, err = cli("train", "--resume", "--out", trained, "--no-report")
    assert code == 0, err
    assert ((trained / "metrics.jsonl").read_bytes(), (trained / "scores.json").read_bytes()) == before
    one_line(cli("train", *TINY, "--out", trained), "--resume")


def test_interrupted(cli, small_people, tmp_path, monkeypatch):
    from semipose.training.loop import Training

    monkeypatch.setattr(Training, "_record", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    arguments = ["--data", small_people, "--images", PEOPLE / "images", "--out", tmp_path / "run"]
    code, _, err = cli("train", *TINY, *arguments)
    assert code == 128 + signal.SIGTERM
    assert "--resume" in err
    assert (tmp_path / "run" / "last" / "state.pt").exists()


def test_train_prints_json_alone(cli, small_people, tmp_path):
    arguments = ["--data", small_people, "--images", PEOPLE / "images", "--out", tmp_path / "run", "--json"]
    code, out, err = cli("train", *TINY, *arguments)
    assert code == 0, err
    found = json.loads(out)
    assert list(found["scores"]) == ["f"]
    assert set(found["scores"]["f"]) == {"AP", "AP50", "AP75", "AR", "PCK@0.2", "PCKh@0.5"}


def test_evaluate(cli, trained, small_people):
    code, out, err = cli("evaluate", trained, "--data", small_people, "--images", PEOPLE / "images", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert 0 <= found["PCK@0.2"] <= 1
    assert found["PCKh@0.5"] is None
    assert "60 persons" in found["protocol"]
    weights = trained / "weights" / "G.safetensors"
    one_line(cli("evaluate", weights, "--data", "people", "--device", "cuda:99"), "cuda:99")
    code, out, _ = cli("evaluate", weights, "--data", "people", "--flip-test", "--device", "cpu")
    assert code == 0
    assert "flip test: on" in out


def test_ground_truth_scores_one(cli, tmp_path):
    truth = read_coco(PEOPLE / "val.json", PEOPLE / "images")
    path = tmp_path / "truth.json"
    save_predictions(ground_truth_as_predictions(truth), path)
    code, out, err = cli("evaluate", path, "--data", "people", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [found[k] for k in ("AP", "AP50", "AP75", "AR", "PCK@0.2")] == [1.0] * 5


def test_detected_boxes(cli, trained, small_people, tmp_path):
    persons = read_coco(small_people, PEOPLE / "images")
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9} for p in persons.instances]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    common = ["--data", small_people, "--images", PEOPLE / "images", "--json"]
    own = json.loads(cli("evaluate", trained, *common)[1])
    detected = json.loads(cli("evaluate", trained, *common, "--boxes", path)[1])
    assert detected["PCK@0.2"] == own["PCK@0.2"]
    assert "boxes.json" in detected["protocol"]


def test_predict_folder(cli, trained, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("b.jpg", "a.png")):
        image = np.full((50 + 30 * number, 80, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder / name), image)
    code, out, err = cli("predict", trained, folder, "--out", tmp_path / "found", "--draw")
    assert code == 0, err
    assert out.split() == [str(tmp_path / "found" / n) for n in ("predictions.json", "a_pose.jpg", "b_pose.jpg")]
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [len(p["keypoints"]) for p in found] == [51, 51]
    assert cv2.imread(str(tmp_path / "found" / "a_pose.jpg")).shape == (80, 80, 3)


def test_images_with_names_for_ids_get_no_file_for_the_server(cli, trained, small_people, tmp_path):
    content = json.loads(small_people.read_text())
    for record, key in [*((i, "id") for i in content["images"]), *((a, "image_id") for a in content["annotations"])]:
        record[key] = f"photograph {record[key]}"
    small_people.write_text(json.dumps(content))
    arguments = (
        "predict",
        trained,
        small_people,
        "--images",
        PEOPLE / "images",
        "--annotations",
        "--out",
        tmp_path / "out",
    )
    code, _, err = cli(*arguments)
    assert code == 0, err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"predictions.json", "annotations.json"}


def test_predict_the_images_of_a_coco_list_for_the_server(cli, trained, small_people, tmp_path):
    persons = read_coco(small_people, PEOPLE / "images")
    listed = {**json.loads(small_people.read_text()), "annotations": []}
    image_list = tmp_path / "image_info_test-dev2017.json"
    image_list.write_text(json.dumps(listed))
    boxes = [{"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9} for p in persons.instances]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    arguments = ["predict", trained, image_list, "--images", PEOPLE / "images", "--out", tmp_path / "found"]
    one_line(cli(*arguments), "--boxes")
    code, out, err = cli(*arguments, "--boxes", tmp_path / "boxes.json")
    assert code == 0, err
    result = Path(out.split()[-1])
    assert result.name == "person_keypoints_test-dev2017_semipose_results.json"
    found = COCO(str(small_people)).loadRes(str(result))
    assert len(found.getAnnIds()) == len(boxes)
    records = json.loads(result.read_text())
    assert {frozenset(r) for r in records} == {frozenset(("image_id", "category_id", "keypoints", "score"))}
    own = load_predictions(tmp_path / "found" / "predictions.json", persons.skeleton)
    assert np.allclose(records[3]["keypoints"][0::3], own[3].joints[:, 0], atol=0.006)


def test_predict_video(cli, trained, tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    code, out, err = cli("predict", trained, path, "--out", tmp_path / "found", "--draw")
    assert code == 0, err
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())) == 5
    with av.open(out.split()[1]) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_a_video_that_breaks_off_keeps_what_was_found(cli, trained, tmp_path, monkeypatch):
    def frames(source):
        for n in range(2):
            yield Frame(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"), n / 10, 10)
        raise DataError(f"video {source} can't be read (cut off)")

    monkeypatch.setattr("semipose.inference.video.read_frames", frames)
    (tmp_path / "clip.mp4").touch()
    code, _, _ = cli("predict", trained, tmp_path / "clip.mp4", "--out", tmp_path / "found")
    assert code == 0
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())) == 2


def test_frames_of_a_video_are_unlabeled_images_of_a_training(cli, small_people, tmp_path):
    """The way of a practitioner: labels in a file, images in a video."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 96))
    for n in range(12):
        writer.write(np.full((96, 64, 3), 20 * n, np.uint8))
    writer.release()
    arguments = ["--data", small_people, "--images", PEOPLE / "images", "--unlabeled", path]
    one_line(cli("train", *TINY, *arguments, "--out", tmp_path / "run"), "semipose data frames")
    code, out, err = cli("data", "frames", path, "--out", tmp_path / "frames", "--every", 0, "--json")
    assert code == 0, err
    assert json.loads(out) == {"folder": str(tmp_path / "frames"), "frames": 12, "alike": 0}
    arguments[-1] = tmp_path / "frames"
    code, _, err = cli(
        "train", *TINY, *arguments, "--labels", 20, "--out", tmp_path / "run", "data.include_labeled=false"
    )
    assert code == 0, err
    assert len(json.loads((tmp_path / "run/photographs.json").read_text())["unlabeled"]) == 32 + 12
    one_line(cli("data", "frames", tmp_path / "gone.mp4", "--out", tmp_path / "frames"), "gone.mp4")


def test_detections_are_told_by_category_and_score(cli, trained, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    records = [{"image_id": "a.png", "category_id": 0, "bbox": [5, 5, 40 + n, 40], "score": n / 10} for n in range(10)]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(records))
    arguments = ("predict", trained, tmp_path / "a.png", "--boxes", boxes, "--out", tmp_path / "found")
    one_line(cli(*arguments), "category_id 1")
    boxes.write_text(json.dumps([{**r, "category_id": 1} for r in records]))
    assert cli(*arguments, "--min-score", 0.65)[0] == 0
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [p["bbox"][2] for p in found] == [47, 48, 49]


def test_a_configuration_without_a_method_trains_on_unlabeled_images_too(cli, small_people, tmp_path):
    (tmp_path / "network.yaml").write_text("loss: {kind: cross_entropy, sigma: 1.5}\n")
    data = ["--data", small_people, "--images", PEOPLE / "images", "--out", tmp_path / "run"]
    code, _, err = cli("train", tmp_path / "network.yaml", *TINY, *data, "--labels", 20)
    assert code == 0, err
    assert "trs: 20 labeled" in err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["loss"]["kind"] == "cross_entropy"


def test_images_of_the_other_sets_are_looked_for_where_those_of_the_first_are(cli, small_people, tmp_path):
    """`--val FILE` and `--unlabeled FILE` beside it, photographs in a folder of their own."""
    other = tmp_path / "elsewhere" / "other.json"
    other.parent.mkdir()
    shutil.copy(small_people, other)
    content = json.loads(other.read_text())
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    other.write_text(json.dumps(content))
    arguments = ["--data", other, "--val", other, "--unlabeled", other, "--out", tmp_path / "run"]
    one_line(cli("train", *TINY, "--method", "single", *arguments), "give the image folder with --images")
    named = ["--images", PEOPLE / "images"]
    code, _, err = cli("train", *TINY, "--method", "single", *arguments, *named)
    assert code == 0, err
    shutil.rmtree(tmp_path / "run")
    wrong = ["--data", small_people, *named, "--val", other, "--val-images", tmp_path, "--out", tmp_path / "run"]
    one_line(cli("train", *TINY, *wrong), "data.val_images")


def test_options_of_a_method_without_its_name_are_those_of_the_default(cli, small_people, tmp_path):
    arguments = ["--data", small_people, "--images", PEOPLE / "images", "--labels", 20, "--out", tmp_path / "run"]
    assert cli("train", *TINY, *arguments, "method.unlabeled_weight=0.5")[0] == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["method"]["name"], config["method"]["unlabeled_weight"]) == ("trs", 0.5)


def test_pictures_do_not_fall_among_the_photographs(cli, trained, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    one_line(cli("predict", trained, tmp_path, "--draw", "--out", tmp_path), "--out")
    one_line(cli("predict", trained, tmp_path, "--draw", "--out", tmp_path / "below"), "--out")


def test_predict_takes_the_boxes_of_an_annotation_file(cli, trained, small_people, tmp_path):
    code, _, err = cli("predict", trained, small_people, "--images", PEOPLE / "images", "--out", tmp_path / "found")
    assert code == 0, err
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())) == 60


def test_predictions_as_annotations_to_correct(cli, trained, tmp_path):
    """What a labeling tool imports is what semipose reads as labels."""
    folder = tmp_path / "frames"
    shutil.copytree(PEOPLE / "images", folder, ignore=lambda _, names: sorted(names)[5:])
    code, out, err = cli("predict", trained, folder, "--out", tmp_path / "found", "--annotations")
    assert code == 0, err
    assert out.split()[-1] == str(tmp_path / "found" / "annotations.json")
    labels = read_coco(tmp_path / "found" / "annotations.json", folder)
    found = load_predictions(tmp_path / "found" / "predictions.json", labels.skeleton)
    assert len(labels) == len(found) == 5
    for person, prediction in zip(labels.instances, found, strict=True):
        shown = prediction.scores >= 0.2
        assert np.array_equal(person.visibility > 0, shown)
        assert np.allclose(person.joints[shown], prediction.joints[shown])
    images = json.loads((tmp_path / "found" / "annotations.json").read_text())["images"]
    sizes = {(i["file_name"], i["width"], i["height"]) for i in images}
    assert sizes == {(p.name, *cv2.imread(str(p)).shape[1::-1]) for p in folder.iterdir()}
    least = ["--min-joint-score", 0]
    assert cli("predict", trained, folder, "--out", tmp_path / "all", "--annotations", *least)[0] == 0
    every = read_coco(tmp_path / "all" / "annotations.json", folder).instances
    assert (every.visibility == 2).all()
    one_line(cli("predict", trained, folder, "--out", tmp_path / "all", *least), "--min-joint-score: without --annot")
    few = ["--annotations", "--doubtful", 2]
    assert cli("predict", trained, folder, "--out", tmp_path / "few", *few)[0] == 0
    content = json.loads((tmp_path / "few" / "annotations.json").read_text())
    means = sorted((float(p.scores.mean()), p.image_id) for p in found)
    assert [a["image_id"] for a in content["annotations"]] == [identity for _, identity in means[:2]]
    assert [i["id"] for i in content["images"]] == [identity for _, identity in means[:2]]
    assert len(json.loads((tmp_path / "few" / "predictions.json").read_text())) == 5
    one_line(cli("predict", trained, folder, "--out", tmp_path / "few", "--doubtful", 2), "--doubtful: without --annot")
    again = cli("predict", trained, folder, "--out", tmp_path / "found", "--annotations")
    one_line(again, "holds annotations.json already, perhaps corrected")
    assert f"{int((labels.instances.visibility > 0).sum())} of 85 joints, those of a score of 0.2 or more" in err
    hidden = labels.instances.visibility == 0
    raw = [a["keypoints"] for a in json.loads((tmp_path / "found" / "annotations.json").read_text())["annotations"]]
    assert (np.array(raw).reshape(5, 17, 3)[hidden] == 0).all()


def test_a_network_in_python(trained):
    model = semipose.load(trained)
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    joints, scores = model.predict(image, [[10, 10, 50, 70], [40, 5, 30, 60]])
    assert joints.shape == (2, 17, 2)
    assert scores.shape == (2, 17)
    alone, _ = model.predict(image, [[40, 5, 30, 60]])
    assert np.allclose(alone[0], joints[1], atol=1e-3)
    assert model.predict(image)[0].shape == (1, 17, 2)
    with pytest.raises(semipose.DataError, match="uint8"):
        model.predict(image / 255)
    with pytest.raises(semipose.DataError, match="area"):
        model.predict(image, [[1, 2, 0, 4]])


def test_export_is_the_network(cli, trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, out, err = cli("export", trained, "--out", tmp_path / "pose.onnx")
    assert code == 0, err
    session = onnxruntime.InferenceSession(out.strip())
    (maps,) = session.run(None, {"images": np.zeros((3, 3, 64, 64), np.float32)})
    assert maps.shape == (3, 17, 16, 16)
    usage = json.loads((tmp_path / "pose.onnx.json").read_text())
    assert usage["joints"][0] == "nose"
    assert (usage["input"]["height"], usage["output"]["stride"], usage["box"]["padding"]) == (64, 4, 1.25)


def test_other_networks_of_a_run_and_their_ensemble(cli, small_people, tmp_path):
    run = tmp_path / "run"
    test = tmp_path / "test.json"
    test.write_text((PEOPLE / "val.json").read_text())
    data = ["--data", small_people, "--images", PEOPLE / "images", "--labels", 20, f"data.test={test}"]
    code, _, err = cli("train", *TINY, *data, "--method", "trs", "--out", run)
    assert code == 0, err
    known = json.loads((run / "scores.json").read_text())["scores"]
    for name in ("G", "R2", "ensemble"):
        arguments = ("evaluate", run, "--data", test, "--images", PEOPLE / "images", "--network", name, "--json")
        code, out, err = cli(*arguments)
        assert code == 0, err
        found = json.loads(out)
        assert {key: found[key] for key in known[name]} == pytest.approx(known[name], abs=0.002)  # rounding
    assert "ensemble of G and F" in found["protocol"]
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    both, alone = semipose.load(run, network="ensemble"), semipose.load(run, network="F")
    assert [n.training for n in both.networks] == [False, False]
    assert not np.allclose(both.predict(image)[1], alone.predict(image)[1])
    (run / "weights" / ".123.tmp.G.safetensors").touch()  # being written
    (run / "scores.json").unlink()  # as of a run that was stopped
    assert semipose.load(run, network="ensemble").name == "ensemble of G and F"
    one_line(cli("predict", run, PEOPLE / "images", "--network", "H"), "it has F, G, R1, R2, ensemble")
    one_line(cli("predict", tmp_path / "gone", PEOPLE / "images", "--network", "G"), "no run folder")
    assert {p.device.type for n in both.to("meta").networks for p in n.parameters()} == {"meta"}
    with pytest.raises(semipose.ConfigError, match="no single network"):
        both.save(tmp_path / "both.safetensors")
    weights = run / "weights" / "F.safetensors"
    one_line(cli("export", weights, "--out", tmp_path / "pose.onnx", "--network", "F"), "leave it out")


def test_two_runs_compared_on_the_same_persons(cli, trained, small_people):
    test = ["--data", small_people, "--images", PEOPLE / "images"]
    weights = trained / "weights" / "F.safetensors"
    code, out, err = cli("evaluate", trained, *test, "--network", "G", "--against", weights, "--json")
    assert code == 0, err
    found = json.loads(out)
    alone = [json.loads(cli("evaluate", trained, *test, "--network", n, "--json")[1]) for n in ("G", "F")]
    assert {k: v for k, v in found.items() if k not in ("against", "difference")} == alone[0]
    assert found["against"] == {**alone[1], "protocol": found["against"]["protocol"]}
    gain = found["difference"]["PCK@0.2"]
    assert gain["value"] == pytest.approx(alone[0]["PCK@0.2"] - alone[1]["PCK@0.2"])
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    low, high = found["intervals"]["PCK@0.2"]
    assert low <= found["PCK@0.2"] <= high
    code, out, _ = cli("evaluate", trained, *test, "--against", trained / "predictions.json")
    assert "95 % intervals (bootstrap over images): AP" in out
    assert "first minus second, 95 % interval (paired by image): AP " in out
    assert "second: " in out
    code, out, _ = cli("evaluate", trained, *test, "--network", "G", "--against", trained, "--against-network", "R2")
    assert "│ 1. " in out
    assert "(R2)" in out
    one_line(cli("evaluate", trained, *test, "--against-network", "G"), "--against-network: there is no --against")


def test_a_configuration_by_its_name(cli, small_people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["--data", small_people, "--images", PEOPLE / "images", "--labels", 20, "--method", "single"]
    tiny = [a for a in TINY if "model.backbone" not in a]
    small = ["small_trs", *tiny, "model.backbone=test_resnet", *data, "--out", "run"]
    code, _, err = cli("train", *small)
    assert code == 0, err
    assert "method.unlabeled_weight" in err
    assert "belong to another method than single" in err
    assert yaml.safe_load(Path("run/config.yaml").read_text())["loss"]["kind"] == "cross_entropy"
    one_line(cli("train", "small_tsr", *data), "take a shipped one: small, small_trs, trs_paper")


def test_a_run_that_was_stopped_before_anything_was_kept(cli, trained):
    for path in (trained / "best.safetensors", trained / "model.json"):
        path.unlink()
    told = "was stopped before its first evaluation; continue it with --resume"
    one_line(cli("evaluate", trained, "--data", "people"), told)


def test_a_study_may_be_mended_before_a_cell_began(cli, small_people, tmp_path):
    study = tmp_path / "mine.yaml"
    plan = {
        "title": "mine",
        "labels": [20],
        "seeds": [0],
        "data": {"data.train": small_people.name, "data.images": str(PEOPLE / "images"), "data.test": "test.json"},
        "shared": dict(a.split("=") for a in TINY if "=" in a),
        "rows": {"supervised": {"options": {"method": "supervised"}}},
    }
    plan["shared"] = {key: yaml.safe_load(value) for key, value in plan["shared"].items()}
    content = json.loads((PEOPLE / "val.json").read_text())
    for image in content["images"]:
        image["file_name"] = f"x/{image['file_name']}"
    (tmp_path / "test.json").write_text(json.dumps(content))
    study.write_text(yaml.safe_dump(plan))
    arguments = ("--data", tmp_path, "--out", tmp_path / "study")
    one_line(cli("study", study, *arguments), "data.test_images")
    assert not (tmp_path / "study").exists()  # told before the first cell
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x").symlink_to(PEOPLE / "images")
    plan["data"]["data.test_images"] = str(tmp_path / "images")
    plan["shared"]["model.backbone"] = "resnet19"
    study.write_text(yaml.safe_dump(plan))
    code, _, err = cli("study", study, *arguments)
    assert (code, "resnet19" in err) == (1, True)
    plan["shared"]["model.backbone"] = "test_resnet"
    study.write_text(yaml.safe_dump(plan))
    code, out, err = cli("study", study, *arguments, "--resume")
    assert code == 0, err
    assert "supervised" in out
    plan["shared"]["train.lr"] = 0.5
    study.write_text(yaml.safe_dump(plan))
    one_line(cli("study", study, *arguments, "--resume"), "holds another study or other options of this one")


def test_an_exported_ensemble_is_the_mean_of_its_networks(cli, trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, out, err = cli("export", trained, "--out", tmp_path / "pose.onnx", "--network", "ensemble")
    assert code == 0, err
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    (maps,) = onnxruntime.InferenceSession(out.strip()).run(None, {"images": images})
    networks = [semipose.load(trained, network=name).network for name in ("G", "F")]
    with torch.inference_mode():
        found = [network.forward_main(torch.from_numpy(images)).double().numpy() for network in networks]
    assert np.allclose(maps, (found[0] + found[1]) / 2, atol=1e-4)


def test_the_cache_is_told_and_cleared(cli, trained, tmp_path, monkeypatch):
    full = json.loads(cli("data", "cache", "--json")[1])
    assert full["sets"] > 0
    assert full["bytes"] > 10_000
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(Path(full["folder"]) / "crops", tmp_path / "cache" / "crops")
    assert "sets of people" in cli("data", "cache")[1]
    assert json.loads(cli("data", "cache", "--clear", "--json")[1])["sets"] == 0
    assert cli("data", "cache", "--json")[0] == 0


def test_lists(cli):
    code, out, _ = cli("methods", "--json")
    assert code == 0
    assert {"supervised", "trs", "akm+mixup"} < set(json.loads(out))
    assert all(m["paper"] and m["summary"] for m in json.loads(out).values())
    code, out, _ = cli("config", "--method", "trs", "--json")
    options = json.loads(out)
    assert options["method.reviewers.alpha"]["default"] == "0.99"
    assert json.loads(cli("config", "--method", "akm+mixup", "--json")[1])["method.mixup.enabled"]["default"] == "True"
    assert all(o["meaning"] for o in options.values())
