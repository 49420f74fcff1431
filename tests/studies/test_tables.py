"""Tables of a study, computed by hand."""

import csv

import numpy as np
import scipy.stats

from semipose.studies.grid import StudyGrid, StudyRun
from semipose.studies.runner import Outcome
from semipose.studies.tables import (
    T_QUANTILES,
    Record,
    difference_from_baseline,
    gap_recovered,
    markdown,
    mean_and_std,
    table,
    write_tables,
)

GRID = StudyGrid(
    title="T",
    rows={
        "supervised": {"options": {"method": "supervised"}},
        "trs": {"options": {"method": "trs"}, "published": {100: {"AP": "50.0"}}},
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
    assert mean_and_std([0.2, 0.3], "AP") == "25.0 ± 7.1"
    assert mean_and_std([0.5, None], "AP") == "50.0"
    assert mean_and_std([None], "AP") == "–"
    assert mean_and_std([7.0, 9.0], "pixel_error") == "8.0 ± 1.4"


def test_gap_recovered():
    own = [record for record in RECORDS if record.run.row == "trs"]
    # (.3 - .2) / (.4 - .2) = .5 and (.4 - .3) / (.7 - .3) = .25
    assert gap_recovered(GRID, own, RECORDS) == "38 %"


def test_gap_recovered_needs_a_gap():
    records = [Record(r.run, {"AP": 0.3}, "h", "p", 60) for r in RECORDS]
    assert gap_recovered(GRID, [r for r in records if r.run.row == "trs"], records) == "–"


def test_a_study_of_pixel_errors():
    """Lower is better: the gap is recovered where the error falls; nothing is multiplied by 100."""
    grid = GRID.model_copy(update={"metric": "pixel_error", "labels": [100]})
    errors = {("supervised", 0): 12.0, ("supervised", 1): 10.0, ("trs", 0): 10.0, ("trs", 1): 11.0}
    errors |= {("all", 0): 8.0, ("all", 1): 6.0}
    records = [
        Record(StudyRun(row, None if row == "all" else 100, seed), {"AP": 0.5, "pixel_error": error}, "h", "p", 60)
        for (row, seed), error in errors.items()
    ]
    head, rows = table(grid, records)
    trs = dict(zip(head, rows[1], strict=True))
    assert trs["pixel_error (px)"] == "10.5 ± 0.7"
    assert trs["gap recovered (pixel_error)"] == "12 %"  # (12 - 10) / (12 - 8) = .5 and (10 - 11) / (10 - 6) = -.25
    assert (trs["AP"], trs["AP published"]) == ("50.0 ± 0.0", "50.0")
    assert "difference" not in trs  # of the study's metric, for which no score is published
    close = [Record(r.run, {"pixel_error": 10 + 0.1 * (r.run.row == "supervised")}, "h", "p", 60) for r in records]
    assert gap_recovered(grid, [r for r in close if r.run.row == "trs"], close) == "–"
    assert "pixel_error (px)" not in table(GRID, records)[0]


def test_difference_from_the_first_row_is_paired_by_seed():
    """Student's t with two degrees of freedom: gains of 1, 2 and 6 are 3 ± 4.303 · √7 / √3."""
    grid = GRID.model_copy(update={"seeds": [0, 1, 2]})
    values = {"supervised": (0.2, 0.3, 0.1), "trs": (0.21, 0.32, 0.16)}
    records = [
        Record(StudyRun(row, 100, seed), {"AP": ap}, "h", "p", 60)
        for row in values
        for seed, ap in enumerate(values[row])
    ]
    own = [r for r in records if r.run.row == "trs"]
    half = scipy.stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert difference_from_baseline(grid, own, records) == f"+3.0 ({3 - half:+.1f} to {3 + half:+.1f})"
    assert difference_from_baseline(grid, own[:1], records) == "+1.0"
    assert difference_from_baseline(grid, [r for r in records if r.run.row == "supervised"], records) == "–"
    assert "AP minus supervised (95 %)" in table(grid, records)[0]
    assert "AP minus supervised (95 %)" not in table(GRID.model_copy(update={"seeds": [0]}), records)[0]
    assert np.allclose(T_QUANTILES, scipy.stats.t.ppf(0.975, range(1, 11)), atol=6e-4)


def test_markdown():
    text = markdown(GRID, RECORDS)
    assert "| trs | 100 | 2 | 35.0 ± 7.1 | 50.0 | -15.0 | +10.0 (+10.0 to +10.0) | 38 % | 22 | 1.0 |" in text
    assert "| all | all | 2 | 55.0 ± 21.2 | – | – | – | – | 3 | 1.0 |" in text


def test_published_scores_that_are_not_comparable_have_no_difference():
    text = markdown(GRID.model_copy(update={"not_comparable": "Another data set."}), RECORDS)
    assert "| AP | AP published | AP minus supervised" in text
    assert "| 50.0 † |" in text
    assert "\n† Another data set.\n" in text
    assert "-15.0" not in text


def test_published_scores_of_a_row_that_are_not_comparable():
    rows = {**GRID.rows, "trs": GRID.rows["trs"].model_copy(update={"not_comparable": "another test set"})}
    text = markdown(GRID.model_copy(update={"rows": rows}), RECORDS)
    assert "| trs | 100 | 2 | 35.0 ± 7.1 | 50.0 † | – | +10.0" in text
    assert "\n† trs: another test set\n" in text


def test_several_published_metrics():
    """Each stands beside ours with the paper's digits; the difference is that of the study's metric."""
    published = {100: {"PCKh@0.5/head": "95.6", "PCKh@0.5": "41.70"}}
    grid = StudyGrid(
        title="T",
        rows={"dual": {"options": {"method": "dual"}, "published": published}, "trs": {"options": {"method": "trs"}}},
        labels=[100],
        metric="PCKh@0.5",
        columns=["PCKh@0.5/head", "AR"],
    )
    scores = {"PCKh@0.5/head": 0.9, "PCKh@0.5": 0.4, "AR": None, "AP": 0.3}
    head, rows = table(grid, [Record(run, scores, "h", "p", 60) for run in grid.runs()])
    assert head[3:8] == ["PCKh@0.5/head", "PCKh@0.5/head published", "PCKh@0.5", "PCKh@0.5 published", "difference"]
    assert rows[0][3:8] == ["90.0", "95.6", "40.0", "41.70", "-1.7"]
    assert rows[1][3:8] == ["90.0", "–", "40.0", "–", "–"]


def test_failed_runs_are_listed(tmp_path):
    path = write_tables(GRID, [Outcome(run, tmp_path, "it broke") for run in GRID.runs()], tmp_path)
    assert path.read_text().count("it broke") == 6
    with (tmp_path / "table.csv").open() as file:
        assert list(csv.DictReader(file)) == []
