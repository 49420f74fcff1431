"""SLEAP's labels: edges, symmetries, tracks, occluded and missing joints, frames of videos and inside of the file."""

import shutil

import numpy as np
import pytest
from PIL import Image

from semipose.data.checks import check_data
from semipose.data.formats.registry import FORMATS, find_format, read_annotations
from semipose.data.formats.sleap import write_slp
from semipose.data.formats.writers import write_annotations
from semipose.data.split_files import split_annotations
from semipose.errors import BrokenDataError, ConfigError, DataError


def labels(video, frames: tuple[int, ...]):
    """One mouse with a track in each frame, and in the last one a second and a predicted one."""
    import sleap_io

    nodes = [sleap_io.Node(name) for name in ("Schnauze", "ear L", "ear R")]
    pair = sleap_io.Symmetry([nodes[1], nodes[2]])
    skeleton = sleap_io.Skeleton(nodes, edges=[sleap_io.Edge(nodes[0], nodes[1])], symmetries=[pair], name="Maus")
    track, points = sleap_io.Track("Mäuse 1"), np.array([[1.5, 2], [10, 20], [np.nan, np.nan]])
    found = []
    for n in frames:
        instance = sleap_io.Instance.from_numpy(points + n, skeleton=skeleton, track=track)
        instance.points["visible"][1] = False
        found.append(sleap_io.LabeledFrame(video=video, frame_idx=n, instances=[instance]))
    found[-1].instances += [
        sleap_io.Instance.from_numpy(points[::-1] + 5, skeleton=skeleton),
        sleap_io.PredictedInstance.from_numpy(points, skeleton=skeleton, score=0.5),
    ]
    return sleap_io.Labels(found)


def test_images_and_frames_inside_of_the_file(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    for n in range(3):
        Image.new("RGB", (40, 30), (80 * n, 0, 9)).save(tmp_path / f"img{n}.png")
    video = sleap_io.Video.from_filename([str(tmp_path / f"img{n}.png") for n in range(3)])
    for embed, name in ((False, "a.slp"), ("user", "b.pkg.slp")):
        sleap_io.save_slp(labels(video, (0, 2)), str(tmp_path / name), embed=embed, verbose=False)
        assert find_format(tmp_path / name) is FORMATS["sleap"]
        persons = read_annotations(tmp_path / name)
        assert persons.skeleton.joints == ("Schnauze", "ear L", "ear R")
        assert (persons.skeleton.limbs, persons.skeleton.flip_pairs) == (((0, 1),), ((1, 2),))
        assert [p.individual for p in persons.instances] == ["Mäuse 1", "Mäuse 1", None]
        assert persons.instances.visibility.tolist() == [[2, 1, 0], [2, 1, 0], [0, 2, 2]]
        np.testing.assert_array_equal(persons[1].joints, [[3.5, 4], [12, 22], [0, 0]])
        assert persons.left_out == {"predictions of SLEAP": 1}
        assert persons.category.name == "Maus"
        assert persons.boxes_from_labels == 3
        assert np.asarray(Image.open(persons[1].image))[0, 0].tolist() == [160, 0, 9]
    moved = (tmp_path / "img2.png").rename(tmp_path / "elsewhere.png")
    assert moved.is_file()
    with pytest.raises(DataError, match="is missing"):
        (tmp_path / "img0.png").unlink()
        read_annotations(tmp_path / "a.slp")


@pytest.mark.parametrize(("name", "category"), [("Skeleton-0", "animal"), (None, "animal"), ("fly", "fly")])
def test_the_name_of_the_skeleton_is_the_category(tmp_path, name, category):
    sleap_io = pytest.importorskip("sleap_io")
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    made = labels(sleap_io.Video.from_filename([str(tmp_path / "1.png")]), (0,))
    made.skeletons[0].name = name
    sleap_io.save_slp(made, str(tmp_path / "a.slp"), embed=False, verbose=False)
    persons = read_annotations(tmp_path / "a.slp")
    assert persons.category.name == category
    write_slp(persons, tmp_path / "again.slp")
    assert sleap_io.load_slp(str(tmp_path / "again.slp"), open_videos=False).skeletons[0].name == (name or category)
    assert read_annotations(tmp_path / "again.slp").category.name == category


def test_frames_of_a_video(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    frames = np.stack([np.full((32, 48, 3), 60 * n, np.uint8) for n in range(4)])
    (tmp_path / "videos").mkdir()
    sleap_io.save_video(frames, str(tmp_path / "videos" / "v.mp4"))
    made = labels(sleap_io.load_video(str(tmp_path / "videos" / "v.mp4")), (1, 3))
    made.labeled_frames[1].instances = made.labeled_frames[1].instances[:1]
    sleap_io.save_slp(made, str(tmp_path / "a.slp"), verbose=False)
    for images in (None, tmp_path / "moved"):
        if images:
            (tmp_path / "videos").rename(images)
            monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "other"))
        persons = read_annotations(tmp_path / "a.slp", images)
        assert [p.box for p in persons.instances] == [(0, 0, 48, 32)] * 2
        values = [np.asarray(Image.open(p.image)).mean() for p in persons.instances]
        np.testing.assert_allclose(values, [60, 180], atol=4)
        write_annotations(persons, tmp_path / "table.csv")
        names = [row.split(",")[0] for row in (tmp_path / "table.csv").read_text().splitlines()[4:]]
        assert names == ["labeled-data/v/v_000001.png", "labeled-data/v/v_000003.png"]
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "third"))
    line = r"video .*v\.mp4 with 2 labeled frames is missing; if it has moved, .* as `images`"
    with pytest.raises(DataError, match=line):
        read_annotations(tmp_path / "a.slp")
    with pytest.raises(BrokenDataError, match=r"none of the 2 labeled frames") as error:
        check_data(tmp_path / "a.slp")
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("has_folder", [False, True])
def test_frames_of_a_video_go_along_with_a_coco_file(tmp_path, monkeypatch, has_folder):
    """Before, the file named images in the cache folder, where its reader did not look."""
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    frames = np.stack([np.full((32, 48, 3), 60 * n, np.uint8) for n in range(4)])
    sleap_io.save_video(frames, str(tmp_path / "v.mp4"))
    sleap_io.save_slp(
        labels(sleap_io.load_video(str(tmp_path / "v.mp4")), (0, 1, 2, 3)), str(tmp_path / "a.slp"), verbose=False
    )
    if has_folder:
        (tmp_path / "parts" / "images").mkdir(parents=True)
    written = split_annotations(tmp_path / "a.slp", tmp_path / "parts", by="time", val=0.5)
    shutil.rmtree(tmp_path / "cache")
    values = [np.asarray(Image.open(read_annotations(file)[0].image)).mean() for file in written]
    np.testing.assert_allclose(values, [0, 120], atol=4)


def test_frames_inside_of_the_file_have_the_name_of_their_video(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    made = save_videos(tmp_path, {"s1/cam.mp4": 60, "s2/cam.mp4": 180})
    sleap_io.save_slp(made, str(tmp_path / "a.pkg.slp"), embed="user", verbose=False)
    persons = read_annotations(tmp_path / "a.pkg.slp")
    assert [p.image.name for p in persons.instances] == ["cam_000001.png", "cam_2_000001.png"]
    np.testing.assert_allclose(gray_values(persons), [60, 180], atol=4)


def test_a_missing_video_is_one_problem_and_the_others_are_read(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    made = save_videos(tmp_path, {"a.mp4": 60, "b.mp4": 180})
    sleap_io.save_slp(made, str(tmp_path / "a.slp"), verbose=False)
    (tmp_path / "a.mp4").unlink()
    found = check_data(tmp_path / "a.slp")
    assert (found.persons, found.problem_count) == (1, 1)
    assert "a.mp4 with 1 labeled frame is missing" in found.problems[0]


def test_reasons_are_not_cut(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    sleap_io.save_slp(save_videos(tmp_path, {"v.mp4": 60}), str(tmp_path / "a.slp"), verbose=False)
    (tmp_path / "a.slp").write_bytes((tmp_path / "a.slp").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"truncated file: .*stored_eof = \d+\)\)$"):
        read_annotations(tmp_path / "a.slp")


def save_videos(folder, values):
    """Videos of eight frames with one gray value each; returns the labels of frame 1 of each."""
    sleap_io = pytest.importorskip("sleap_io")
    found = []
    for name, value in values.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sleap_io.save_video(np.full((8, 32, 48, 3), value, np.uint8), str(folder / name))
        found += labels(sleap_io.load_video(str(folder / name)), (1,)).labeled_frames
    for frame in found:
        frame.instances = frame.instances[:1]
        frame.instances[0].skeleton, frame.instances[0].track = found[0].instances[0].skeleton, None
    return sleap_io.Labels(found)


def gray_values(persons):
    return [round(float(np.asarray(Image.open(p.image)).mean())) for p in persons.instances]


def test_videos_that_moved_keep_their_folders(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    made = save_videos(tmp_path / "old", {"s1/cam.mp4": 60, "s2/cam.mp4": 180})
    sleap_io.save_slp(made, str(tmp_path / "old" / "a.slp"), verbose=False)
    moved = (tmp_path / "old").rename(tmp_path / "moved")
    for images in (None, moved):
        np.testing.assert_allclose(gray_values(read_annotations(moved / "a.slp", images)), [60, 180], atol=4)
    with pytest.raises(DataError, match=r"s1/cam\.mp4 and .*s2/cam\.mp4 would both be .*s1/cam\.mp4"):
        read_annotations(moved / "a.slp", moved / "s1")


def test_another_video_at_the_same_place_is_read_again(tmp_path, monkeypatch):
    sleap_io = pytest.importorskip("sleap_io")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    sleap_io.save_slp(save_videos(tmp_path, {"v.mp4": 60}), str(tmp_path / "a.slp"), verbose=False)
    assert gray_values(read_annotations(tmp_path / "a.slp")) == pytest.approx([60], abs=4)
    save_videos(tmp_path, {"v.mp4": 180})
    assert gray_values(read_annotations(tmp_path / "a.slp")) == pytest.approx([180], abs=4)


def test_images_of_one_name_in_two_folders(tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    for n, folder in enumerate("ab"):
        (tmp_path / "old" / folder).mkdir(parents=True)
        Image.new("RGB", (40, 30), (80 * n + 80,) * 3).save(tmp_path / "old" / folder / "1.png")
    video = sleap_io.Video.from_filename([str(tmp_path / "old" / f / "1.png") for f in "ab"])
    sleap_io.save_slp(labels(video, (0, 1)), str(tmp_path / "a.slp"), embed=False, verbose=False)
    moved = (tmp_path / "old").rename(tmp_path / "moved")
    assert gray_values(read_annotations(tmp_path / "a.slp", moved)) == [80, 160, 160]
    with pytest.raises(DataError, match=r"a/1\.png and .*b/1\.png would both be"):
        read_annotations(tmp_path / "a.slp", moved / "a")


def test_other_files(tmp_path):
    pytest.importorskip("sleap_io")
    (tmp_path / "a.slp").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="can't be read as SLEAP's labels"):
        read_annotations(tmp_path / "a.slp")


def test_without_sleap_io_there_is_one_clear_line(folder, monkeypatch):
    from semipose.data.formats.coco import read_coco
    from tests.data.formats.conftest import save_coco

    monkeypatch.setitem(__import__("sys").modules, "sleap_io", None)
    (folder / "a.slp").touch()
    with pytest.raises(ConfigError, match=r"reading a\.slp needs .*sleap_io.*semipose\[formats\]"):
        read_annotations(folder / "a.slp")
    with pytest.raises(ConfigError, match=r"writing b\.slp needs"):
        write_slp(read_coco(save_coco(folder)), folder / "b.slp")
