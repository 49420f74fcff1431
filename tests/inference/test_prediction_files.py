"""Tables of predictions: one row a frame, likelihoods in 0…1, and files by format and suffix."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import semipose
from semipose.data.datasets import PEOPLE
from semipose.data.formats.coco import read_coco
from semipose.data.formats.pose_tables import PoseTable, read_csv_table, write_csv_table
from semipose.data.formats.writers import write_annotations
from semipose.errors import ConfigError
from semipose.inference.prediction_files import (
    likelihoods,
    output_files,
    prediction_table,
    refuse_labels,
    require_writers,
    write_prediction_files,
)
from semipose.structures.categories import ANIMAL
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import infer_skeleton
from tests.data.test_video import clip, picture

SKELETON = infer_skeleton(["Schnauze", "left ear"])


def prediction(image_id, x: float, scores=(0.5, 0.25)) -> Prediction:
    return Prediction(image_id, None, np.array([[x, 1], [x + 1, 2]]), np.array(scores), 0.5, (0.0, 0.0, 9.0, 9.0))


def test_one_animal_is_a_table_of_three_header_rows():
    table = prediction_table([prediction(2, 7.5), prediction(0, 1.0)], SKELETON, {0: 0, 1: 1, 2: 2})
    assert table.levels == ("scorer", "bodyparts", "coords")
    assert table.columns == ((None, "Schnauze"), (None, "left ear"))
    np.testing.assert_array_equal(table.values[2], [[7.5, 1, 0.5], [8.5, 2, 0.25]])
    assert np.isnan(table.values[1]).all()
    assert list(table.names) == [0, 1, 2]


def test_several_animals_have_columns_of_their_own():
    table = prediction_table([prediction(5, 1.0), prediction(5, 2.0), prediction(6, 3.0)], SKELETON, {5: "a", 6: "b"})
    assert table.individuals == ("individual1", "individual2")
    np.testing.assert_array_equal(table.values[:, [0, 2], 0], [[1, 2], [3, np.nan]])


def test_animals_in_boxes_of_labels_keep_their_names(tmp_path):
    found = [
        replace(prediction(5, 1.0), individual="Bob"),
        prediction(5, 2.0),
        replace(prediction(6, 3.0), individual="Ann"),
        replace(prediction(6, 4.0), individual="Bob"),
    ]
    table = prediction_table(found, SKELETON, {5: "a", 6: "b"})
    assert table.individuals == ("Bob", "individual1", "Ann")
    np.testing.assert_array_equal(table.values[:, ::2, 0], [[1, 2, np.nan], [4, np.nan, 3]])

    files, rows = [tmp_path / "p.slp", tmp_path / "p.json"], {5: "a.png", 6: "b.png"}
    write_prediction_files(found, files, SKELETON, rows, [tmp_path / name for name in rows.values()], ANIMAL)
    frames = pytest.importorskip("sleap_io").load_slp(str(files[0]), open_videos=False).labeled_frames
    assert [[i.track and i.track.name for i in frame.instances] for frame in frames] == [["Bob", None], ["Ann", "Bob"]]
    assert [record.get("individual") for record in json.loads(files[1].read_text())] == ["Bob", None, "Ann", "Bob"]


def test_without_any_prediction_the_rows_are_empty():
    table = prediction_table([], SKELETON, {0: 0})
    assert table.values.shape == (1, 2, 3)
    assert np.isnan(table.values).all()


def test_likelihoods_are_within_0_and_1():
    assert likelihoods(prediction(0, 1.0, (-0.1, 3.7))).tolist() == [0, 1]


def test_format_and_suffix_agree(tmp_path):
    folder = tmp_path / "found"
    assert output_files(folder) == (folder, [folder / "predictions.json"])
    assert output_files(folder, "dlc")[1] == [folder / "predictions.csv", folder / "predictions.h5"]
    assert (
        output_files(tmp_path / "t.csv") == output_files(tmp_path / "t.csv", "dlc") == (tmp_path, [tmp_path / "t.csv"])
    )
    (tmp_path / "v1.csv").mkdir()
    assert output_files(tmp_path / "v1.csv", "slp")[1] == [tmp_path / "v1.csv" / "predictions.slp"]
    for out, format in ((tmp_path / "t.csv", "slp"), (folder, "xml")):
        with pytest.raises(ConfigError, match=r"t\.csv is none|'xml' is unknown"):
            output_files(out, format)


def test_a_name_with_the_suffix_of_another_file_is_no_folder(tmp_path):
    for name in ("x.xlsx", "x.TXT", "x.mp4", "x.yaml"):
        with pytest.raises(ConfigError, match=rf"`out`: {name} has no known suffix; use \.json, \.csv, \.h5, \.slp"):
            output_files(tmp_path / "found" / name)
    (tmp_path / "mice.arena").mkdir()
    for name in ("runs.2024", "runs.v2", "runs.2nd", "mice.arena", "mice.evening", ".hidden", "a.b c"):
        assert output_files(tmp_path / name)[0] == tmp_path / name


def test_a_missing_package_is_known_before_anything_is_predicted(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sleap_io", None)
    require_writers([Path("a.csv"), Path("a.json")])
    with pytest.raises(ConfigError, match=r"writing a\.slp needs the package 'sleap_io'"):
        require_writers([Path("a.slp")])


def test_a_folder_of_images(model, tmp_path):
    for name in ("b.png", "deep/a.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.full((50, 80, 3), 40, np.uint8))
    written = semipose.predict(model, tmp_path / "images", out=tmp_path / "table.csv", draw=True)
    assert [path.name for path in written] == ["table.csv", "b_pose.jpg", "a_pose.jpg"]
    rows = list(csv.reader(written[0].read_text().splitlines()))
    assert [row[0] for row in rows] == ["scorer", "bodyparts", "coords", "b.png", "deep/a.png"]
    assert rows[1][1:7:3] == ["nose", "left_eye"]
    assert rows[2][1:4] == ["x", "y", "likelihood"]
    assert not (tmp_path / "predictions.json").exists()


def test_frames_of_a_video_without_a_box_are_empty_rows(model, tmp_path):
    video = clip(tmp_path / "v.mp4", [picture(8 * x) for x in range(4)])
    boxes = tmp_path / "boxes.json"
    boxes.write_text('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 1}]')
    path, scores = semipose.predict(model, video, boxes=boxes, out=tmp_path / "found", format="csv")
    rows = list(csv.reader(path.read_text().splitlines()))[3:]
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    assert scores.name == "v_scores.json"
    assert {*rows[0][1:]} == {"nan"}  # not empty, for pandas
    assert [any(row[1:]) for row in rows[1:3]] == [True, False]


def test_pandas_and_sleap_io_read_what_is_written(model, tmp_path):
    pandas, sleap_io = pytest.importorskip("pandas"), pytest.importorskip("sleap_io")
    pytest.importorskip("tables")
    video = clip(tmp_path / "v.mp4", [picture(8 * x) for x in range(4)])
    table, h5, _ = semipose.predict(model, video, out=tmp_path / "found", format="dlc")
    slp, *_ = semipose.predict(model, video, out=tmp_path / "found.slp")
    read, stored = pandas.read_csv(table, header=[0, 1, 2], index_col=0), pandas.read_hdf(h5)
    assert list(read.columns) == list(stored.columns)
    assert read.columns.names == stored.columns.names == ["scorer", "bodyparts", "coords"]
    np.testing.assert_array_equal(read.to_numpy(), stored.to_numpy())
    likelihood = read.xs("likelihood", level="coords", axis=1).to_numpy()
    assert ((likelihood >= 0) & (likelihood <= 1)).all()
    labels = sleap_io.load_slp(str(slp), open_videos=False)
    assert labels.skeletons[0].name == model.category.name == "person"
    assert labels.skeletons[0].node_names == list(model.skeleton.joints)
    assert len(labels.labeled_frames) == len(read)
    found = labels.labeled_frames[1].predicted_instances[0]
    np.testing.assert_allclose(found.points["xy"], read.iloc[1].to_numpy().reshape(-1, 3)[:, :2])
    np.testing.assert_allclose(found.points["score"], likelihood[1])


def test_predictions_for_deeplabcuts_labels_have_the_rows_and_columns_of_the_labels(model, tmp_path):
    images = tmp_path / "labeled-data" / "mice"
    images.mkdir(parents=True)
    for name in "ab":
        cv2.imwrite(str(images / f"{name}.png"), np.full((60, 80, 3), 128, np.uint8))
    columns = [(mouse, joint) for mouse in ("Bob", "Ann") for joint in model.skeleton.joints]
    points = np.random.default_rng(0).uniform(5, 55, (2, len(columns), 2))
    points[0, len(model.skeleton) :] = np.nan  # Ann is in the second image alone
    labels = PoseTable("me", [f"labeled-data/mice/{name}.png" for name in "ab"], tuple(columns), points)
    write_csv_table(labels, images / "CollectedData_me.csv")
    (tmp_path / "config.yaml").write_text("scorer: me\nmultianimalbodyparts: []")
    for source in (images / "CollectedData_me.csv", tmp_path / "config.yaml"):
        (table, *_) = semipose.predict(model, source, out=tmp_path / "found.csv")
        assert tuple(read_csv_table(table).names) == tuple(labels.names)
    found = read_csv_table(table)
    assert found.columns == labels.columns
    assert np.isnan(found.values[..., 0]).tolist() == np.isnan(points[..., 0]).tolist()


@pytest.mark.parametrize("suffix", [".json", ".csv", ".h5", ".slp"])
def test_labels_are_not_replaced_and_earlier_predictions_are(small_people, tmp_path, suffix):
    if suffix in (".h5", ".slp"):
        pytest.importorskip("tables" if suffix == ".h5" else "sleap_io")
    labels, earlier, other = (tmp_path / f"{name}{suffix}" for name in ("labels", "earlier", "other"))
    write_annotations(read_coco(small_people, PEOPLE / "images"), labels)
    images = sorted((PEOPLE / "images").iterdir())[:2]
    write_prediction_files([prediction(0, 1.0)], [earlier], SKELETON, {0: "a.jpg", 1: "b.jpg"}, images, ANIMAL)
    other.write_text("of something else")
    refuse_labels([earlier, tmp_path / f"new{suffix}"])
    for path in (labels, other):
        with pytest.raises(ConfigError, match=rf"`out`: .*{path.name} holds labels or other data.*choose another file"):
            refuse_labels([earlier, path])
    write_prediction_files([], [earlier], SKELETON, {0: "a.jpg"}, images[:1], ANIMAL)
    refuse_labels([earlier])


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_labels_are_refused_before_anything_is_predicted(model, small_people, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("semipose.inference.predict.predict_dataset", None)
    monkeypatch.setattr("semipose.inference.video.predict_frames", None)
    video, labels = clip(tmp_path / "v.mp4", [picture(8 * x) for x in range(4)]), tmp_path / f"labels{suffix}"
    write_annotations(read_coco(small_people, PEOPLE / "images"), labels)
    before = labels.read_bytes()
    for source in (video, PEOPLE / "images"):
        with pytest.raises(ConfigError, match="holds labels"):
            semipose.predict(model, source, out=labels)
    (tmp_path / "videos").mkdir()
    for name in "ab":
        (tmp_path / f"videos/{name}.mp4").write_bytes(video.read_bytes())
    labels.rename(tmp_path / f"b_predictions{suffix}")
    with pytest.raises(ConfigError, match=r"b_predictions.* holds labels"):
        semipose.predict(model, tmp_path / "videos", out=tmp_path, format={".json": "coco", ".csv": "csv"}[suffix])
    assert (tmp_path / f"b_predictions{suffix}").read_bytes() == before
