"""semipose report."""

import json


def test_the_page_of_a_run(cli, trained):
    code, out, err = cli("report", trained)
    assert code == 0, err
    assert out.strip() == str(trained / "report.html")
    assert json.loads(cli("report", trained, "--json")[1]) == {"path": str(trained / "report.html")}
    assert "</html>" in (trained / "report.html").read_text()
