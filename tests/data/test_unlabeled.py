"""Further unlabeled images: folders with labels, copies and videos in them, annotation files."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from semipose.data.data_config import DataConfig
from semipose.data.datasets import PEOPLE, load_splits, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.registry import read_annotations
from semipose.errors import ConfigError, DataError
from tests.data.formats.test_deeplabcut import CONFIG, save_table
from tests.data.make_video import clip, picture


def test_unlabeled_data_of_other_kinds_are_errors(tmp_path):
    (tmp_path / "walk.txt").touch()
    with pytest.raises(DataError, match=r"`data\.unlabeled`: .*walk\.txt is neither a folder of images, an"):
        load_splits(DataConfig(train="people", unlabeled=str(tmp_path / "walk.txt")))


def test_images_of_labeled_persons_are_left_out_of_further_unlabeled_ones(small_people, tmp_path):
    """With a folder that holds all images: held-out ones are not trained on, labeled ones are not used twice."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for image in sorted((PEOPLE / "images").iterdir())[:80]:
        (folder / image.name).symlink_to(image)
    content = json.loads(small_people.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    persons = read_annotations(small_people, PEOPLE / "images")
    inside = sum((folder / name).exists() for name in names.values())
    options = {"train": str(small_people), "images": str(PEOPLE / "images"), "validation": 8}
    plain = load_splits(DataConfig(**options, unlabeled=str(folder), include_labeled=False))
    assert len(plain.unlabeled) == 80 - inside
    assert plain.account.left_out["of the unlabeled set: in images of the labeled set"] == inside
    held_out = {p.image.resolve() for p in plain.validation.instances}
    with_labeled = load_splits(DataConfig(**options, unlabeled=str(folder)))
    assert len(with_labeled.unlabeled) == 80 - inside + len(persons) - 8
    for found in (plain, with_labeled):
        assert held_out.isdisjoint(p.image.resolve() for p in found.unlabeled.instances)
    with pytest.raises(ConfigError, match="are labeled or held out; give others, or leave it out"):
        load_splits(DataConfig(**options, unlabeled=str(shutil.copy(small_people, tmp_path / "copy.json"))))
    same = load_splits(DataConfig(**options, unlabeled=str(small_people)))
    assert {*same.unlabeled.instances.paths} == {*same.labeled.instances.paths}


def test_copies_of_the_labeled_set_are_left_out_of_the_unlabeled_set(tmp_path):
    everything = read_dataset("people", None)
    plain = everything.subset(range(12))
    write_coco(plain, tmp_path / "set.json")
    (tmp_path / "frames").mkdir()
    for n, path in enumerate(everything.subset(range(16)).instances.paths):
        shutil.copy(path, tmp_path / "frames" / f"copy{n}.jpg")
    config = {
        "train": str(tmp_path / "set.json"),
        "images": str(PEOPLE / "images"),
        "unlabeled": str(tmp_path / "frames"),
    }
    splits = load_splits(DataConfig(**config, validation=3, include_labeled=False))
    assert [Path(path).name for path in splits.unlabeled.instances.paths] == [f"copy{n}.jpg" for n in range(12, 16)]
    assert splits.account.left_out == {"of the unlabeled set: in images of the labeled set": 12}
    content = json.loads((tmp_path / "set.json").read_text())
    content["images"] += [{"id": 10**6 + n, "file_name": f"later{n}.jpg"} for n in range(2)]
    (tmp_path / "more.json").write_text(json.dumps(content))
    with pytest.raises(
        ConfigError, match=r"held out, but for 2 images without annotations \(give their folder instead"
    ):
        load_splits(DataConfig(**config | {"unlabeled": str(tmp_path / "more.json")}))
    with_labeled = load_splits(DataConfig(**config, validation=3)).unlabeled
    assert len(with_labeled) == 9 + 4


def test_a_folder_of_labels_and_videos_gives_frames_and_no_labeled_image(tmp_path, monkeypatch, caplog):
    """`--unlabeled .` beside a project: before, its videos were left out, and nothing said that no image was new."""
    caplog.set_level("INFO")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    project = tmp_path / "project"
    rows = [f"{n}.png,1,2,30,4,5,6" for n in range(4)]
    save_table(project / "labeled-data" / "v" / "CollectedData_Ana.csv", rows, "labeled-data/v/")
    (project / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    data = {"train": str(project), "validation": 0, "include_labeled": False}
    for folder in (project, project / "labeled-data"):
        with pytest.raises(ConfigError, match=f"all images of {folder} are labeled or held out; give others"):
            load_splits(DataConfig(**data, unlabeled=str(folder)))
        load_splits(DataConfig(**data, unlabeled=str(folder), labels=2))
        assert f"all images of {folder} are labeled or held out, so it adds no unlabeled image" in caplog.messages
    (project / "videos").mkdir()
    clip(project / "videos" / "v.mp4", [picture(8 * n) for n in range(8)])
    (project / "videos" / "v_pose.mp4").write_bytes(b"drawn, and left out")
    Image.new("RGB", (64, 48), (9, 99, 9)).save(project / "new.png")
    caplog.clear()
    found = load_splits(DataConfig(**data, unlabeled=str(project)))
    names = {Path(path).name for path in found.unlabeled.instances.paths}
    assert names == {"new.png", *(f"v_{n:06d}.jpg" for n in range(8))}
    assert len(found.unlabeled.image_paths) == 9
    assert f"{project}: 5 images, and 8 frames of its videos" in caplog.messages
    assert found.account.left_out == {"of the unlabeled set: in images of the labeled set": 4}
    (project / "config.yaml").rename(tmp_path / "config.yaml")
    data["train"] = str(project / "labeled-data" / "v" / "CollectedData_Ana.csv")
    mixed = load_splits(DataConfig(**data, unlabeled=str(project)))
    assert {Path(path).name for path in mixed.unlabeled.instances.paths} == names
    assert "of other kinds" not in caplog.text
    boxes = [{"image_id": "new.png", "category_id": 1, "bbox": [1, 1, 9, 9], "score": 1}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    boxed = load_splits(DataConfig(**data, unlabeled=str(project), boxes=str(tmp_path / "boxes.json")))
    assert [p.box for p in boxed.unlabeled.instances] == [(1, 1, 9, 9)]
    assert "2 files of other kinds left out" in caplog.text


def test_videos_of_one_name_are_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mixed"
    for part in ("a", "b"):
        (folder / part).mkdir(parents=True)
        clip(folder / part / "v.mp4", [picture(8)])
        Image.new("RGB", (64, 48), (9, 99, 9)).save(folder / part / "new.png")
    found = load_splits(DataConfig(train="people", labels=4, unlabeled=str(folder), include_remaining=False))
    assert [Path(path).parent.name for path in found.unlabeled.instances.paths][-2:] == ["a", "b"]
    assert "rename one; its videos are left out" in caplog.text


def test_images_of_given_validation_and_test_sets_are_not_trained_on(tmp_path, caplog):
    everything = read_dataset("people", None)
    for name, rows in (("train", range(12)), ("val", range(12, 18)), ("test", range(18, 22))):
        write_coco(everything.subset(rows), tmp_path / f"{name}.json")
    (tmp_path / "frames").mkdir()
    for n, path in enumerate(everything.subset(range(25)).instances.paths):
        shutil.copy(path, tmp_path / "frames" / f"copy{n}.jpg")
    files = {part: str(tmp_path / f"{part}.json") for part in ("train", "val", "test")}
    folders = dict.fromkeys(("images", "val_images", "test_images"), str(PEOPLE / "images"))
    config = DataConfig(**files, **folders, unlabeled=str(tmp_path / "frames"), include_labeled=False)
    splits = load_splits(config)
    assert [Path(path).name for path in splits.unlabeled.instances.paths] == [f"copy{n}.jpg" for n in range(22, 25)]
    assert splits.account.left_out == {
        "of the unlabeled set: in images of the labeled set": 12,
        "of the unlabeled set: in images of the validation or test set": 10,
    }
