"""Tables of a study, computed by hand."""

import csv

from semipose.studies.grid import StudyGrid, StudyRun
from semipose.studies.runner import Outcome
from semipose.studies.tables import Record, gap_recovered, markdown, mean_and_std, write_tables

GRID = StudyGrid(
    title="T",
    rows={
        "supervised": {"options": {"method": "supervised"}},
        "trs": {"options": {"method": "trs"}, "published": {100: 50.0}},
        "all": {"options": {"method": "supervised"}, "all_labels": True},
    },
    labels=[100],
    seeds=[0, 1],
)
SCORES = {
    ("supervised", 100, 0): 0.2,
    ("supervised", 100, 1): 0.3,
    ("trs", 100, 0): 0.3,
    ("trs", 100, 1): 0.4,
    ("all", None, 0): 0.4,
    ("all", None, 1): 0.7,
}
RECORDS = [Record(StudyRun(*run), {"AP": ap, "PCKh@0.5": None}, "h", "p", 60) for run, ap in SCORES.items()]


def test_mean_and_std():
    assert mean_and_std([0.2, 0.3]) == "25.0 ± 7.1"
    assert mean_and_std([0.5, None]) == "50.0"
    assert mean_and_std([None]) == "–"


def test_gap_recovered():
    own = [record for record in RECORDS if record.run.row == "trs"]
    # (.3 - .2) / (.4 - .2) = .5 and (.4 - .3) / (.7 - .3) = .25
    assert gap_recovered(GRID, own, RECORDS) == "38 %"


def test_gap_recovered_needs_a_gap():
    records = [Record(r.run, {"AP": 0.3}, "h", "p", 60) for r in RECORDS]
    assert gap_recovered(GRID, [r for r in records if r.run.row == "trs"], records) == "–"


def test_markdown():
    text = markdown(GRID, RECORDS)
    assert "| trs | 100 | 2 | 35.0 ± 7.1 | 38 % | 22 | 1.0 | 50.0 | -15.0 |" in text
    assert "| all | all | 2 | 55.0 ± 21.2 | – | 3 | 1.0 | – | – |" in text


def test_published_scores_that_are_not_comparable_have_no_difference():
    text = markdown(GRID.model_copy(update={"comparable": False}), RECORDS)
    assert "| published elsewhere |" in text
    assert "-15.0" not in text


def test_failed_runs_are_listed(tmp_path):
    path = write_tables(GRID, [Outcome(run, tmp_path, "it broke") for run in GRID.runs()], tmp_path)
    assert path.read_text().count("it broke") == 6
    with (tmp_path / "table.csv").open() as file:
        assert list(csv.DictReader(file)) == []
