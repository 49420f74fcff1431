"""The report of a study that has finished and unfinished runs."""

import pytest

from semipose.errors import DataError
from semipose.reports.html import write_report
from semipose.reports.study_page import _compared
from semipose.studies.grid import StudyGrid


def test_study(finished_run, tmp_path, tiny_run, parse):
    rows = {"trs": {"options": {"method": "trs"}}, "single": {"options": {"method": "single"}}}
    grid = StudyGrid(title="A <small> study", shared=tiny_run, rows=rows, labels=[30, 60])
    (tmp_path / "runs").mkdir()
    (tmp_path / "study.json").write_text(grid.model_dump_json())
    with pytest.raises(DataError, match="no finished run"):
        write_report(tmp_path)
    for name in ("trs-30-0", "trs-60-0"):
        (tmp_path / "runs" / name).symlink_to(finished_run)
    page = parse(write_report(tmp_path))
    for part in (
        "A <small> study",  # escaped in the page, complete in the text
        "2 of 4 runs are finished",
        "Score against labels",
        "AP on validation over epochs",
        "Parameters against AP",
        "The same persons under each run",
        "Heatmaps by joint, networks of trs",
    ):
        assert part in page.text


def test_runs_with_all_labels_beside_those_with_few_are_not_one_method(finished_run, tmp_path, tiny_run):
    grid = StudyGrid(
        title="T",
        shared=tiny_run,
        labels=[30, None],
        rows={"trs": {"options": {"method": "trs"}}, "all": {"options": {"method": "trs"}, "all_labels": True}},
    )
    folders = dict.fromkeys(grid.runs(), finished_run)
    assert [run.name for run in _compared(grid, folders)] == ["trs", "all"]
