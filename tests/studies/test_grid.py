"""Studies from YAML: rows, protocols, scaling, overrides, and errors before anything trains."""

from pathlib import Path

import pytest
import yaml

from semipose.data.data_config import check_given
from semipose.errors import ConfigError
from semipose.studies.grid import StudyGrid, StudyRun, load_grid, presets

GRID = {
    "title": "Tiny",
    "rows": {
        "supervised": {"options": {"method": "supervised"}},
        "single": {"options": {"method": "single"}, "published": {30: {"AP": "42.1"}}},
    },
    "labels": [30],
}


@pytest.fixture
def grid_file(tmp_path):
    def write(**changed):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**GRID, **changed}, sort_keys=False))
        return path

    return write


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": {}}, "rows"),
        ({"nonsense": 1}, "nonsense"),
        ({"labels": []}, "labels"),
        ({"rows": {"x": {"options": {"method": "sigle"}}}}, "row 'x'"),
        ({"rows": {"x": {"options": {"method": "single", "train.stepps": 3}}}}, "steps"),
        ({"shared": {"train.seed": 7}}, "`train.seed`"),
        ({"rows": {"x": {"options": {"data.labels": 8}}}}, "`data.labels`: .* change these"),
    ],
)
def test_invalid_grid_is_one_line(grid_file, changed, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_grid(grid_file(**changed))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": {"threshold > 0.5": {"options": {}}, "threshold < 0.5": {"options": {}}}}, "rows '.* >.* and '.* <"),
        ({"rows": {"Single": {"options": {}}, "single": {"options": {}}}}, "rows 'Single' and 'single'"),
        ({"seeds": [0, 1, 0]}, "row 'supervised': two runs have the folder supervised-30-0"),
    ],
)
def test_two_runs_in_one_folder_are_refused(grid_file, changed, message):
    with pytest.raises(ConfigError, match=message):
        load_grid(grid_file(**changed))


def test_labels_are_required(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in GRID.items() if key != "labels"}))
    with pytest.raises(ConfigError, match="labels: give numbers of labels"):
        load_grid(path)


DATASETS = {
    "few": {"data": {"data.train": "few/train.json"}, "labels": [20, 40], "shared": {"train.lr": 0.1}},
    "mice": {"data": {"data.train": "mice.json"}, "labels": [5], "metric": "pixel_error"},
    "people": {"protocol": "people", "labels": [100]},
}


def test_several_data_sets():
    """Each has its own files, labels, metric and settings; the study's settings apply where it has none."""
    content = {key: value for key, value in GRID.items() if key != "labels"}
    grid = StudyGrid(**content, datasets=DATASETS, seeds=[0, 1], shared={"train.lr": 0.5, "train.steps": 7})
    assert [run.name for run in grid.runs()][:8] == [
        "few-supervised-20-0", "few-supervised-40-0", "few-single-20-0", "few-single-40-0",
        "mice-supervised-5-0", "mice-single-5-0", "people-supervised-100-0", "people-single-100-0",
    ]  # fmt: skip
    configs = {(run.dataset, run.row, run.seed): grid.run_config(run, Path("sets")) for run in grid.runs()}
    few, mice, people = (configs[name, "single", 1] for name in DATASETS)
    assert [few.train.lr, mice.train.lr, people.train.lr] == [0.1, 0.5, 0.5]
    assert [few.train.steps, people.train.steps, people.evaluation.decoder] == [7, 7, "dark"]
    assert [few.data.train, mice.data.train, people.data.train] == ["sets/few/train.json", "sets/mice.json", "people"]
    assert [c.data.split_seed for c in (few, mice, people)] == [1, 1, 1]
    assert {name: part.metric for name, part in grid.parts().items()} == {
        "few": "AP", "mice": "pixel_error", "people": "AP",
    }  # fmt: skip
    assert StudyGrid(**yaml.safe_load(grid.model_dump_json())).runs() == grid.runs()
    small = grid.scaled(0.5).overridden({"train.lr": 2.0})
    assert {run.name for run in small.runs() if run.row == "single" and run.seed == 0} == {
        "few-single-10-0", "few-single-20-0", "mice-single-8-0", "people-single-50-0",
    }  # fmt: skip
    assert {(small.run_config(run).train.steps, small.run_config(run).train.lr) for run in small.runs()} == {(4, 2.0)}
    wrong = StudyGrid(**content, datasets={"few": {**DATASETS["few"], "shared": {"train.stepps": 3}}})
    with pytest.raises(ConfigError, match=r"row 'supervised', data set 'few': `train\.stepps`"):
        wrong.check("Tiny")
    with pytest.raises(ValueError, match="labels of data set 'few'"):
        StudyGrid(**content, datasets={"few": {"data": {}}})


def test_presets_load():
    for name in presets():
        assert load_grid(name).runs()
    with pytest.raises(ConfigError, match="no study 'nothing'"):
        load_grid("nothing")


def test_runs_are_ordered_by_seed():
    rows = {**GRID["rows"], "all": {"options": {"method": "supervised"}, "all_labels": True}}
    grid = StudyGrid(**{**GRID, "rows": rows, "labels": [30, 60], "seeds": [0, 1]})
    assert [run.name for run in grid.runs()] == [
        "supervised-30-0", "supervised-60-0", "single-30-0", "single-60-0", "all-all-0",
        "supervised-30-1", "supervised-60-1", "single-30-1", "single-60-1", "all-all-1",
    ]  # fmt: skip


def test_protocol_fills_what_the_study_leaves_open():
    rows = {"s": {"options": {"method": "supervised"}}}
    grid = StudyGrid(title="T", protocol="coco-5k", rows=rows, shared={"train.lr": 0.1})
    assert (grid.labels, grid.metric) == ([5000], "AP")
    assert "5000 persons" in grid.note
    assert "cocodataset.org" in grid.source
    config = grid.run_config(grid.runs()[0])
    assert (config.input.height, config.input.width, config.model.backbone) == (256, 192, "resnet18.tv_in1k")
    assert config.train.lr == 0.1
    assert config.data.test.endswith("person_keypoints_val2017.json")
    with pytest.raises(ValueError, match="unknown protocol 'coco-2k'"):
        StudyGrid(title="T", protocol="coco-2k", rows=rows)


def test_schedule_can_change_with_the_labels():
    grid = load_grid("trs-table2")
    few, more = (grid.run_config(StudyRun("single", labels, 0)).train for labels in (1000, 5000))
    assert (few.epochs, more.epochs) == (30, 100)
    own = StudyGrid(title="T", protocol="coco-1k", rows=GRID["rows"], shared={"train.epochs": 3})
    assert own.run_config(StudyRun("single", 1000, 0)).train.epochs == 3
    plain = StudyGrid(**GRID, schedules={"single": {30: {"train.epochs": 9}}})
    assert [plain.run_config(run).train.epochs for run in plain.runs()] == [100, 9]


def test_published_scores_keep_their_digits():
    grid = StudyGrid(**{**GRID, "rows": {"m": {"options": {}, "published": {30: {"AP": "41.70"}}}}})
    again = StudyGrid(**yaml.safe_load(grid.model_dump_json()))
    assert str(again.rows["m"].published[30]["AP"]) == "41.70"


def test_presets_are_in_the_order_of_the_tables():
    tables = [name for name in presets() if name.startswith("trs-table")]
    assert tables == [f"trs-table{n}" for n in range(2, 11)]


def test_the_note_of_a_study_follows_that_of_its_protocol():
    note = load_grid("trs-table6").note
    assert note.startswith("COCO train2017: 1000 persons keep their labels")
    assert note.endswith("Hard views of the rows without Keypoint-Mix are rotated and scaled only.")


def test_scaled():
    grid = load_grid("trs-table2").scaled(0.01)
    assert grid.labels == [10, 50, 100]
    assert grid.run_config(StudyRun("trs", 10, 0)).train.epochs == 1
    assert not any(row.published for row in grid.rows.values())
    assert load_grid("trs-table2").scaled(1).labels == [1000, 5000, 10000]
    tenth = load_grid("trs-table2").scaled(0.1)  # 100, 500 and 1,000 labels: the last is not the column of 1K
    epochs = {(run.row, run.labels): tenth.run_config(run).train.epochs for run in tenth.runs()}
    assert [epochs["single", n] for n in (100, 500, 1000)] == [3, 10, 10]
    assert [epochs["dual", n] for n in (100, 500, 1000)] == [7, 10, 10]


def test_overrides_win_over_rows():
    grid = load_grid("trs-table2").overridden({"train.epochs": 3, "input.height": 64})
    for run in grid.runs():
        config = grid.run_config(run)
        assert (config.train.epochs, config.input.height) == (3, 64)
    assert "train.epochs=3" in grid.title
    assert not any(row.published for row in grid.rows.values())


@pytest.mark.parametrize("name", [name for name in presets() if name != "label-efficiency"])
def test_every_study_can_run_on_other_data(name, tmp_path):
    for part in ("train", "val"):
        (tmp_path / f"{part}.json").touch()
    grid = load_grid(name).on_data(tmp_path)
    for run in grid.runs():
        check_given(grid.run_config(run, tmp_path).data)


def test_folder_with_generic_files_replaces_missing_data(tmp_path):
    grid = load_grid("trs-table2")
    assert grid.on_data(tmp_path) is grid
    for name in ("train.json", "val.json"):
        (tmp_path / name).touch()
    other = grid.on_data(tmp_path)
    config = other.run_config(other.runs()[0], tmp_path)
    assert (config.data.train, config.data.test) == (str(tmp_path / "train.json"), str(tmp_path / "val.json"))
    assert config.data.unlabeled is None
    mixed = load_grid("trs-table4").scaled(0.1).on_data(tmp_path)
    config = mixed.run_config(mixed.runs()[0], tmp_path)
    assert (config.data.labels, config.data.include_remaining, config.data.max_unlabeled) == (1000, True, 10_000)
    assert mixed.metric == "AP"  # COCO files have no head sizes
    assert {"AP", "PCKh@0.5/wrist"} <= set(mixed.columns)
    everyone = load_grid("trs-table3").on_data(tmp_path)  # where all keep their labels, the same images are unlabeled
    config = everyone.run_config(everyone.runs()[0], tmp_path)
    assert (config.data.labels, config.data.boxes) == (None, None)
    assert (config.data.unlabeled, config.data.include_labeled) == (str(tmp_path / "train.json"), True)
    assert not any(row.published for row in other.rows.values())
    assert "in place of the study's own data" in other.note
