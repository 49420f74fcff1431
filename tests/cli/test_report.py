"""semipose report."""

import html
import json
import shutil

import pytest

from semipose.cli.common import suggest_command
from tests.cli.conftest import one_line


def test_the_page_of_a_run(cli, trained):
    code, out, err = cli("report", trained)
    assert code == 0, err
    assert out.strip() == str(trained / "report.html")
    assert json.loads(cli("report", trained, "--json")[1]) == {"path": str(trained / "report.html")}
    page = (trained / "report.html").read_text()
    assert "</html>" in page
    assert html.escape(suggest_command(str(trained), True)) in page


@pytest.mark.slow
def test_several_runs_are_compared(cli, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(trained, tmp_path / "other")
    code, out, err = cli("report", trained, other)
    assert code == 0, err
    assert out.strip() == "reports/comparison/report.html"
    figures = tmp_path / "reports" / "comparison" / "figures"
    assert (figures / "the-same-persons-under-each-run.jpg").is_file()


@pytest.mark.slow
def test_one_run_with_picture_files(cli, trained, tmp_path):
    code, out, err = cli("report", trained, "--out", tmp_path / "out")
    assert code == 0, err
    assert out.strip() == str(tmp_path / "out" / "report.html")
    assert list((tmp_path / "out" / "figures").glob("heatmaps-by-joint-networks-of-run-*.jpg"))
    one_line(cli("report", trained, tmp_path), "contains no run")
