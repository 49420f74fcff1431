"""Measuring a GPU in one go: parts that fail or are late, the file, the page."""

import json
import sys
import time

import pytest

from semipose.methods import METHODS
from tools import gpu
from tools.gpu import MARK, PAGE, PYTHON, RESULTS, Part, measure, parts, run, section, with_section


def python(code: str, limit: float = 60) -> Part:
    return Part(code, [PYTHON, "-c", code], limit)


def test_the_result_of_a_part_is_its_json_or_its_last_line():
    assert run(python("print('{\"ratio\": 2}')"), 60).result == {"ratio": 2}
    assert run(python("print('..')\nprint('2 passed')"), 60).result == "2 passed"
    found = run(python('print(\'{"scores": {}, "protocol": "", "data": 1, "best": null}\')'), 60)
    assert (found.status, found.result) == ("ok", {"scores": {}, "protocol": "", "best": None})


def test_parts_that_fail_or_are_late_are_recorded_and_the_rest_goes_on(tmp_path):
    """The late one starts a process of its own, which must end as well."""
    child = f"open({str(tmp_path / 'late')!r}, 'w') if not __import__('time').sleep(4) else 0"
    late = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    chosen = [python("raise SystemExit('no memory')"), python(late, 1), python("print(7)")]
    started = time.perf_counter()
    report = measure(chosen, 100, tmp_path / "gpu.json", {"date": "today"})
    assert [part["status"] for part in report["parts"]] == ["failed", "late", "ok"]
    assert [part["message"] for part in report["parts"]] == ["no memory", "not ready after 1 s", ""]
    assert report["parts"][2]["result"] == 7
    assert json.loads((tmp_path / "gpu.json").read_text()) == report
    time.sleep(max(0.0, 6 - (time.perf_counter() - started)))
    assert not (tmp_path / "late").exists()


def test_parts_for_which_no_time_is_left_are_not_started(tmp_path):
    report = measure([python("print(1)"), python("print(2)")], 0.0, tmp_path / "gpu.json", {})
    assert [part["status"] for part in report["parts"]] == ["not started"] * 2


def test_a_gpu_runs_every_method_eager_and_with_graphs():
    names = [part.name for part in parts("cuda", fast=False)]
    assert {f"step of {method}{kind}" for method in METHODS for kind in ("", ", CUDA graphs")} <= {*names}
    assert names[0] == "tests marked gpu"
    assert not any("CUDA graphs" in part.name or "--graphs" in part.command for part in parts("cpu", fast=True))
    assert sum("train.compile=on" in part.command for part in parts("cuda", fast=False)) == 1


def test_the_page_is_made_of_the_file():
    text = PAGE.read_text(encoding="utf-8")
    assert with_section(text, json.loads(RESULTS.read_text())) == text
    assert text.count(MARK) == 2


def test_the_section_has_a_row_for_each_step_and_says_what_is_missing():
    steps = {"backbone": "resnet18", "pairs_per_second": 659.4, "baseline_pairs_per_second": 98.1, "ratio": 6.72}
    loader = {"ratio": 0.961, "pairs_per_second": 900.2, "loader_pairs_per_second": 4000.0, "crops": "jpeg"}
    facts = {"date": "2027-01-01", "hardware": "a GPU", "commit": "abc", "command": "python -m tools.gpu"}
    done = {"status": "ok", "seconds": 41.3, "message": ""}
    report = {**facts, "parts": [
        {**done, "name": "step of dual", "result": {**steps, "first_step_seconds": 61.4}},
        {**done, "name": "training with its loader", "result": loader},
        {**done, "name": "training: two networks", "result": {"scores": {"f1": {"PCK@0.2": 0.391}}, "best": "f1"}},
        {"name": "step of trs", "status": "late", "seconds": 60, "result": None, "message": "not ready after 60 s"},
    ]}  # fmt: skip
    assert section(report)[2:] == [
        "| dual, resnet18 | 659 | 98 | 6.7 | 61 s |",
        "",
        "* Training with its loader: 96 % of the steps with ready batches, 900 pairs/s; the loader alone gives 4000 "
        "pairs/s from jpeg crops.",
        "* Training: two networks: 41 s with start and evaluations, PCK@0.2 39.1.",
        "* Step of trs: late (not ready after 60 s).",
        "",
        "2027-01-01, a GPU, commit abc: `python -m tools.gpu`.",
    ]


@pytest.mark.slow
def test_a_dry_run_on_a_cpu_writes_one_file(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    chosen = "step of supervised|with its loader|training: labels|marked gpu"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--fast", "--only", chosen, "--out", str(out)])
    gpu.main()
    report = json.loads(out.read_text())
    assert [part["status"] for part in report["parts"]] == ["ok"] * 4, report
    assert section(report)
