"""Splits of annotation files by video, time and person."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from semipose.data.clips import frame_of
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_writer import write_coco
from semipose.data.split_files import split_annotations
from semipose.errors import ConfigError
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO
from tests.data.test_clips import write_frames


def written(tmp_path: Path, images: list[Path], individuals=None, folder=None) -> Path:
    """A COCO file with a person in each image, or several with individuals: [[names of image 1], …]."""
    joints, visibility = np.ones((17, 2)), np.full(17, 2, np.int8)
    names = individuals or [[None]] * len(images)
    persons = [
        Instance(image, n, 100 * n + k + 1, (0, 0, 9, 9), joints, visibility, individual=name)
        for n, (image, own) in enumerate(zip(images, names, strict=True))
        for k, name in enumerate(own)
    ]
    write_coco(PoseDataset(COCO, persons, "all"), tmp_path / "all.json", folder=folder)
    return tmp_path / "all.json"


def names(path: Path) -> set[str]:
    return {Path(image["file_name"]).name for image in json.loads(path.read_text())["images"]}


def test_by_video(tmp_path):
    videos = {f"v{k}": write_frames(tmp_path / f"v{k}", range(10 * k, 10 * k + 6)) for k in range(6)}
    source = written(tmp_path, [image for frames in videos.values() for image in frames])
    found = split_annotations(source, tmp_path / "out", by="video", val=0.3, test=0.2, images=tmp_path)
    assert [path.name for path in found] == ["train.json", "val.json", "test.json"]
    by_part = [names(path) for path in found]
    assert [len(own) for own in by_part] == [18, 12, 6]
    for frames in videos.values():
        assert sum({p.name for p in frames} <= own for own in by_part) == 1
    assert found.account.used == {"train": 18, "val": 12, "test": 6}
    again = split_annotations(source, tmp_path / "again", by="video", val=0.3, test=0.2, images=tmp_path)
    other = split_annotations(source, tmp_path / "other", by="video", val=0.3, test=0.2, seed=1, images=tmp_path)
    assert [names(path) for path in again] == by_part != [names(path) for path in other]


def test_what_a_split_can_not_keep_apart_is_reported(tmp_path, caplog):
    """Two videos of the same content; images without a number, which have no place in time."""
    images = [image for name in ("a", "b") for image in write_frames(tmp_path / name, range(8))]
    split_annotations(written(tmp_path, images), tmp_path / "video", by="video", val=0.5, images=tmp_path)
    assert "8 images held out that are copies of images in train.json, the first: " in caplog.text
    frames = write_frames(tmp_path / "c", range(10))
    side = [frame.replace(frame.with_name(f"{frame.stem}_left.png")) for frame in frames[::2]]
    source = written(tmp_path, [*side, *frames[1::2]])
    split_annotations(source, tmp_path / "time", by="time", val=0.3, images=tmp_path / "c")
    assert "5 images without a number at the end of the name all go to train.json, the first is" in caplog.text


def test_by_image(tmp_path):
    images = write_frames(tmp_path / "photos", range(10))
    source = written(tmp_path, images, [["a", "b"], *[["a"]] * 9])
    found = split_annotations(source, tmp_path / "out", by="image", val=0.3, test=0.2, images=tmp_path / "photos")
    parts = [names(path) for path in found]
    assert [len(own) for own in parts] == [5, 3, 2]
    assert set().union(*parts) == {image.name for image in images}
    assert sum(found.account.used.values()) == 11


@pytest.mark.parametrize("folders", [("", "day2"), ("session1/a", "session1/b")])
def test_names_of_all_parts_are_relative_to_the_image_folder(tmp_path, caplog, folders):
    caplog.set_level(logging.INFO)
    photos = tmp_path / "photos"
    images = [image for folder in folders for image in write_frames(photos / folder, range(4))]
    source = written(tmp_path, images, folder=photos)
    found = split_annotations(source, tmp_path / "out", by="video", val=0.5, images=photos)
    assert "image folder" not in caplog.text
    read = [{*read_coco(path, photos).image_paths.values()} for path in found]
    assert not read[0] & read[1]
    assert read[0] | read[1] == {*images}


def test_names_without_an_image_folder_are_relative_to_the_folder_that_all_images_share(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tmp_path / "images"
    images = [image for folder in ("a", "b") for image in write_frames(root / folder, range(4))]
    found = split_annotations(written(tmp_path, images), tmp_path / "out", by="video", val=0.5)
    read = [{*read_coco(path, root).image_paths.values()} for path in found]
    assert read[0] | read[1] == {*images}
    for path in found:
        assert f"{path}: file names are relative to the image folder {root}" in caplog.text


@pytest.mark.parametrize("name", ["{:08x}-v{}_{{:04d}}.png", "v{1}_{{:04d}}_png.rf.{0:032x}.png"])
def test_uploads_of_label_studio_and_roboflow_by_video(tmp_path, name, caplog):
    images = [
        path
        for k in range(4)
        for n in range(6)
        for path in write_frames(tmp_path, [n], name.format(0xA0000 + 9 * n, k))
    ]
    found = split_annotations(written(tmp_path, images), tmp_path / "out", by="video", val=0.25, images=tmp_path)
    assert [len({frame_of(Path(name))[0] for name in names(path)}) for path in found] == [3, 1]
    assert "have one image" not in caplog.text


def test_videos_of_one_image_are_reported(tmp_path, caplog):
    images = write_frames(tmp_path, range(12), "{:04d}_left.png")
    split_annotations(written(tmp_path, images), tmp_path / "out", by="video", images=tmp_path)
    assert "12 of 12 videos have one image" in caplog.text


def test_by_time(tmp_path):
    images = write_frames(tmp_path / "v", range(20))
    source = written(tmp_path, images)
    found = split_annotations(source, tmp_path / "out", by="time", val=0.2, test=0.1, images=tmp_path / "v")
    train, val, test = (sorted(names(path)) for path in found)
    assert train == [p.name for p in images[:13]]
    assert val == [p.name for p in images[14:17]]
    assert test == [p.name for p in images[18:]]
    assert found.account.left_out == {"next to a held-out frame": 2}


def test_by_time_keeps_frames_that_are_far_apart(tmp_path):
    images = write_frames(tmp_path / "v", range(0, 600, 30))
    found = split_annotations(written(tmp_path, images), tmp_path / "out", by="time", images=tmp_path / "v")
    assert [len(names(path)) for path in found] == [16, 4]


def test_by_person_those_who_share_an_image_stay_together(tmp_path):
    images = write_frames(tmp_path / "v", range(12))
    individuals = [["a"], ["b"], ["c"], ["d"], ["a", "e"], ["b"], ["e"], ["f"], ["f"], ["c"], ["g"], ["d", "g"]]
    source = written(tmp_path, images, individuals)
    found = split_annotations(source, tmp_path / "out", by="person", val=0.3, images=tmp_path / "v")
    train, val = ({r["individual"] for r in json.loads(path.read_text())["annotations"]} for path in found)
    assert not train & val
    assert train | val == set("abcdefg")
    for pair in ({"a", "e"}, {"d", "g"}):
        assert pair <= train or pair <= val


def test_what_can_not_be_split_is_refused(tmp_path):
    images = write_frames(tmp_path / "v", range(4))
    source, given = written(tmp_path, images), {"images": tmp_path / "v", "out": tmp_path / "out"}
    for options, message in (
        ({"by": "video"}, "too few to split by video, namely 1; use time, person, image \\(image: photographs\\)"),
        ({"by": "person"}, "names no individual"),
        ({"by": "time", "test": 0.01}, r"no clip of .* is long enough for test\.json"),
        ({"by": "time", "val": 0.75}, r"no clip of .* is long enough for train\.json"),
        ({"by": "cage"}, "`by`: 'cage' is unknown; use video, time, person, image"),
        ({"by": "time", "val": 0.7, "test": 0.5}, "together above 0 and below 1"),
        ({"by": "time", "val": 0.0}, "together above 0 and below 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            split_annotations(source, **given, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_files_of_another_split_are_not_replaced(tmp_path, part):
    source = written(tmp_path, [image for k in range(4) for image in write_frames(tmp_path / f"v{k}", range(3))])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{part}.json").write_text("of the user")
    with pytest.raises(ConfigError, match=rf"`out`: .*{part}\.json exists; remove it or choose another file"):
        split_annotations(source, tmp_path / "out", by="video", images=tmp_path)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["of the user"]


@pytest.mark.parametrize("by", ["image", "video"])
@pytest.mark.parametrize("copied", [True, False])
def test_copies_and_augmented_images_of_one_photograph_stay_together(tmp_path, by, copied):
    """With the same content under other names, or with other content under Roboflow's names."""
    folder = tmp_path / "photos"
    (original,), images = write_frames(folder, [0], "{}.png"), []
    for n in range(10):
        for k in range(3):
            name = f"{'abc'[k]}{'xyz'[n % 3]}{n}x.png" if copied else f"photo{chr(97 + n)}_png.rf.{k:032x}.png"
            if copied:
                (folder / name).write_bytes(original.read_bytes() + bytes([n]))
                images.append(folder / name)
            else:
                images += write_frames(folder, [3 * n + k], name)
    found = split_annotations(written(tmp_path, images), tmp_path / "out", by=by, val=0.3, images=folder)
    train, val = map(names, found)
    assert (len(train), len(val)) == (21, 9)
    key = (lambda name: name[2]) if copied else (lambda name: name.partition("_")[0])
    assert {key(name) for name in train}.isdisjoint(map(key, val))


def test_a_large_video_does_not_become_the_validation_set(tmp_path, caplog):
    sizes = {"long": 40, "short": 8, "brief": 8}
    images = [image for name, size in sizes.items() for image in write_frames(tmp_path / name, range(size))]
    source = written(tmp_path, images)
    for seed in range(6):
        found = split_annotations(source, tmp_path / f"{seed}", by="video", val=0.2, seed=seed, images=tmp_path)
        assert found.account.used == {"train": 48, "val": 8}
    assert "stay together" not in caplog.text
    split_annotations(source, tmp_path / "little", by="video", val=0.02, images=tmp_path)
    assert "val has 8 of 56 images, not 1.12: images of one video stay together" in caplog.text
