"""A study from grid to table: runs train, failures are reported, finished runs stay."""

import csv
import shutil
from pathlib import Path

import pytest

from semipose.data.datasets import PEOPLE
from semipose.errors import ConfigError, DataError, WeightsError
from semipose.reports.html import write_report
from semipose.studies.grid import StudyGrid, load_grid
from semipose.studies.study import run_study


@pytest.fixture
def grid(tiny_run):
    def make(**changed):
        rows = {
            "supervised": {"options": {"method": "supervised"}},
            "broken": {"options": {"method": "single", "train.start": "/nowhere.safetensors"}},
        }
        return StudyGrid(**{"title": "Tiny", "rows": rows, "labels": [30], "shared": tiny_run, **changed})

    return make


@pytest.mark.slow
def test_study_reports_failures_and_continues(grid, tmp_path):
    out = tmp_path / "out"
    result = run_study(grid(), out, jobs=2)
    done, failed = result.as_dict()["runs"]
    assert (done["row"], failed["row"]) == ("supervised", "broken")
    assert 0 <= done["scores"]["PCK@0.2"] < 0.3
    assert result.failures == [failed["failure"]]
    assert "/nowhere.safetensors" in failed["failure"]
    text = result.table.read_text()
    assert "| supervised | 30 | 1 |" in text
    assert f"broken-30-0: {failed['failure']}" in text
    assert done["split"] in text
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["row"] == "supervised"
    assert float(rows[0]["PCK@0.2"]) == done["scores"]["PCK@0.2"]
    # A second start is refused unless it is to continue; then finished runs stay as they are.
    with pytest.raises(ConfigError, match="`resume`"):
        run_study(grid(), out)
    before = (out / "runs" / "supervised-30-0" / "scores.json").stat().st_mtime_ns
    again = run_study(grid(rows={"supervised": {"options": {"method": "supervised"}}}), out, resume=True)
    assert (out / "runs" / "supervised-30-0" / "scores.json").stat().st_mtime_ns == before
    assert again.as_dict()["runs"] == [done]
    changed = {"supervised": {"options": {"method": "supervised", "train.lr": 1.0}}}
    with pytest.raises(ConfigError, match="other options"):
        run_study(grid(rows=changed), out, resume=True)


def test_missing_data_is_reported_before_anything_runs(grid, tmp_path):
    missing = grid(data={"data.train": "coco/train.json"}, source="see cocodataset.org")
    with pytest.raises(DataError, match=r"coco/train.json.*`data`.*; see cocodataset.org"):
        run_study(missing, tmp_path / "out", data=tmp_path)
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_reported_before_anything_runs(grid, tmp_path):
    rows = {"single": {"options": {"method": "single", "model.weights": "/nowhere.pth"}}}
    with pytest.raises(WeightsError, match=r"no file /nowhere\.pth"):
        run_study(grid(rows=rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_study_of_two_data_sets(small_people, tmp_path, tiny_run):
    """Each data set has its section of the table, with its own labels and metric."""
    own = {key: value for key, value in tiny_run.items() if not key.startswith("data.")}
    data = {"data.train": small_people.name, "data.images": "images"}
    (tmp_path / "images").symlink_to(PEOPLE / "images")
    grid = StudyGrid(
        title="Tiny",
        shared=own,
        rows={"single": {"options": {"method": "single"}}},
        datasets={
            "embedded": {"protocol": "people", "labels": [30], "shared": {"data.validation": 8}, "note": "A note."},
            "small": {"data": data, "labels": [20], "metric": "pixel_error", "shared": {"data.validation": 20}},
        },
    )
    with pytest.raises(DataError, match=r"nowhere/people.json, nowhere/images: give the folder"):
        run_study(grid, tmp_path / "out", data=Path("nowhere"))
    result = run_study(grid, tmp_path / "out", data=tmp_path, jobs=2)
    runs = result.as_dict()["runs"]
    assert [(run["dataset"], run["row"], run["labels"]) for run in runs] == [
        ("embedded", "single", 30),
        ("small", "single", 20),
    ]
    text = result.table.read_text()
    assert text.index("## embedded") < text.index("| single | 30 | 1 |") < text.index("A note.")
    assert text.index("A note.") < text.index("## small") < text.index("| single | 20 | 1 |")
    assert "pixel_error (px)" in text.partition("## small")[2]
    with (tmp_path / "out" / "table.csv").open() as file:
        assert [row["dataset"] for row in csv.DictReader(file)] == ["embedded", "small"]
    page = write_report(tmp_path / "out").read_text()
    assert "small: Scores × 100, errors in pixels" in page


@pytest.mark.slow
def test_published_study_on_other_data(small_people, tmp_path, tiny_run):
    """trs-table2 without COCO: `scaled` and `overridden` adapt it to the data that is there."""
    (tmp_path / "set").mkdir()
    for name in ("train.json", "val.json"):
        shutil.copy(small_people, tmp_path / "set" / name)
    (tmp_path / "set" / "images").symlink_to(PEOPLE / "images")
    small = {key: value for key, value in tiny_run.items() if key.startswith(("model", "input", "train"))}
    grid = load_grid("trs-table2").scaled(0.01).overridden(small)
    grid = grid.model_copy(update={"labels": [10], "rows": {"trs": grid.rows["trs"]}})
    result = run_study(grid, tmp_path / "out", data=tmp_path / "set", jobs=2)
    runs = result.as_dict()["runs"]
    assert [run["row"] for run in runs] == ["trs"]
    assert "scores" in runs[0]
    assert "in place of the study's own data" in result.table.read_text()


def test_a_study_without_evaluated_persons_is_refused_before_anything_runs(grid, small_people, tmp_path, tiny_run):
    data = {"data.train": str(small_people), "data.images": str(PEOPLE / "images")}
    own = {key: value for key, value in tiny_run.items() if not key.startswith("data.")} | {"data.validation": 0}
    with pytest.raises(ConfigError, match="has no validation or test persons"):
        run_study(grid(data=data, shared=own), tmp_path / "out")
    assert not (tmp_path / "out").exists()
