"""semipose demo."""

import json
from types import SimpleNamespace

import pytest


@pytest.fixture
def runs(monkeypatch):
    """Replaces the trainings of the demo and notes what was asked for."""
    asked = []
    result = SimpleNamespace(
        as_dict=lambda: {"supervised": {"AP": 0.5}}, columns=["", "AP"], rows=[["labels alone", "50.0"]],
        summary=["A sentence."],
    )  # fmt: skip

    def run(out, **settings):
        settings.pop("progress")
        asked.append((str(out), settings))
        return result

    monkeypatch.setattr("semipose.studies.demo.run_demo", run)
    return asked


def test_json_and_folder(cli, runs):
    code, out, err = cli("demo", "--fast", "--seed", 3, "--json")
    assert code == 0, err
    assert json.loads(out) == {"supervised": {"AP": 0.5}}
    assert runs == [("runs/demo-fast-3", {"fast": True, "upper_bound": False, "seed": 3})]


def test_table(cli, runs, tmp_path):
    code, out, _ = cli("demo", "--out", tmp_path, "--upper-bound")
    assert code == 0
    assert "50.0" in out
    assert out.endswith("A sentence.\n")
    assert runs[0] == (str(tmp_path), {"fast": False, "upper_bound": True, "seed": 0})
