"""The report of several runs."""

import json
import shutil

import pytest

from semipose.errors import ConfigError, DataError
from semipose.reports.html import write_report


def test_runs_beside_each_other(finished_run, tmp_path, parse):
    runs = {name: shutil.copytree(finished_run, tmp_path / name) for name in ("ours", "theirs", "unfinished")}
    (runs["unfinished"] / "scores.json").unlink()
    (runs["unfinished"] / "predictions.json").unlink()
    path = write_report(list(runs.values()), tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    page = parse(path)
    scores = json.loads((finished_run / "scores.json").read_text())["scores"]["mean"]
    for part in (
        "3 runs compared",
        "ours, theirs: ",
        "Not finished: unfinished.",
        "The same persons under each run",
        "AP on validation over epochs",
        f"{100 * scores['PCK@0.2']:.1f}",
    ):
        assert part in page.text
    assert page.texts.count("theirs") >= 7  # in the table and below each person
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"the-same-persons-under-each-run.jpg", "parameters-against-ap.svg"} <= names


@pytest.mark.slow
def test_names_of_the_caller(finished_run, tmp_path, parse):
    page = parse(write_report({"TRS, ours": finished_run}, tmp_path / "out"))
    assert "TRS, ours" in page.texts


def test_runs_that_cannot_be_compared(finished_run, tmp_path):
    unfinished = shutil.copytree(finished_run, tmp_path / "run")
    (unfinished / "scores.json").unlink()
    with pytest.raises(DataError, match="is finished"):
        write_report({"a": unfinished, "b": unfinished}, tmp_path / "out")
    with pytest.raises(ConfigError, match="contains no run"):
        write_report([finished_run, tmp_path], tmp_path / "out")
