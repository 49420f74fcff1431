"""The comparison of recorded trainings finds every difference, and every run is a valid configuration."""

import json
from pathlib import Path

import pytest

from semipose.config import load_config
from tools import record_reference
from tools.record_reference import RUNS, SHARED, differences

REFERENCE = json.loads(Path(record_reference.__file__).with_name("reference.json").read_text())


def test_every_run_is_valid_and_has_a_reference():
    assert set(REFERENCE) == set(RUNS)
    for overrides in RUNS.values():
        load_config(None, {**SHARED, **overrides})


@pytest.mark.parametrize("part", ["losses", "weights", "predictions", "scores"])
def test_differences(part):
    record = REFERENCE["supervised"]
    assert differences(record, json.loads(json.dumps(record))) == []
    assert differences(record, {**record, part: None}) == [part]


def test_scores_are_compared_where_the_reference_has_them():
    record = REFERENCE["supervised"]
    (name, scores), *others = record["scores"].items()
    more = {**record, "scores": {name: {**scores, "new_metric": 1.0}, **dict(others)}}
    assert differences(record, more) == []
    assert differences(more, record) == ["scores"]


@pytest.mark.slow
def test_record(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    changed = {"method": "supervised", "data.labels": 8, "train.steps": 2, "train.batch": 2}
    first, second = (record_reference.record(changed, tmp_path / name) for name in ("first", "second"))
    assert differences(first, second) == []
    assert [line["step"] for line in first["losses"]] == [1, 2]
