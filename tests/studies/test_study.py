"""`semipose study`: a grid becomes a table; what is done is not done again, what fails is reported."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from semipose.cli import app
from semipose.config import parse_override
from semipose.data.datasets import PEOPLE
from semipose.errors import ConfigError, DataError, RunError
from semipose.studies.grid import Cell, Grid, load_grid, shipped
from semipose.studies.protocols import PROTOCOLS
from semipose.studies.runner import Outcome
from semipose.studies.study import run_study
from semipose.studies.tables import Record, gap_recovered, markdown, spread, write_tables

TINY = {
    "title": "Tiny",
    "rows": {
        "supervised": {"options": {"method": "supervised"}},
        "broken": {"options": {"method": "single", "model.weights": "/nowhere.pth"}, "published": {30: 42.1}},
    },
    "labels": [30],
}


@pytest.fixture
def study_file(tmp_path, tiny_run):
    def write(**changed):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**TINY, "shared": tiny_run, **changed}, sort_keys=False))
        return path

    return write


def test_a_study_runs_reports_failures_and_goes_on(study_file, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(RunError, match=r"1 cell of 2 failed, the first: .*nowhere\.pth.*--resume --out"):
        app(["study", str(study_file()), "--out", str(out), "--json"], standalone_mode=False)
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [c["row"] for c in cells] == ["supervised", "broken"]
    assert 0 <= cells[0]["scores"]["PCK@0.2"] < 0.3
    assert "nowhere.pth" in cells[1]["failure"]
    text = (out / "table.md").read_text()
    assert "| supervised | 30 | 1 |" in text
    assert "broken-30-0: semipose: model.weights: no file /nowhere.pth" in text
    assert cells[0]["split"] in text
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["row"] == "supervised"
    assert float(rows[0]["PCK@0.2"]) == cells[0]["scores"]["PCK@0.2"]
    # Once more: refused without --resume; with it, what is done stays as it is.
    with pytest.raises(ConfigError, match="--resume"):
        run_study(load_grid(str(study_file())), out)
    before = (out / "cells" / "supervised-30-0" / "scores.json").stat().st_mtime_ns
    again = run_study(load_grid(str(study_file(rows={"supervised": TINY["rows"]["supervised"]}))), out, resume=True)
    assert (out / "cells" / "supervised-30-0" / "scores.json").stat().st_mtime_ns == before
    assert again[1] == [cells[0]]
    changed = {"supervised": {"options": {"method": "supervised", "train.lr": 1.0}}}
    with pytest.raises(ConfigError, match="other options"):
        run_study(load_grid(str(study_file(rows=changed))), out, resume=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": {}}, "rows"),
        ({"nonsense": 1}, "nonsense"),
        ({"labels": []}, "labels"),
        ({"rows": {"x": {"options": {"method": "sigle"}}}}, "row 'x'"),
        ({"rows": {"x": {"options": {"method": "single", "train.stepps": 3}}}}, "steps"),
    ],
)
def test_a_broken_plan_is_one_line_before_anything_runs(study_file, changed, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_grid(str(study_file(**changed)))
    assert "\n" not in str(caught.value)


def test_a_plan_without_labels_is_no_empty_study(study_file):
    path = study_file()
    plan = {key: value for key, value in TINY.items() if key != "labels"}
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    with pytest.raises(ConfigError, match="labels: Field required"):
        load_grid(str(path))


def test_missing_data_is_named_before_anything_runs(study_file, tmp_path):
    grid = load_grid(str(study_file(data={"data.train": "coco/train.json"}, source="see cocodataset.org")))
    with pytest.raises(DataError, match=r"coco/train.json.*--data.*; see cocodataset.org"):
        run_study(grid, tmp_path / "out", data=tmp_path)
    assert not (tmp_path / "out").exists()


def test_shipped_studies_load(capsys):
    for name in shipped():
        assert load_grid(name).cells()
    app(["study", "--list", "--json"], standalone_mode=False)
    assert set(json.loads(capsys.readouterr().out)) == set(shipped())
    with pytest.raises(ConfigError, match="no study 'nothing'"):
        load_grid("nothing")


def grid_and_records():
    grid = Grid(
        title="T",
        rows={
            "supervised": {"options": {"method": "supervised"}},
            "trs": {"options": {"method": "trs"}, "published": {100: 50.0}},
            "all": {"options": {"method": "supervised"}, "all_labels": True},
        },
        labels=[100],
        seeds=[0, 1],
    )
    figures = {("supervised", 0): 0.2, ("supervised", 1): 0.3, ("trs", 0): 0.3, ("trs", 1): 0.4}
    records = [Record(Cell(r, 100, s), {"AP": v, "PCKh@0.5": None}, "h", "p", 60) for (r, s), v in figures.items()]
    records += [
        Record(Cell("all", None, s), {"AP": v, "PCKh@0.5": None}, "h", "p", 60) for s, v in ((0, 0.4), (1, 0.7))
    ]
    return grid, records


def test_the_table_is_arithmetic():
    grid, records = grid_and_records()
    own = [r for r in records if r.cell.row == "trs"]
    # (.3 - .2) / (.4 - .2) = .5 and (.4 - .3) / (.7 - .3) = .25
    assert gap_recovered(grid, own, records) == "38 %"
    text = markdown(grid, records)
    assert "| trs | 100 | 2 | 35.0 ± 7.1 | 38 % | 22 | 1.0 | 50.0 | -15.0 |" in text
    assert "| all | all | 2 | 55.0 ± 21.2 | – | 3 | 1.0 | – | – |" in text
    assert spread([0.5]) == "50.0"
    assert spread([None]) == "–"


def test_tables_of_a_study_without_results(tmp_path):
    grid, _ = grid_and_records()
    path = write_tables(grid, [Outcome(cell, tmp_path, "it broke") for cell in grid.cells()], tmp_path)
    assert path.read_text().count("it broke") == 6
    assert [c.name for c in grid.cells()] == [
        "supervised-100-0", "trs-100-0", "all-all-0", "supervised-100-1", "trs-100-1", "all-all-1",
    ]  # fmt: skip


def test_a_protocol_fills_what_the_study_leaves_open():
    grid = Grid(
        title="T", protocol="coco-5k", rows={"s": {"options": {"method": "supervised"}}}, shared={"train.lr": 0.1}
    )
    assert grid.labels == [5000]
    assert grid.metric == "AP"
    assert "5000 persons" in grid.note
    assert "cocodataset.org" in grid.source
    config = grid.configuration(grid.cells()[0])
    assert (config.input.height, config.input.width, config.model.backbone) == (256, 192, "resnet18")
    assert config.train.lr == 0.1
    assert config.data.test.endswith("person_keypoints_val2017.json")
    with pytest.raises(ValueError, match="unknown protocol 'coco-2k'"):
        Grid(title="T", protocol="coco-2k", rows={"s": {"options": {}}})


def test_every_protocol_is_a_configuration():
    for name in PROTOCOLS:
        grid = Grid(title="T", protocol=name, rows={"s": {"options": {"method": "dual"}}})
        config = grid.configuration(grid.cells()[0])
        assert config.train.select == "last"
        assert PROTOCOLS[name].text in grid.note
    strict = Grid(title="T", protocol="coco-1k", rows={"s": {"options": {}}}, shared={"data.include_labeled": False})
    assert not strict.configuration(strict.cells()[0]).data.include_labeled


def test_schedules_may_change_with_the_labels():
    grid = load_grid("trs-table2")
    few, more = (grid.configuration(Cell("single", n, 0)).train for n in (1000, 5000))
    assert (few.epochs, more.epochs) == (30, 100)


def test_scaling():
    grid = load_grid("trs-table2").scaled(0.01)
    assert grid.labels == [10, 50, 100]
    assert grid.configuration(Cell("trs", 10, 0)).train.epochs == 1
    assert not any(row.published for row in grid.rows.values())
    assert load_grid("trs-table2").scaled(1).labels == [1000, 5000, 10000]
    tenth = load_grid("trs-table2").scaled(0.1)  # 100, 500 and 1,000 labels: the last is no 1K column
    epochs = {(c.row, c.labels): tenth.configuration(c).train.epochs for c in tenth.cells()}
    assert [epochs["single", n] for n in (100, 500, 1000)] == [3, 10, 10]
    assert [epochs["dual", n] for n in (100, 500, 1000)] == [7, 10, 10]


def test_options_for_every_cell_win_over_rows():
    grid = load_grid("trs-table2").overridden({"train.epochs": 3, "input.height": 64})
    for cell in grid.cells():
        config = grid.configuration(cell)
        assert (config.train.epochs, config.input.height) == (3, 64)
    assert "train.epochs=3" in grid.title
    assert not any(row.published for row in grid.rows.values())


def test_a_published_study_runs_on_a_folder_of_containers(small_people, tmp_path, tiny_run, capsys):
    """trs-table2 without COCO at hand: `--scale` and options bring it down to what is there."""
    (tmp_path / "set").mkdir()
    for name in ("train.json", "val.json"):
        shutil.copy(small_people, tmp_path / "set" / name)
    (tmp_path / "set" / "images").symlink_to(PEOPLE / "images")
    small = [f"{key}={value}" for key, value in tiny_run.items() if key.startswith(("model", "input", "train"))]
    grid = load_grid("trs-table2").scaled(0.01).overridden(dict(parse_override(o) for o in small))
    grid = grid.model_copy(update={"labels": [10], "rows": {name: grid.rows[name] for name in ("supervised", "trs")}})
    table, records = run_study(grid, tmp_path / "out", data=tmp_path / "set")
    assert [record["row"] for record in records] == ["supervised", "trs"]
    assert all("scores" in record for record in records)
    assert "in place of the study's own data" in table.read_text()


def test_a_killed_study_goes_on_to_the_same_table(study_file, tmp_path, tiny_run):
    """SIGKILL in the middle of a cell; the cell's process saves and leaves, the next study takes it up."""
    options = {"method": "single", "train.checkpoint_every": 1, "train.evaluate_every": 9.0}
    path = study_file(shared={**tiny_run, "train.steps": 20}, rows={"single": {"options": options}})
    command = [sys.executable, "-m", "semipose", "study", str(path), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    killed = tmp_path / "killed"
    with subprocess.Popen([*command, str(killed)], env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not (killed / "cells" / "single-30-0" / "last" / "state.pt").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert not (killed / "cells" / "single-30-0" / "scores.json").exists()
    subprocess.run([*command, str(killed), "--resume"], env=environment, check=True, capture_output=True)
    tables = [(folder / "table.md").read_text() for folder in (killed, tmp_path / "whole")]
    timeless = [re.sub(r"[\d.]+ \|$", "", text, flags=re.MULTILINE) for text in tables]  # minutes are the last column
    assert timeless[0] == timeless[1]
    assert "| single | 30 | 1 |" in timeless[0]
