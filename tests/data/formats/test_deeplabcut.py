"""DeepLabCut projects and single tables: names byte for byte, missing joints, several animals."""

import os
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import yaml
from PIL import Image

from semipose.data.checks import check_data
from semipose.data.data_config import DataConfig
from semipose.data.datasets import load_splits
from semipose.data.formats.categories import CategoryChoice
from semipose.data.formats.deeplabcut import individual_names, write_labels
from semipose.data.formats.pose_tables import read_csv_table, write_csv_table
from semipose.data.formats.registry import FORMATS, find_format, is_annotation_folder, read_annotations
from semipose.data.prepare import convert_annotations
from semipose.errors import DataError, MissingImagesError
from semipose.structures.skeletons import LSP
from tests.data.formats.conftest import save_image

LAB = Path(os.environ.get("SEMIPOSE_DATA", "/nowhere")) / "lab"
CONFIG = {"Task": "open field", "scorer": "Ana", "bodyparts": ["Schnauze", "leftEar", "rightEar"]}
ROWS = ["img1.png,1.25,2,30,4,5,6", "img2.png,,,10,12,,", "img3.png,,,,,,"]


def save_table(path: Path, rows: list[str], folder: str, joints=("Schnauze", "leftEar", "rightEar")) -> Path:
    head = [",".join([name, *cells]) for name, cells in (
        ("scorer", ["Ana"] * 2 * len(joints)),
        ("bodyparts", [joint for joint in joints for _ in "xy"]),
        ("coords", ["x", "y"] * len(joints)),
    )]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, *(f"{folder}{row}" for row in rows)]) + "\n")
    for row in rows:
        image = path.parent / row.split(",")[0]
        Image.new("RGB", (64, 48), tuple(crc32(str(image).encode()).to_bytes(4)[:3])).save(image)
    return path


@pytest.fixture
def project(tmp_path) -> Path:
    """A project of two videos; the second has Windows' names and only two of the joints."""
    root = tmp_path / "project"
    save_table(root / "labeled-data" / "v1" / "CollectedData_Ana.csv", ROWS, "labeled-data/v1/")
    save_table(
        *(root / "labeled-data" / "v2" / "CollectedData_Ana.csv", ["img1.png,7,8,9,10"], "labeled-data\\v2\\"),
        joints=("rightEar", "leftEar"),
    )
    (root / "labeled-data" / "v1_labeled").mkdir()
    (root / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "skeleton": [["leftEar", "rightEar"], ["a", "b"]]}))
    return root


def test_a_project_is_all_of_its_tables(project, caplog):
    caplog.set_level("INFO")
    for path in (project, project / "config.yaml"):
        assert find_format(path) is FORMATS["deeplabcut"]
        persons = read_annotations(path)
        assert persons.skeleton.joints == ("Schnauze", "leftEar", "rightEar")
        assert persons.skeleton.limbs == ((1, 2),)
        assert persons.skeleton.flip_pairs == ((1, 2),)
        assert len(persons) == 4
    assert is_annotation_folder(project)
    assert [p.image.relative_to(project).as_posix() for p in persons.instances] == [
        *(f"labeled-data/v1/img{n}.png" for n in (1, 2, 3)),
        "labeled-data/v2/img1.png",
    ]
    assert persons.instances.visibility.tolist() == [[2, 2, 2], [0, 2, 0], [0, 0, 0], [0, 2, 2]]
    np.testing.assert_array_equal(persons[0].joints, [[1.25, 2], [30, 4], [5, 6]])
    np.testing.assert_array_equal(persons[3].joints[1:], [[9, 10], [7, 8]])
    assert persons.instances.annotation_ids.tolist() == persons.instances.image_ids == [1, 2, 3, 4]
    assert {p.box for p in persons.instances} == {(0.0, 0.0, 64.0, 48.0)}
    assert caplog.text.count("the box of each animal is the whole frame") == 2


def test_the_area_is_that_of_the_joints_and_not_of_the_frame(project):
    areas = read_annotations(project).instances.areas
    assert areas[0] == pytest.approx(0.53 * (28.75 * 1.2 + 2) * (4 * 1.2 + 2))
    assert areas[1] == areas[2] == pytest.approx(np.median([areas[0], areas[3]]))


def test_one_table_alone_is_read_like_the_project(project):
    persons = read_annotations(project / "labeled-data" / "v1" / "CollectedData_Ana.csv")
    assert persons.skeleton.limbs == ((1, 2),)
    assert [p.image.name for p in persons.instances] == ["img1.png", "img2.png", "img3.png"]
    (project / "config.yaml").unlink()
    moved = (project / "labeled-data" / "v1").rename(project.parent / "elsewhere")
    assert len(read_annotations(moved / "CollectedData_Ana.csv")) == 3


def test_a_table_of_lightning_pose(tmp_path):
    save_table(tmp_path / "labeled-data" / "any.csv", ["img01.png,1,2,3,4,5,6"], "labeled-data/")
    path = (tmp_path / "labeled-data" / "any.csv").rename(tmp_path / "CollectedData.csv")
    (person,) = read_annotations(path).instances
    assert person.image == tmp_path / "labeled-data" / "img01.png"


def multi_animal(root: Path) -> Path:
    """Two mice with two joints each, and one joint of the cage."""
    columns = [(i, j) for i in ("Maus 1", "mouse_2") for j in ("nose", "tail")] + [("single", "corner")]
    cells = [(i, j, c) for i, j in columns for c in "xy"]
    head = [["scorer", *["Ana"] * 10], ["individuals", *(i for i, *_ in cells)]]
    head += [["bodyparts", *(j for _, j, _ in cells)], ["coords", *(c for *_, c in cells)]]
    rows = [["a.png", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], ["b.png", *[""] * 4, 5, 6, "", "", "", ""]]
    rows += [["c.png", *[""] * 4, 5, 6, 20, 30, "", ""], ["d.png", *[""] * 10]]
    folder = root / "labeled-data" / "v"
    folder.mkdir(parents=True)
    for row in rows:
        save_image(folder / str(row[0]), (64, 48))
        row[0] = f"labeled-data/v/{row[0]}"
    (folder / "CollectedData_Ana.csv").write_text("\n".join(",".join(map(str, r)) for r in (*head, *rows)))
    parts = {"multianimalbodyparts": ["nose", "tail"], "uniquebodyparts": ["corner"], "bodyparts": "MULTI!"}
    (root / "config.yaml").write_text(yaml.safe_dump({"scorer": "Ana", "multianimalproject": True, **parts}))
    return root


def test_several_animals_keep_their_names(tmp_path, caplog):
    caplog.set_level("INFO")
    persons = read_annotations(multi_animal(tmp_path))
    assert persons.skeleton.joints == ("nose", "tail", "corner")
    found = [(p.image.name, p.individual, p.visibility.tolist()) for p in persons.instances]
    assert found == [
        ("a.png", "Maus 1", [2, 2, 0]),
        ("a.png", "mouse_2", [2, 2, 0]),
        ("c.png", "mouse_2", [2, 2, 0]),
    ]  # one joint has no extent, and so has an image without an animal
    assert sum(persons.left_out.values()) == 3
    assert persons.boxes_from_labels == 3
    assert "frames show several animals" in caplog.text


@pytest.mark.parametrize("suffix", [".csv", ".json", ".h5", ".slp", ".yaml"])
@pytest.mark.parametrize("several", [False, True])
def test_labels_survive_every_format(project, tmp_path, suffix, several):
    """Names, positions, missing joints and animals are the same after writing and reading."""
    from semipose.data.prepare import convert_annotations

    if suffix in (".h5", ".slp"):
        pytest.importorskip("tables" if suffix == ".h5" else "sleap_io")
    source = multi_animal(tmp_path / "multi") if several else project
    persons = read_annotations(source)
    path, _ = convert_annotations(source, tmp_path / "out" / f"set{suffix}")
    images = {".csv": source, ".h5": source, ".json": source / "labeled-data" / ("v" if several else "")}
    again = read_annotations(path, images.get(suffix))
    wanted = [p for p in persons.instances if p.labeled]
    found = [p for p in again.instances if p.labeled]
    assert again.skeleton.joints == persons.skeleton.joints
    tolerance = 1e-12 if suffix == ".yaml" else 0  # YOLO's positions are shares of the image
    for a, b in zip(wanted, found, strict=True):
        assert a.visibility.tolist() == b.visibility.tolist()
        np.testing.assert_allclose(a.joints, b.joints, atol=100 * tolerance)
        np.testing.assert_allclose(a.box, b.box, atol=100 * tolerance)
        assert (a.image.name, a.individual if suffix != ".yaml" else None) == (b.image.name, b.individual)


def test_the_category_is_an_animal_a_person_by_its_joints_or_what_is_chosen(project, tmp_path):
    assert read_annotations(project).category.name == "animal"
    assert read_annotations(project, category=CategoryChoice("all")).category.name == "animal"
    assert read_annotations(project, category=CategoryChoice("mouse")).category.name == "mouse"
    config = DataConfig(train=str(project), category="mouse")
    assert load_splits(config).labeled.category.name == "mouse"
    for name, found in (("a.json", "categories"), ("data.yaml", "names"), ("a.csv", "")):
        written, _ = convert_annotations(project, tmp_path / name / name)
        assert "person" not in written.read_text()
        assert not found or "animal" in str(yaml.safe_load(written.read_text())[found])
    joints = ("left_wrist", *(joint for joint in LSP.joints if joint != "left_wrist"))
    rows = ["1.png," + ",".join(["1", "2"] * len(joints))]
    people = save_table(tmp_path / "people" / "CollectedData.csv", rows, "", joints)
    assert read_annotations(people).category.name == "person"


def test_projects_are_trained_on(project):
    config = DataConfig(train=str(project / "config.yaml"), unlabeled=str(project), validation=1)
    splits = load_splits(config)
    assert len(splits.labeled) == 2
    assert splits.account.left_out["without labeled joints"] == 1
    assert len(load_splits(DataConfig(train=str(project), validation=0)).labeled) == 3


def test_what_cannot_be_used(project):
    table = project / "labeled-data" / "v2" / "CollectedData_Ana.csv"
    table.write_text(table.read_text().replace("7,8", "7,"))
    with pytest.raises(DataError, match="rightEar has only one of x and y"):
        read_annotations(project)
    problems: list[str] = []
    assert len(read_annotations(project, problems=problems)) == 3
    (project / "labeled-data" / "v1" / "img2.png").unlink()
    assert len(read_annotations(project, problems=problems)) == 2
    assert "img2.png is missing" in problems[-1]
    table.write_text(table.read_text().replace("7,,", "7,8,"))
    with pytest.raises(MissingImagesError):
        read_annotations(project, project / "labeled-data" / "v1_labeled")
    save_table(project / "labeled-data" / "v1" / "CollectedData_Bo.csv", ROWS, "labeled-data/v1/")
    (project / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "scorer": "Cy"}))
    with pytest.raises(DataError, match="several scorers"):
        read_annotations(project)


def test_predictions_for_a_video_are_no_labels(tmp_path):
    path = save_table(tmp_path / "DLC.csv", [], "")
    path.write_text(path.read_text() + "0,1,2,3,4,5,6\n")
    with pytest.raises(DataError, match="predictions for a video are no labels"):
        read_annotations(path)


def test_predictions_for_images_are_no_labels(project):
    """As `predict --out table.csv` writes them; their images can be predicted again, or trained on without labels."""
    labels = project / "labeled-data" / "v1" / "CollectedData_Ana.csv"
    table = read_csv_table(labels)
    scores = np.ones((*table.values.shape[:2], 1))
    write_csv_table(replace(table, values=np.concatenate([table.values, scores], axis=2)), project / "found.csv")
    for read in (read_annotations, check_data):
        with pytest.raises(DataError, match=r"found\.csv has likelihoods.* predictions and no labels; correct them .*"):
            read(project / "found.csv")
    persons = read_annotations(project / "found.csv", labels=False)
    assert [*persons.image_paths.values()] == [*read_annotations(labels).image_paths.values()]
    splits = load_splits(DataConfig(train=str(project), unlabeled=str(project / "found.csv"), validation=0))
    assert len(splits.labeled) == 3
    (project / "found.csv").replace(labels)
    with pytest.raises(DataError, match=r"CollectedData_Ana\.csv has likelihoods"):
        read_annotations(project)


def test_edges_that_are_no_pairs_of_names_are_left_out(project, caplog):
    edges = [["leftEar", []], ["leftEar", {"a": 1}], [1, 2], "ab", ["leftEar", "rightEar"]]
    (project / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "skeleton": edges}))
    assert read_annotations(project).skeleton.limbs == ((1, 2),)
    assert "4 edges of the skeleton without joints of the labels left out" in caplog.text


def test_projects_without_labels_and_other_folders(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.raises(DataError, match="has no labels"):
        read_annotations(tmp_path)
    (tmp_path / "config.yaml").write_text("train: a.json")
    assert not is_annotation_folder(tmp_path)
    with pytest.raises(DataError, match="no DeepLabCut project"):
        read_annotations(tmp_path)


def test_names_in_a_folder_of_labels_begin_with_it(project, tmp_path):
    persons = read_annotations(project / "labeled-data" / "v1" / "CollectedData_Ana.csv")
    assert write_labels(persons, tmp_path / "one.csv") == project
    assert "labeled-data/v1/img1.png,1.25,2.0,30.0," in (tmp_path / "one.csv").read_text()


def test_animals_without_a_name_get_one():
    assert individual_names([[None], []]) == [[None], []]
    assert individual_names([["a", None], [None, "individual1", None], ["a", "a"]]) == [
        ["a", "individual1"],
        ["individual2", "individual1", "individual3"],
        ["a", "individual1"],
    ]


@pytest.mark.skipif(not LAB.is_dir(), reason="SEMIPOSE_DATA does not name the data folder")
def test_projects_of_labs():
    field = read_annotations(LAB / "openfield")
    assert field.skeleton.joints == ("snout", "leftear", "rightear", "tailbase")
    assert len(field) == 116
    np.testing.assert_array_equal(field[0].joints[0], [21.521, 265.428])
    mouse = read_annotations(LAB / "mirror-mouse" / "CollectedData.csv")
    assert len(mouse) == 90
    assert mouse.skeleton.joints[0] == "paw1LH_top"
    assert mouse[0].visibility.tolist().count(0) == 2
    pytest.importorskip("tables")
    stored = read_annotations(LAB / "openfield" / "labeled-data" / "m4s1" / "CollectedData_Pranav.h5")
    np.testing.assert_allclose(stored.instances.joints, field.instances.joints)
