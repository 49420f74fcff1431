"""semipose study."""

import json
from types import SimpleNamespace

import yaml

from semipose.studies.grid import presets
from tests.cli.conftest import one_line


def test_list_of_studies(cli):
    code, out, _ = cli("study", "--list", "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found) == list(presets())
    tables = dict(zip(range(2, 11), ["II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"], strict=True))
    assert all(found[f"trs-table{n}"].startswith(f"TRS, table {roman}: ") for n, roman in tables.items())
    assert all(found[f"akm-table{n}"].startswith(f"AKM, table {n}: ") for n in range(1, 6))


def test_a_table_without_its_data_says_what_it_needs(cli, tmp_path):
    answer = cli("study", "trs-table5", "--data", tmp_path, "--out", tmp_path / "study")
    one_line(answer, "--data")
    message = answer[2]
    for part in ("mpii/annot/train.json", "mpii/images", "mpii/annot/valid.json", "human-pose.mpi-inf.mpg.de"):
        assert part in message
    assert message.count("mpii/images") == 1
    assert "ai_challenger" not in message
    assert not (tmp_path / "study").exists()


def test_a_study_with_a_wrong_option_leaves_no_folder(cli, tmp_path):
    out = tmp_path / "study"
    one_line(cli("study", "people-methods", "train.lr=fast", "--out", out), "All methods on the rendered")
    assert not out.exists()


def test_a_place_that_can_not_be_a_folder(cli, tmp_path):
    (tmp_path / "file").touch()
    one_line(cli("study", "people-methods", "--out", tmp_path / "file"), "--out")


def test_failures_end_with_exit_code_1(cli, tmp_path, monkeypatch):
    from semipose.studies import study

    plan = {"title": "mine", "labels": [20], "rows": {"labels only": {"options": {"method": "supervised"}}}}
    plan |= {"data": {"data.train": "train.json"}, "shared": {"model.weights": "none"}}
    (tmp_path / "train.json").touch()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setattr(study, "load_splits", lambda *_: SimpleNamespace(validation="some", test=None))

    def train_runs(grid, out, **_):
        out.mkdir()
        return [study.Outcome(grid.runs()[0], out, "out of memory")]

    monkeypatch.setattr(study, "train_runs", train_runs)
    code, out, err = cli("study", tmp_path / "mine.yaml", "--data", tmp_path, "--out", tmp_path / "study", "--json")
    assert code == 1, err
    assert json.loads(out)["runs"][0]["failure"] == "out of memory"
    assert err.startswith("semipose: 1 run of 1 failed, the first: out of memory")
    one_line(cli("study", tmp_path / "mine.yaml", "--data", tmp_path / "gone", "--out", tmp_path / "study"), "--data")
